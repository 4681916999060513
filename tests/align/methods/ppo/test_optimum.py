"""Tasks with a known optimum, through all of PPO: sampling, scoring, advantages, updates and the published model.

With a KL penalty of weight b the optimum is p(token) ~ p_sft(token) exp(value / b), the value of a token being its
reward or, before the last, b log E_sft[exp(value / b)] of what comes next.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from groundup.core.formats.chat_format import render
from groundup.core.formats.jsonl import write_jsonl
from groundup.core.model.scoring import RewardScorer
from tests.align.conftest import AlignRun

MESSAGES = [{"role": "user", "content": "How are you?"}]

SETTINGS: dict[str, Any] = {
    "minibatch_size": 64,
    "forward_batch_size": 64,
    "checkpoint_every": 100,
    "rewards": [{"kind": "reward_model", "weight": 1.0, "pessimism": 0.0}],
    "budgets": {"kl": 40.0},
    "validation": {"every": 100, "num_prompts": 64, "sample_every": 100},
    "test": {"num_prompts": 1},
}
PPO = {
    "learning_rate": 3e-3,
    "kl_horizon": 1e9,  # keeps the KL coefficient constant
    "length_control_gain": 0.0,
    "length_control_rate": 0.0,
}


@pytest.fixture
def reach(run_align: AlignRun, tiny_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Train on one prompt with a score that is a function of the reply; returns the prompt, SFT and aligned model."""

    def run(
        worth: Callable[[Sequence[int]], float], max_new_tokens: int, num_iterations: int, kl_coefficient: float
    ) -> tuple[list[int], Any, Any]:
        for split in ("train", "val", "test"):
            row = {"id": split, "source": "chats", "messages": MESSAGES, "reply": None}
            rows = [row | {"conversation_id": f"{split}-{i}"} for i in range(64)]
            write_jsonl(run_align.root / f"prompts/{split}.jsonl", rows)
        write_jsonl(run_align.root / "monitor/conversations.jsonl", [])
        prompt = render(tiny_tokenizer, MESSAGES, reply_next=True)

        def hidden(scorer: RewardScorer, chats: Sequence[Sequence[int]], num_last: Sequence[int]) -> list[Tensor]:
            return [torch.tensor([[worth(chat[len(prompt) :])]]) for chat in chats]

        def read(scorer: RewardScorer, hidden: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
            return torch.cat([torch.zeros(0, 1), *hidden])[:, 0], torch.zeros(len(hidden))

        monkeypatch.setattr(RewardScorer, "hidden", hidden)
        monkeypatch.setattr(RewardScorer, "read", read)
        metrics = run_align(
            "run",
            **SETTINGS,
            num_iterations=num_iterations,
            rollout={"batch_size": 128, "max_new_tokens": max_new_tokens},
            ppo=PPO | {"kl_coefficient": kl_coefficient},
        )
        assert metrics["kept_iteration"] == num_iterations
        sft, aligned = (AutoModelForCausalLM.from_pretrained(run_align.root / name) for name in ("sft", "run/out"))
        return prompt, sft, aligned

    return run


@torch.no_grad()
def next_token(model: Any, ids: list[list[int]]) -> Tensor:
    """[B, V]: probabilities."""
    return model(torch.tensor(ids)).logits[:, -1].softmax(-1)


def test_a_bandit_reaches_the_optimum_that_the_kl_penalty_leaves(reach: Any) -> None:
    arms = [1.0, 0.4, 0.8]  # a token's worth, by its number modulo 3
    coefficient = 0.5
    prompt, sft, aligned = reach(
        lambda reply: arms[reply[0] % 3], max_new_tokens=1, num_iterations=25, kl_coefficient=coefficient
    )
    (before,), (after,) = next_token(sft, [prompt]), next_token(aligned, [prompt])
    arm = torch.arange(len(before)) % 3
    optimum = before * (torch.tensor(arms)[arm] / coefficient).exp()
    optimum /= optimum.sum()
    for i in range(3):
        assert after[arm == i].sum().item() == pytest.approx(optimum[arm == i].sum().item(), abs=0.05)
    assert abs(before[arm == 0].sum().item() - optimum[arm == 0].sum().item()) > 0.15  # there was something to learn


def test_two_steps_reach_their_optimum_though_the_better_way_starts_out_worse(
    reach: Any, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    """Even first: 0.7 or 0.5. Odd first: nothing if the next is even, 1 if it is odd. One token: nothing."""
    payoff = torch.tensor([[0.7, 0.5], [0.0, 1.0]])
    coefficient = 0.15
    eos = tiny_tokenizer.eos_token_id

    def worth(reply: Sequence[int]) -> float:
        return 0.0 if reply[0] == eos else payoff[reply[0] % 2, reply[1] % 2].item()

    prompt, sft, aligned = reach(worth, max_new_tokens=2, num_iterations=40, kl_coefficient=coefficient)
    (first,) = next_token(sft, [prompt])
    parity = torch.arange(len(first)) % 2
    second = next_token(sft, [[*prompt, token] for token in range(len(first))])  # [V, V]
    values = coefficient * (second * (payoff[parity][:, parity] / coefficient).exp()).sum(1).log()
    values[eos] = 0.0
    optimum = first * (values / coefficient).exp()
    optimum /= optimum.sum()
    (after,) = next_token(aligned, [prompt])
    second_after = next_token(aligned, [[*prompt, token] for token in range(len(first))])

    def objective(p: Tensor, q: Tensor) -> float:
        """Reward minus KL penalty of a policy with first tokens p [V] and second tokens q [V, V], by enumeration."""
        to_come = (q * (payoff[parity][:, parity] - coefficient * (q / second).log())).sum(1)
        to_come[eos] = 0.0
        return (p * (to_come - coefficient * (p / first).log())).sum().item()

    start, reached = objective(first, second), objective(after, second_after)
    best = (optimum * (values - coefficient * (optimum / first).log())).sum().item()
    # The gap is noise in the probabilities of single tokens, which the KL penalty counts.
    assert reached > start + 0.7 * (best - start)
    assert first[parity == 1].sum().item() < 0.6 < 0.8 < after[parity == 1].sum().item()
    is_odd = (parity == 1) & (torch.arange(len(first)) != eos)
    odd_then = second_after[is_odd][:, parity == 1].sum(1)
    assert (after[is_odd] @ odd_then / after[is_odd].sum()).item() > 0.95
