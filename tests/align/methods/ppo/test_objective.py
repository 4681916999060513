"""PPO's mathematics against plain loops over single tokens, literals and limits."""

import math

import pytest
import torch
from torch import Tensor

from groundup.align.methods.ppo import objective
from groundup.align.tokens import token_kl

LENGTHS = [5, 1, 3]
MASK = torch.tensor([[t < length for t in range(5)] for length in LENGTHS])


def noise(seed: int, scale: float = 1.0) -> Tensor:
    """[3, 5], with values outside the mask, which must not matter."""
    return torch.randn(3, 5, generator=torch.Generator().manual_seed(seed)) * scale


def at_mask(x: Tensor) -> list[list[float]]:
    return [row[:length] for row, length in zip(x.tolist(), LENGTHS, strict=True)]


def test_token_rewards_literal() -> None:
    kl = torch.tensor([[0.5, -1.0, 2.0], [4.0, 9.0, 9.0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    rewards = objective.token_rewards(torch.tensor([10.0, -3.0]), kl, mask, kl_coefficient=0.1)
    assert rewards.tolist() == [
        [pytest.approx(-0.05), pytest.approx(0.1), pytest.approx(9.8)],
        [pytest.approx(-3.4), 0.0, 0.0],
    ]


def test_token_kl_sums_to_the_log_ratio_of_the_reply() -> None:
    kl = token_kl(torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.5, -1.0]]))
    assert kl.tolist() == [[0.5, -1.0]]


@pytest.mark.parametrize(("discount", "gae_lambda"), [(1.0, 0.95), (0.9, 0.8), (0.99, 0.0), (1.0, 1.0)])
def test_advantages_equal_the_sum_over_later_errors(discount: float, gae_lambda: float) -> None:
    rewards, values = noise(1), noise(2)
    advantages, returns = objective.generalized_advantages(rewards, values, MASK, discount, gae_lambda)
    for i, length in enumerate(LENGTHS):
        for t in range(length):
            expected = 0.0
            for k in range(t, length):
                after = values[i, k + 1].item() if k + 1 < length else 0.0
                error = rewards[i, k].item() + discount * after - values[i, k].item()
                expected += (discount * gae_lambda) ** (k - t) * error
            assert advantages[i, t].item() == pytest.approx(expected, abs=1e-5)
            assert returns[i, t].item() == pytest.approx(expected + values[i, t].item(), abs=1e-5)
    assert not advantages[~MASK].any()


def test_advantages_by_hand() -> None:
    # errors: 1 + 3 - 2 = 2 and 5 - 3 = 2; advantages: 2 + 0.5 x 2 = 3 and 2
    rewards, values = torch.tensor([[1.0, 5.0]]), torch.tensor([[2.0, 3.0]])
    advantages, returns = objective.generalized_advantages(
        rewards, values, torch.ones(1, 2, dtype=torch.bool), 1.0, 0.5
    )
    assert advantages.tolist() == [[3.0, 2.0]]
    assert returns.tolist() == [[5.0, 5.0]]


def test_lambda_one_is_rewards_to_come_minus_values() -> None:
    rewards, values = noise(3), noise(4)
    advantages, returns = objective.generalized_advantages(rewards, values, MASK, 1.0, 1.0)
    for i, length in enumerate(LENGTHS):
        for t in range(length):
            to_come = sum(rewards[i, k].item() for k in range(t, length))
            assert returns[i, t].item() == pytest.approx(to_come, abs=1e-5)
            assert advantages[i, t].item() == pytest.approx(to_come - values[i, t].item(), abs=1e-5)


def test_whiten() -> None:
    white = at_mask(objective.whiten(noise(5) * 3 + 7, MASK))
    flat = [x for row in white for x in row]
    mean = sum(flat) / len(flat)
    assert mean == pytest.approx(0, abs=1e-6)
    assert sum((x - mean) ** 2 for x in flat) / len(flat) == pytest.approx(1, abs=1e-5)
    raw = [x for row in at_mask(noise(5)) for x in row]
    assert sorted(range(9), key=raw.__getitem__) == sorted(range(9), key=flat.__getitem__)  # the order stays


