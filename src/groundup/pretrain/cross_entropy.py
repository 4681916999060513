"""Cross-entropy of a language model's head in blocks of tokens, so that all logits of a batch are never in memory.

At a vocabulary of 4096 they are by far the largest tensor of a step; a block of them fits into the CPU's cache.
"""

from typing import Any

import torch
from torch import Tensor

BLOCK_TOKENS = 512


def linear_cross_entropy(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of softmax(hidden weight^T) and the labels; NaN without labels.

    hidden: [N, D], weight: [V, D], labels: [N]. Products use autocast's precision if it is on, the rest fp32.
    """
    loss: Tensor = _LinearCrossEntropy.apply(hidden, weight, labels)
    return loss


class _LinearCrossEntropy(torch.autograd.Function):
    """Computes the gradients in the forward pass, while a block's logits are in memory; none of a frozen weight."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        states, targets, head = hidden.to(dtype), labels[:, None], weight.to(dtype)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        to_states = torch.empty_like(states)
        to_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        for start in range(0, len(states), BLOCK_TOKENS):
            block = slice(start, start + BLOCK_TOKENS)
            logits = (states[block] @ head.T).float()
            probabilities = logits.softmax(-1)
            # log sum exp from the largest probability of each row, which cannot underflow.
            largest, its_log = logits.amax(-1), probabilities.amax(-1).log()
            total += (largest - its_log - logits.gather(1, targets[block])[:, 0]).sum()
            difference = probabilities.scatter_add_(
                1, targets[block], -torch.ones_like(targets[block], dtype=torch.float32)
            )
            to_states[block] = difference.to(dtype) @ head
            if to_weight is not None:
                to_weight += difference.to(dtype).T @ states[block]
        gradient = None if to_weight is None else (to_weight / len(states)).to(weight.dtype)
        ctx.save_for_backward(to_states.to(hidden.dtype) / len(states), gradient)
        return total / len(states)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        to_hidden, to_weight = ctx.saved_tensors
        return to_hidden * gradient, None if to_weight is None else to_weight * gradient, None
