"""Each computation of the project with its models on a GPU that is only pretended: nothing meets the wrong device."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_
from torch.utils._pytree import tree_leaves
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

from groundup.align.methods.ppo.module import Ppo
from groundup.align.policy import Policy, SharedTrunkValue, ValueModel
from groundup.align.rollout import RolloutWorker
from groundup.app.chat.chat import Chat
from groundup.app.serve.batch import Batch, Generation
from groundup.app.serve.plan import sampling
from groundup.core.decoding import METHODS, reply_to_prompt
from groundup.core.decoding.assistant import Assistant
from groundup.core.model import variational
from groundup.core.model.bits_per_byte import bits_per_byte
from groundup.core.model.branches import Branches
from groundup.core.model.generation import Sampler, next_token_logprobs
from groundup.core.model.likelihood import Stretch, stretch_nats
from groundup.core.model.scoring import RewardScorer
from groundup.core.rollout.engine import Builtin
from groundup.evaluate.reply_likelihood import branch_scores
from groundup.pretrain.optimizer import build_optimizer
from groundup.pretrain.pretrain import PretrainModule
from groundup.reward.pair_trainer import PairTrainer, collate
from groundup.sft.chat_examples import ChatExample
from groundup.sft.sft import assistant_loss
from tests.align.conftest import LORA, align_params
from tests.conftest import SENTENCES
from tests.core.decoding.conftest import decoding
from tests.core.model.variants import variant_model
from tests.device.pretend import CUDA, OnGpu, pretend_gpu, put
from tests.llamas import tiny_llama, tiny_shape
from tests.presets import preset

PROMPTS = [[5, 6, 7], [8, 9], [11, 12, 13, 14], [20, 21]]


@pytest.fixture(params=["fp32", "bf16"])
def precision(request: pytest.FixtureRequest) -> Iterator[str]:
    """With it a test runs on the pretended GPU, as training does: in autocast or without."""
    with pretend_gpu():
        half = torch.autocast("cuda", torch.bfloat16, cache_enabled=False)
        with half if request.param == "bf16" else nullcontext():
            yield request.param


@pytest.fixture
def model(precision: str, tiny_tokenizer: PreTrainedTokenizerFast) -> Any:
    return put(tiny_llama(tiny_tokenizer))


@pytest.fixture
def reward_model(precision: str, tiny_tokenizer: PreTrainedTokenizerFast) -> Any:
    torch.manual_seed(1)
    config = LlamaConfig(**tiny_shape(tiny_tokenizer), num_labels=1)
    return put(LlamaForSequenceClassification(config).eval())


def cuda_batch() -> dict[str, Tensor]:
    ids = torch.randint(10, 290, (2, 16), generator=torch.Generator().manual_seed(0))
    positions = torch.cat([torch.arange(5), torch.arange(11)]).repeat(2, 1)
    return {"input_ids": ids.to("cuda"), "position_ids": positions.to("cuda")}


@pytest.mark.parametrize(
    "mix",
    [
        lambda x: x + torch.ones(3),
        lambda x: torch.cat([x, torch.ones(3)]),
        lambda x: F.linear(torch.ones(2, 3), x[None]),
        lambda x: torch.ones(3)[x.long()],
        lambda x: x.index_put_((torch.tensor([0]),), torch.ones(1)),
        lambda x: x.masked_fill(torch.ones(3, dtype=torch.bool), 0.0),
        lambda x: x.numpy(),
    ],
    ids=["add", "cat", "linear", "index", "put", "mask", "numpy"],
)
def test_mixing_is_found(mix: Callable[[Tensor], Any]) -> None:
    with pretend_gpu(), pytest.raises((RuntimeError, TypeError), match=r"cuda:0"):
        mix(torch.zeros(3, device="cuda"))


def test_values_and_gradients_are_those_of_the_cpu() -> None:
    weight, x = torch.randn(3, 3, requires_grad=True), torch.randn(2, 3)
    expected = torch.autograd.grad((x @ weight).exp().sum(), weight)[0]
    with pretend_gpu() as waits:
        loss = (x.to("cuda") @ weight.to(CUDA)).exp().sum()
        assert loss.device == CUDA
        (found,) = torch.autograd.grad(loss, weight)
        assert not isinstance(found, OnGpu)
        torch.testing.assert_close(found, expected)
        assert loss.item() > 0
    assert waits == {"to cuda": 2, "_local_scalar_dense": 1}


@pytest.mark.parametrize("layers", ["ours", "of transformers"])
def test_a_pretraining_step(model: Any, layers: str) -> None:
    params = preset("smoke").pretrain
    module = PretrainModule(model, params, compiled=False)
    module.log = lambda *unused: None
    if layers == "of transformers":
        module.compiled_layers = model.model.forward
    optimizer = build_optimizer(model, params)
    before = model.lm_head.weight.held.clone()
    for _ in range(2):
        module.training_step(cuda_batch(), 0).backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert isinstance(model.lm_head.weight, OnGpu)
    assert not torch.equal(model.lm_head.weight.held, before)


def test_bits_per_byte(model: Any, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    documents = [{"text": text, "source": "made up"} for text in SENTENCES]
    assert bits_per_byte(model, tiny_tokenizer, documents, 16, 4).overall > 0


def test_sft_validates(model: Any, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    examples = [ChatExample([5, 6, 7, 8], [0, 0, 1, 1], True), ChatExample([5, 6, 7], [0, 1, 1], True)]
    assert assistant_loss(model, examples, tiny_tokenizer.pad_token_id) > 0


@pytest.mark.parametrize("head", ["linear", "variational"])
def test_a_step_of_the_reward_model(reward_model: Any, head: str) -> None:
    """What TRL's trainer moves to the device is moved here by hand."""
    if head == "variational":
        reward_model.score = put(variational.VariationalHead(32, 4, 0.02))
    chats = {"prompt": [5, 6, 7], "replies": [[8, 9], [10], [11, 12]]}
    inputs = collate([{"chats": chats, "margin": 0.0, "weight": 1.0}] * 2)
    inputs |= {name: inputs[name].to("cuda") for name in ("sides", "margin", "weight")}
    trainer: Any = SimpleNamespace(
        args=SimpleNamespace(center_rewards_coefficient=0.01),
        variational=preset("smoke").reward.variational,
        accelerator=SimpleNamespace(
            gather_for_metrics=lambda x: x, autocast=nullcontext, unwrap_model=lambda model: model
        ),
        _metrics={"eval": defaultdict(list)},
        model=reward_model,
        plain=reward_model,
    )
    trainer._scores = partial(PairTrainer._scores, trainer)
    loss = PairTrainer.compute_loss(trainer, reward_model, inputs)
    assert isinstance(loss, Tensor)
    loss.backward()
    assert all(weight.grad is not None for weight in reward_model.score.parameters())