def test_whiten_equals_the_loop() -> None:
    x = noise(15) * 2 - 3
    flat = [value for row in at_mask(x) for value in row]
    mean = sum(flat) / len(flat)
    variance = sum((value - mean) ** 2 for value in flat) / len(flat)
    white = objective.whiten(x, MASK)
    for i, length in enumerate(LENGTHS):
        for t in range(5):
            expected = (x[i, t].item() - mean) / math.sqrt(variance) if t < length else 0.0
            assert white[i, t].item() == pytest.approx(expected, abs=1e-5)


def test_whiten_by_hand() -> None:
    mask = torch.tensor([[True, True], [True, False]])
    # Mean 3 and variance (4 + 0 + 4) / 3 of 1, 3, 5; the 100 is outside the mask.
    white = objective.whiten(torch.tensor([[1.0, 3.0], [5.0, 100.0]]), mask)
    assert white.flatten().tolist() == pytest.approx([-math.sqrt(1.5), 0.0, math.sqrt(1.5), 0.0])


def test_losses_and_kl_by_hand() -> None:
    old = torch.tensor([[math.log(0.5), math.log(0.2), math.log(0.4)]])
    new = torch.tensor([[math.log(0.75), math.log(0.1), math.log(0.4)]])  # ratios 1.5, 0.5, 1
    advantages = torch.tensor([[2.0, -2.0, 3.0]])
    assert objective.policy_loss(new, old, advantages, 0.2).tolist() == [pytest.approx([-2.4, 1.6, -3.0])]
    assert objective.is_clipped(new, old, 0.2).tolist() == [[True, True, False]]
    k3 = [0.5 - math.log(1.5), -0.5 + math.log(2), 0.0]
    assert objective.approximate_kl(new, old).tolist() == [pytest.approx(k3, abs=1e-6)]
    kl = [math.log(1.5), -math.log(2), 0.0]
    assert token_kl(new, old).tolist() == [pytest.approx(kl, abs=1e-6)]
    values, old_values, returns = torch.tensor([[2.0, 0.1]]), torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 1.0]])
    # 2 is clipped to 0.2, which is 0.8 off: its own error of 1 is larger; 0.1 is within the range.
    assert objective.value_loss(values, old_values, returns, 0.2).tolist() == [pytest.approx([0.5, 0.405])]


def test_token_rewards_equal_the_loop() -> None:
    kl, rewards = noise(16), [0.5, -1.0, 2.0]
    by_token = objective.token_rewards(torch.tensor(rewards), kl, MASK, kl_coefficient=0.3)
    for i, length in enumerate(LENGTHS):
        for t in range(5):
            expected = -0.3 * kl[i, t].item() if t < length else 0.0
            assert by_token[i, t].item() == pytest.approx(expected + rewards[i] * (t == length - 1), abs=1e-6)


def test_whiten_of_equal_values_is_zero_not_nan() -> None:
    assert not objective.whiten(torch.full((3, 5), 2.0), MASK).any()


def test_policy_loss_equals_the_loop() -> None:
    new, old, advantages = noise(6, 0.5), noise(7, 0.5), noise(8)
    losses = objective.policy_loss(new, old, advantages, clip_range=0.2)
    for i in range(3):
        for t in range(5):
            ratio, a = math.exp(new[i, t].item() - old[i, t].item()), advantages[i, t].item()
            limited = 1.2 if ratio > 1.2 else 0.8 if ratio < 0.8 else ratio
            assert losses[i, t].item() == pytest.approx(-min(ratio * a, limited * a), abs=1e-5)


@pytest.mark.parametrize(
    ("log_ratio", "advantage", "gradient"),
    [
        (0.0, 2.0, -2.0),  # ratio 1: the clip is inactive, the plain policy gradient
        (0.0, -2.0, 2.0),  # a bad token is made less likely
        (math.log(1.5), 2.0, 0.0),  # good and already 1.5 times as likely: no further
        (math.log(0.5), -2.0, 0.0),  # bad and already half as likely: no further
        (math.log(0.5), 2.0, -1.0),  # good but half as likely: pulled back
        (math.log(1.5), -2.0, 3.0),  # bad but 1.5 times as likely: pushed down
    ],
)
def test_policy_gradient(log_ratio: float, advantage: float, gradient: float) -> None:
    new = torch.tensor([[log_ratio]], requires_grad=True)
    objective.policy_loss(new, torch.zeros(1, 1), torch.tensor([[advantage]]), clip_range=0.2).sum().backward()
    assert new.grad is not None
    assert new.grad.item() == pytest.approx(gradient)


def test_value_loss_equals_the_loop() -> None:
    new, old, returns = noise(9), noise(10), noise(11)
    losses = objective.value_loss(new, old, returns, clip_range=0.3)
    for i in range(3):
        for t in range(5):
            v, o, target = new[i, t].item(), old[i, t].item(), returns[i, t].item()
            near = o + 0.3 if v > o + 0.3 else o - 0.3 if v < o - 0.3 else v
            assert losses[i, t].item() == pytest.approx(max((v - target) ** 2, (near - target) ** 2) / 2, abs=1e-5)


def test_approximate_kl_and_clipped_tokens() -> None:
    new, old = noise(12, 0.3), noise(13, 0.3)
    kl, clipped = objective.approximate_kl(new, old), objective.is_clipped(new, old, 0.2)
    for i in range(3):
        for t in range(5):
            ratio = math.exp(new[i, t].item() - old[i, t].item())
            assert kl[i, t].item() == pytest.approx(ratio - 1 - math.log(ratio), abs=1e-5)
            assert bool(clipped[i, t]) == (ratio > 1.2 or ratio < 0.8)
    assert not objective.approximate_kl(old, old).any()


def test_approximate_kl_averages_to_the_exact_kl() -> None:
    old, new = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.4, 0.4, 0.2])
    exact = sum(p * math.log(p / q) for p, q in zip(old.tolist(), new.tolist(), strict=True))
    assert (old * objective.approximate_kl(new.log(), old.log())).sum().item() == pytest.approx(exact, abs=1e-6)


def test_explained_variance() -> None:
    returns = noise(14)
    assert objective.explained_variance(returns, returns, MASK) == pytest.approx(1)
    assert objective.explained_variance(returns + 5, returns, MASK) == pytest.approx(1)  # variance ignores an offset
    assert objective.explained_variance(torch.zeros(3, 5), returns, MASK) == pytest.approx(0)
    assert objective.explained_variance(-returns, returns, MASK) == pytest.approx(-3)
    assert objective.explained_variance(returns, torch.ones(3, 5), MASK) == 0  # nothing to explain


def test_two_step_task_reaches_its_optimum() -> None:
    """Choose 0 or 1 twice. 0 at first ends with 0.6 at most, 1 at first with 1 if followed by 1 and else 0.

    A policy that looks one step ahead prefers 0 (0.5 on average after 1); the optimum is 1, 1 with reward 1.
    """
    payoff = torch.tensor([[0.6, 0.4], [0.0, 1.0]])
    first = torch.tensor([0.8, 0.0], requires_grad=True)  # starts out preferring 0
    second = torch.zeros(2, 2, requires_grad=True)  # by first choice
    values = torch.zeros(3, requires_grad=True)  # at the start, after 0, after 1
    optimizer = torch.optim.Adam([first, second, values], lr=0.05)
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(64, 2, dtype=torch.bool)

    def logprobs_of(a: Tensor, b: Tensor) -> Tensor:
        return torch.stack([first.log_softmax(0)[a], second.log_softmax(1)[a, b]], dim=1)

    for _ in range(60):
        with torch.no_grad():
            a = torch.multinomial(first.softmax(0), 64, replacement=True, generator=generator)
            b = torch.multinomial(second.softmax(1)[a], 1, generator=generator)[:, 0]
            old_logprobs, old_values = logprobs_of(a, b), torch.stack([values[0].expand(64), values[1 + a]], dim=1)
            rewards = objective.token_rewards(payoff[a, b], torch.zeros(64, 2), mask, 0.0)
            advantages, returns = objective.generalized_advantages(rewards, old_values, mask, 1.0, 0.95)
            advantages = objective.whiten(advantages, mask)
        for _ in range(4):
            new_values = torch.stack([values[0].expand(64), values[1 + a]], dim=1)
            loss = objective.masked_mean(
                objective.policy_loss(logprobs_of(a, b), old_logprobs, advantages, 0.2)
                + objective.value_loss(new_values, old_values, returns, 0.2),
                mask,
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert first.softmax(0)[1].item() > 0.95
    assert second.softmax(1)[1, 1].item() > 0.95
    assert values[0].item() == pytest.approx(1.0, abs=0.1)
