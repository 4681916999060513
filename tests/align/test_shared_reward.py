"""With LoRA, policy, reference, value and reward model are one base in memory, and give what copies of it would."""

import copy
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerFast

from groundup.align.methods.ppo.train import make_value_model
from groundup.align.policy import AdaptedValue, Policy, ValueModel
from groundup.align.rollout import Rollout, RolloutWorker
from groundup.align.shared_reward import SharedScorer, load_scorer
from groundup.align.tokens import Conversations, token_logprobs, token_values
from groundup.core.model.added_tokens import add_tokens
from groundup.core.model.generation import ended_chats
from groundup.core.model.llama import load_causal_lm, save_model
from groundup.core.model.scoring import RewardScorer
from groundup.core.model.variational import VariationalHead, fold, save_head
from groundup.core.training.adapters import add_adapter, merge_adapter
from groundup.runner.params.training import LoraParams
from tests.align.conftest import AlignRun, Recorder, align_params
from tests.families import family_model

LORA = LoraParams(rank=2, alpha=4.0, dropout=0.0, target_modules="all-linear")
CHATS = [[7, 8, 9], [10, 11, 12, 13, 14]]
CPU = torch.device("cpu")
FAMILIES = pytest.mark.parametrize("family", ["llama-tied", "llama-untied", "gemma3", "gpt2"])


def write_models(folder: Path, tokenizer: PreTrainedTokenizerFast, family: str, head: str = "linear") -> None:
    """An SFT model with two added tokens, and a reward model with an adapter of it, all of whose weights moved."""
    num_tokens = len(tokenizer)
    model = family_model(family, num_tokens - 2)
    add_tokens(model, num_tokens, [num_tokens - 2, num_tokens - 1])
    save_model(model, tokenizer, folder / "sft", "card")
    reward = AutoModelForSequenceClassification.from_pretrained(folder / "sft", num_labels=1)
    if head == "variational":
        reward.score = VariationalHead(reward.config.hidden_size, 2, 0.1)
    write_adapted(reward, tokenizer, folder / "reward")


@torch.no_grad()
def write_adapted(
    reward: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, out: Path, lora: LoraParams = LORA
) -> None:
    adapted = add_adapter(reward, lora)
    for weight in adapted.parameters():
        if weight.requires_grad:
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.05)
    merged = merge_adapter(adapted, out / "adapter")
    variational = fold(merged) if isinstance(merged.score, VariationalHead) else None
    if variational is not None:
        variational.fit_density(torch.randn(8, merged.config.hidden_size))
    save_model(merged, tokenizer, out, "card")
    if variational is not None:
        save_head(variational, out)


def storages(*modules: torch.nn.Module) -> int:
    """Bytes of all weights, each storage once."""
    found = {w.untyped_storage().data_ptr(): w.untyped_storage().nbytes() for m in modules for w in m.parameters()}
    return sum(found.values())


@FAMILIES
def test_four_models_are_one_base_and_adapters(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path, family: str
) -> None:
    write_models(tmp_path, tiny_tokenizer, family)
    sft = load_causal_lm(tmp_path / "sft", CPU)
    base = storages(sft)
    policy = Policy(sft, LORA)
    adapter = storages(policy.model) - base
    scorer = load_scorer(policy, tmp_path / "reward", CPU)
    value = make_value_model(policy, align_params(lora=LORA.model_dump()))
    assert isinstance(scorer, SharedScorer)
    assert isinstance(value, AdaptedValue)
    hidden = sft.config.hidden_size
    with policy.reference() as reference:
        everything = storages(policy.model, reference, scorer.model, scorer.head, value)
    # In fp32, with two heads, one with a bias. The reward model has no rows of an untied lm_head.
    unread = 2 * hidden * 4 if family == "llama-untied" else 0
    assert everything == base + 3 * adapter - unread + hidden * 4 + (hidden + 1) * 4
    assert 3 * adapter < base