def test_reward_scores(reward_model: Any) -> None:
    mean, std = RewardScorer(reward_model).score(PROMPTS)
    assert not isinstance(mean, OnGpu)
    assert std.tolist() == [0.0] * 4
    reward_model.score = put(variational.VariationalHead(32, 4, 0.02))
    hidden = RewardScorer(reward_model).hidden(PROMPTS, [1] * 4)
    with torch.autocast("cuda", enabled=False):  # as after training
        folded = variational.fold(reward_model)
        folded.fit_density(torch.cat(hidden).float().to("cuda"))
    reward_model.score = variational.WithUncertainty(reward_model.score, folded)
    assert bool((RewardScorer(reward_model).score(PROMPTS)[1] > 0).all())


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("kind", ["plain", "variant"])
def test_sampling(precision: str, tiny_tokenizer: PreTrainedTokenizerFast, kind: str, temperature: float) -> None:
    made: Any = put(tiny_llama(tiny_tokenizer) if kind == "plain" else variant_model(tiny_tokenizer))
    made.generation_config.suppress_tokens = [0, 1, 2]
    replies = Sampler.of(tiny_tokenizer, 6, temperature, batch_size=3).sample(made, PROMPTS, seed=0)
    assert all(0 < len(tokens) <= 6 for tokens in replies.tokens)


def test_where_kernels_are_to_be_deterministic_sampling_needs_no_other(
    precision: str, tiny_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU refuses cumulative sums of floats then; whole numbers give the same replies."""
    made: Any = put(tiny_llama(tiny_tokenizer))
    sampler = Sampler.of(tiny_tokenizer, 6, 1.0, batch_size=4)
    before = sampler.sample(made, PROMPTS, seed=0)
    summed: list[torch.dtype] = []

    def cumsum(values: Tensor, *args: Any, **settings: Any) -> Tensor:
        summed.append(settings.get("dtype") or values.dtype)
        return kept(values, *args, **settings)

    kept = Tensor.cumsum
    monkeypatch.setattr(Tensor, "cumsum", cumsum)
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    assert sampler.sample(made, PROMPTS, seed=0).tokens == before.tokens
    assert set(summed) == {torch.int64}


def test_a_token_of_a_rollout_waits_three_times_at_most(
    precision: str, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    """For the end of replies, and for probabilities that are not finite; the rest is of the whole reply."""
    made: Any = put(tiny_llama(tiny_tokenizer))
    made.generation_config.suppress_tokens = [tiny_tokenizer.eos_token_id]

    def num_waits(num_tokens: int) -> int:
        with pretend_gpu() as waits:
            Sampler.of(tiny_tokenizer, num_tokens, 1.0, batch_size=4).sample(made, PROMPTS, seed=0)
            return sum(count for name, count in waits.items() if name != "to cuda")

    assert num_waits(24) - num_waits(8) <= 3 * 16


@pytest.mark.parametrize("value_trunk", ["separate", "shared", "separate with LoRA"])
def test_iterations_of_ppo(
    precision: str,
    reward_model: Any,
    tiny_tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
    value_trunk: str,
) -> None:
    trunk, _, lora = value_trunk.partition(" with ")
    params = align_params(ppo={"value_trunk": trunk}, lora=LORA if lora else None)
    policy = Policy(tiny_llama(tiny_tokenizer), params.lora)
    put(policy)
    for reference in policy._reference:
        put(reference)
    worker = RolloutWorker(policy, RewardScorer(reward_model.requires_grad_(False)), tiny_tokenizer, params, Builtin())
    value: Any = put(ValueModel(policy.merged()) if trunk == "separate" else SharedTrunkValue(32))
    ppo = Ppo(worker, value, params)
    monkeypatch.setattr(Ppo, "device", CUDA)
    monkeypatch.setattr(ppo, "manual_backward", lambda loss: loss.backward())
    monkeypatch.setattr(ppo, "optimizers", lambda: ppo.optimizer)
    ppo.training_step(PROMPTS * 2, 0)
    state = ppo.full_state()
    assert not any(isinstance(x, OnGpu) for x in tree_leaves(state)), "a checkpoint holds tensors of the GPU"
    first = ppo.metrics
    ppo.load_full_state(state)
    ppo.training_step(PROMPTS * 2, 0)
    assert first["reward"] != ppo.metrics["reward"]


def test_rewards_of_trl_methods(model: Any, reward_model: Any, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """RLOO, GRPO and DPO: what they ask for beside TRL's own computations."""
    params = align_params(method="dpo")
    policy = Policy(model, None)
    worker = RolloutWorker(policy, RewardScorer(reward_model), tiny_tokenizer, params, Builtin())
    with policy.reference() as sft:
        replies = worker.sampler.sample(sft, PROMPTS, 1)
    mean, std = worker.score(PROMPTS, replies.tokens, replies.ended)
    assert not isinstance(mean, OnGpu)
    assert not isinstance(std, OnGpu)
    assert worker.roll_out(model, PROMPTS, 2).summary()["kl"] == pytest.approx(0.0, abs=0.5)
    assert not any(isinstance(x, OnGpu) for x in policy.weights().values())


def test_likelihoods_of_evaluate(model: Any) -> None:
    stretches = [Stretch([5, 6, 7, 8], 2), Stretch([5, 6], 1)]
    drawn_from = partial(next_token_logprobs, model, temperature=0.7)
    assert all(nats > 0 for nats in stretch_nats(model, stretches, 2, drawn_from))
    items = [Branches([5, 6], [[7, 8], [9]]), Branches([5], [[7, 8], [9, 10, 11]])]
    assert [len(scores) for scores in branch_scores(model, items, 2)] == [2, 2]


@pytest.mark.parametrize("method", METHODS)
def test_replies(model: Any, reward_model: Any, tiny_tokenizer: PreTrainedTokenizerFast, method: str) -> None:
    """Of chat, the page and evaluate."""
    assistant = Assistant(model, tiny_tokenizer, RewardScorer(reward_model))
    filters = {"top_k": 20, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.1}
    chosen = decoding(method, max_new_tokens=6, n=4, budget_tokens=40, **filters)
    assert 0 < len(reply_to_prompt(assistant, [5, 6, 7], chosen).token_ids) <= 6
    chat = Chat(assistant, chosen)
    prompt, _ = chat.prompt([{"role": "user", "content": "Hello there!"}])
    assert list(chat.words(prompt, 0, 0)) is not None


@pytest.mark.parametrize("kind", ["plain", "variant"])
def test_the_servers_batch(tiny_tokenizer: PreTrainedTokenizerFast, kind: str) -> None:
    """In fp32, which the server computes in."""
    with pretend_gpu():
        made: LlamaForCausalLM = tiny_llama(tiny_tokenizer) if kind == "plain" else variant_model(tiny_tokenizer)
        batch = Batch(put(made), tiny_tokenizer.eos_token_id, num_slots=4)
        warm = sampling(temperature=0.8, top_k=20, top_p=0.9, min_p=0.02, repetition_penalty=1.3)
        cold = sampling(temperature=0.0, top_k=0, top_p=1.0, min_p=0.0, repetition_penalty=1.0)
        generations = [
            Generation((5, 6, 7), warm, 5, 3, torch.rand(5, dtype=torch.float64)),
            Generation((5, 9), cold, 3, 0, torch.rand(3, dtype=torch.float64)),
        ]
        num_tokens = len(list(batch.step(generations)))
        while batch.running:
            num_tokens += len(list(batch.step([])))
        assert num_tokens == sum(len(one.tokens) for one in generations)
