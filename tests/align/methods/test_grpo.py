"""RLOO and GRPO: replies of our sampler, log-probabilities and losses that TRL's own passes would give."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from trl import GRPOTrainer, RLOOTrainer

from groundup.align.methods.grpo import PackedPasses
from groundup.core.model.generation import Replies, Sampler
from tests.align.conftest import AlignRun

STOCK = {"rloo": RLOOTrainer, "grpo": GRPOTrainer}
SETTINGS: dict[str, Any] = {"learning_rate": 3e-3, "num_generations": 4, "beta": 0.02}


@pytest.mark.parametrize("method", list(STOCK))
def test_replies_and_their_log_probabilities_are_those_of_the_sampler(
    run_align: AlignRun, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """The trainer computes the log-probability that each token had when it was drawn."""
    sampled: list[Replies] = []
    computed: list[torch.Tensor] = []
    sample, compute = Sampler.sample, PackedPasses._get_per_token_logps_and_entropies

    def record_replies(sampler: Sampler, *arguments: Any) -> Replies:
        sampled.append(sample(sampler, *arguments))
        return sampled[-1]

    def record_passes(trainer: PackedPasses, *arguments: Any, **named: Any) -> Any:
        result = compute(trainer, *arguments, **named)
        computed.append(result[0].detach())
        return result

    monkeypatch.setattr(Sampler, "sample", record_replies)
    monkeypatch.setattr(PackedPasses, "_get_per_token_logps_and_entropies", record_passes)
    run_align("run", method=method, num_iterations=1, **{method: SETTINGS})
    (replies,) = (replies for replies in sampled if len(replies.tokens) == 8)  # the others are of validation and test
    old = computed[0]  # of the policy, before the first update
    assert len(old) == 8
    for row, logprobs in zip(old, replies.logprobs, strict=True):
        assert row[: len(logprobs)].tolist() == pytest.approx(logprobs, abs=1e-5)
        assert not row[len(logprobs) :].any()


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("method", list(STOCK))
def test_log_probabilities_and_loss_of_given_replies_are_those_of_trl(
    run_align: AlignRun, monkeypatch: pytest.MonkeyPatch, method: str, temperature: float
) -> None:
    """With a model that may sample every token: the loss of a step, its gradient and its entropies."""
    sft = run_align.root / "sft"
    model = AutoModelForCausalLM.from_pretrained(sft)
    model.generation_config.suppress_tokens = None
    model.save_pretrained(sft)
    losses: list[list[float]] = []
    largest: list[float] = []  # components of each gradient
    stock, packed = STOCK[method], PackedPasses._get_per_token_logps_and_entropies

    def both_passes(trainer: Any, *arguments: Any, **named: Any) -> Any:
        ours = packed(trainer, *arguments, **named)
        theirs = stock._get_per_token_logps_and_entropies(trainer, *arguments, **named)
        _, _, attention_mask, num_columns = arguments[:4]
        mask = attention_mask[:, -num_columns:]
        for mine, trls in zip(ours[:2], theirs[:2], strict=True):
            assert trls is None or torch.allclose(mine * mask, trls * mask, atol=1e-5)
        return ours

    def both_losses(trainer: Any, model: Any, inputs: Any, *rest: Any, **named: Any) -> torch.Tensor:
        losses.append([])
        gradients = []
        for passes in (stock._get_per_token_logps_and_entropies, both_passes):
            monkeypatch.setattr(PackedPasses, "_get_per_token_logps_and_entropies", passes)
            loss = stock.compute_loss(trainer, model, inputs, *rest, **named)
            losses[-1].append(loss.item())
            gradients.append(torch.autograd.grad(loss, model.lm_head.weight, retain_graph=True)[0])
        assert torch.allclose(gradients[0], gradients[1], atol=1e-5)
        largest.append(gradients[0].abs().max().item())
        return loss

    monkeypatch.setattr(PackedPasses, "compute_loss", both_losses, raising=False)
    run_align("run", method=method, num_iterations=1, rollout={"temperature": temperature}, **{method: SETTINGS})
    assert len(losses) == 4  # 2 epochs of 2 minibatches
    for theirs, ours in losses:
        assert ours == pytest.approx(theirs, abs=1e-5)
    assert max(largest) > 1e-3