@FAMILIES
def test_a_shared_reward_model_scores_as_its_own_copy(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path, family: str
) -> None:
    """Before and after the policy has moved, which the scores do not show; and the policy is itself again after."""
    write_models(tmp_path, tiny_tokenizer, family)
    chats = [*CHATS, [7, len(tiny_tokenizer) - 1, 9]]
    expected, _ = RewardScorer.load(tmp_path / "reward", CPU).score(chats)
    policy = Policy(load_causal_lm(tmp_path / "sft", CPU), LORA)
    scorer = load_scorer(policy, tmp_path / "reward", CPU)
    ids = torch.tensor([CHATS[0]])
    for _ in range(2):
        before = policy.model(ids).logits
        torch.testing.assert_close(scorer.score(chats)[0], expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(policy.model(ids).logits, before)
        with torch.no_grad():
            for weight in policy.trainable().values():
                weight.add_(0.05)


def test_a_variational_head_is_read_with_its_uncertainty(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    write_models(tmp_path, tiny_tokenizer, "llama-tied", head="variational")
    expected = RewardScorer.load(tmp_path / "reward", CPU).score(CHATS)
    policy = Policy(load_causal_lm(tmp_path / "sft", CPU), LORA)
    found = load_scorer(policy, tmp_path / "reward", CPU).score(CHATS)
    assert bool((expected[1] > 0).all())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_reward_model_of_another_base_keeps_its_own_copy(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_models(tmp_path, tiny_tokenizer, "llama-tied")
    expected, _ = RewardScorer.load(tmp_path / "reward", CPU).score(CHATS)
    sft = load_causal_lm(tmp_path / "sft", CPU)
    with torch.no_grad():
        sft.model.layers[1].mlp.up_proj.weight[0, 0] += 0.01
    policy = Policy(sft, LORA)
    with caplog.at_level(logging.WARNING):
        scorer = load_scorer(policy, tmp_path / "reward", CPU)
    assert not isinstance(scorer, SharedScorer)
    assert "not trained from this SFT model (model.layers.1.mlp.up_proj.weight differs)" in caplog.text
    assert torch.equal(scorer.score(CHATS)[0], expected)
    assert not any("reward" in name for name, _ in policy.model.named_parameters())
    assert all(weight.requires_grad for weight in policy.trainable().values())


def test_without_an_adapter_on_either_side_nothing_is_shared(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    write_models(tmp_path, tiny_tokenizer, "llama-tied")
    whole = Policy(load_causal_lm(tmp_path / "sft", CPU), None)
    assert not isinstance(load_scorer(whole, tmp_path / "reward", CPU), SharedScorer)
    assert isinstance(make_value_model(whole, align_params()), ValueModel)
    (tmp_path / "reward/adapter").rename(tmp_path / "elsewhere")
    adapted = Policy(load_causal_lm(tmp_path / "sft", CPU), LORA)
    assert not isinstance(load_scorer(adapted, tmp_path / "reward", CPU), SharedScorer)


@FAMILIES
def test_policy_and_value_model_learn_apart_on_one_base(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path, family: str
) -> None:
    """Gradients of a step of both are those of two separate models, and no other weight gets one."""
    write_models(tmp_path, tiny_tokenizer, family)
    sft = load_causal_lm(tmp_path / "sft", CPU)
    policy, alone = Policy(copy.deepcopy(sft), LORA), Policy(sft, LORA)
    alone.load_weights(policy.weights())
    load_scorer(policy, tmp_path / "reward", CPU)
    value = AdaptedValue(policy)
    conversations = Conversations([[7, 8], [9]], [[10, 11, 1], [12]])
    ((_, batch),) = conversations.batches([0, 1], batch_size=2, device=CPU)
    assert torch.equal(value(batch), torch.zeros(4))
    with torch.no_grad():
        value.head.linear.weight.fill_(0.1)
    hidden = ValueModel(alone.merged())
    hidden.head.load_state_dict(value.head.state_dict())
    torch.testing.assert_close(value(batch), hidden(batch), rtol=1e-4, atol=1e-5)

    (token_logprobs(alone.model, batch, 1.0)[0] * batch.mask).sum().backward()
    logprobs = token_logprobs(policy.model, batch, 1.0)[0]
    with policy.reference() as reference, torch.no_grad():
        token_logprobs(reference, batch, 1.0)
    ((logprobs + token_values(value, batch)) * batch.mask).sum().backward()
    for name, weight in policy.trainable().items():
        torch.testing.assert_close(weight.grad, alone.trainable()[name].grad, rtol=1e-4, atol=1e-5)
    assert any(weight.grad is not None and bool(weight.grad.any()) for weight in value.adapter)
    learning = {id(w) for w in (*policy.trainable().values(), *value.parameters())}
    others = [name for name, w in policy.model.named_parameters() if w.grad is not None and id(w) not in learning]
    assert others == []


def test_dropout_of_training_is_off_in_rewards_and_values(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """PEFT makes the dropout of a new adapter in training mode."""
    lora = LORA.model_copy(update={"dropout": 0.5})
    write_models(tmp_path, tiny_tokenizer, "llama-tied")
    reward = AutoModelForSequenceClassification.from_pretrained(tmp_path / "sft", num_labels=1)
    write_adapted(reward, tiny_tokenizer, tmp_path / "dropped", lora)
    expected, _ = RewardScorer.load(tmp_path / "dropped", CPU).score(CHATS)
    policy = Policy(load_causal_lm(tmp_path / "sft", CPU), lora)
    scorer, value = load_scorer(policy, tmp_path / "dropped", CPU), AdaptedValue(policy)
    assert isinstance(scorer, SharedScorer)
    torch.testing.assert_close(scorer.score(CHATS)[0], expected, rtol=1e-4, atol=1e-5)
    assert not any(module.training for module in policy.modules())
    with torch.no_grad():
        for weight in value.parameters():
            weight.add_(0.1)
    ((_, batch),) = Conversations([[7, 8]], [[10, 11, 1]]).batches([0], batch_size=1, device=CPU)
    assert torch.equal(value(batch), value(batch))


def with_adapted_reward(run_align: AlignRun, lora: LoraParams = LORA) -> AlignRun:
    """Its reward model is an adapter of its SFT model."""
    root = run_align.root
    shutil.rmtree(root / "reward")
    reward = AutoModelForSequenceClassification.from_pretrained(root / "sft", num_labels=1)
    write_adapted(reward, PreTrainedTokenizerFast.from_pretrained(root / "sft"), root / "reward", lora)
    return run_align


@pytest.mark.parametrize(("method", "num_trained"), [("ppo", 2), ("rloo", 1), ("grpo", 1), ("dpo", 1)])
def test_every_method_trains_on_one_base(run_align: AlignRun, method: str, num_trained: int) -> None:
    """Its rewards are those of the reward model alone, whose dropout is off while the policy trains."""
    with_adapted_reward(run_align, LORA.model_copy(update={"dropout": 0.5}))
    alone = RewardScorer.load(run_align.root / "reward", CPU)
    workers: list[RolloutWorker] = []

    class Compared(RolloutWorker):
        def score(
            self,
            prompts: Sequence[Sequence[int]],
            replies: Sequence[Sequence[int]],
            ended: Sequence[bool],
            places: Sequence[int] | None = None,
        ) -> tuple[Tensor, Tensor]:
            found = super().score(prompts, replies, ended, places)
            expected = alone.score(ended_chats(prompts, replies, ended, self.sampler.eos_token_id))
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
            workers.append(self)
            return found

        def roll_out(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], seed: int) -> Rollout:
            rollout = super().roll_out(model, prompts, seed)
            self.score(prompts, rollout.replies.tokens, rollout.replies.ended)
            return rollout

    changes: dict[str, Any] = {method: {"learning_rate": 1e-2}, "budgets": {"kl": 40.0}}
    metrics = run_align("run", worker_type=Compared, method=method, lora=LORA.model_dump(), **changes)
    assert metrics["kept_iteration"] > 0
    worker = workers[-1]
    base = storages(load_causal_lm(run_align.root / "sft", CPU))
    adapter = storages(Policy(load_causal_lm(run_align.root / "sft", CPU), LORA).model) - base
    hidden = worker.policy.model.config.hidden_size
    # The policy and PPO's value model, or the copy of the policy at its start that TRL takes for the reference; the
    # reward model, and its head.
    frozen = 1 if num_trained == 2 else 2
    everything = storages(worker.policy.model, worker.scorer.model, worker.scorer.head)
    assert everything == base + (num_trained + frozen) * adapter + 4 * hidden
    assert everything < 2 * base


def test_replies_of_the_reference_are_scored_by_the_reward_model_too(run_align: AlignRun) -> None:
    """In the context in which the policy's adapter is off. A policy that hardly moves gains nothing."""
    changes = {"num_iterations": 1, "ppo": {"learning_rate": 1e-12}}
    metrics = with_adapted_reward(run_align)("run", lora=LORA.model_dump(), **changes)
    assert metrics["heldout_reward_before"] == pytest.approx(metrics["heldout_reward_after"], abs=1e-5)


def test_a_run_on_one_base_resumes_to_the_same_bytes(run_align: AlignRun) -> None:
    root = with_adapted_reward(run_align).root
    changes = {"lora": LORA.model_dump()}
    whole, broken = Recorder(), Recorder(crash_at=4)
    expected = run_align("whole", whole, **changes)
    run_align.crash(broken, **changes)
    run_align.assert_resumes(whole, expected, broken, **changes)
    assert sorted(path.name for path in (root / "whole/out/adapter").iterdir()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip
