"""The mathematics of PPO. Tensors are [B, T]: B replies, T tokens; `mask` is true where a reply has a token.

A reply is one episode and each of its tokens one action. The value of position t is that of the state *before*
token t. A reply that reaches the token limit is terminal, like one that ends its turn: the limit belongs to
the task (the user sees the reply as it is), so nothing is bootstrapped after it (Pardo et al. 2018,
arXiv:1712.00378).
"""

import torch
from torch import Tensor


def token_rewards(rewards: Tensor, kl: Tensor, mask: Tensor, kl_coefficient: float) -> Tensor:
    """Reward of each token: the KL penalty on all, and the reward [B] of the reply on its last token."""
    last = mask.sum(1, keepdim=True) - 1
    return (-kl_coefficient * kl * mask).scatter_add(1, last, rewards[:, None])


def generalized_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, discount: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Advantages and returns, zero outside the mask (Schulman et al. 2016, arXiv:1506.02438)."""
    rewards, values = rewards * mask, values * mask  # all zero after the last token, which is terminal
    advantages = torch.zeros_like(values)
    next_value = next_advantage = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + discount * next_value - values[:, t]
        advantages[:, t] = delta + discount * gae_lambda * next_advantage
        next_value, next_advantage = values[:, t], advantages[:, t]
    return advantages, advantages + values


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    return (x * mask).sum() / mask.sum()


def whiten(x: Tensor, mask: Tensor) -> Tensor:
    """Mean 0 and variance 1 over the mask, zero outside it."""
    centred = x - masked_mean(x, mask)
    return centred * masked_mean(centred.square(), mask).add(1e-8).rsqrt() * mask


def policy_loss(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, clip_range: float) -> Tensor:
    """Negated clipped surrogate of each token."""
    ratio = (logprobs - old_logprobs).exp()
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip_range: float) -> Tensor:
    """Half the squared error of each token: the larger of that of the value and that of the clipped value."""
    clipped = old_values + (values - old_values).clamp(-clip_range, clip_range)
    return 0.5 * torch.maximum((values - returns).square(), (clipped - returns).square())


def is_clipped(logprobs: Tensor, old_logprobs: Tensor, clip_range: float) -> Tensor:
    return ((logprobs - old_logprobs).exp() - 1).abs() > clip_range


def approximate_kl(logprobs: Tensor, old_logprobs: Tensor) -> Tensor:
    """Distance of an update from the sampling policy: its KL by token, never negative (Schulman's k3)."""
    log_ratio = logprobs - old_logprobs
    return log_ratio.exp() - 1 - log_ratio


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """1 - Var[returns - values] / Var[returns] over the mask: 1 is perfect, 0 no better than a constant."""
    error, target = (returns - values)[mask], returns[mask]
    if target.numel() < 2 or target.var() == 0:
        return 0.0
    return 1 - float(error.var() / target.var())
