"""The loss in blocks is torch's cross-entropy, gradients included."""

import math

import pytest
import torch
from torch.nn import functional as F

from groundup.pretrain.cross_entropy import BLOCK_TOKENS, linear_cross_entropy

VOCABULARY, WIDTH = 50, 8


@pytest.mark.parametrize("num_tokens", [1, BLOCK_TOKENS, 2 * BLOCK_TOKENS + 3])
def test_loss_and_gradients_are_those_of_the_whole_logits(num_tokens: int) -> None:
    generator = torch.Generator().manual_seed(num_tokens)
    hidden = torch.randn(num_tokens, WIDTH, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(VOCABULARY, (num_tokens,), generator=generator)
    expected = F.cross_entropy(hidden @ weight.T, labels)
    loss = linear_cross_entropy(hidden, weight, labels)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    gradients = torch.autograd.grad(3 * loss, (hidden, weight))
    for gradient, reference in zip(gradients, torch.autograd.grad(3 * expected, (hidden, weight)), strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-4, atol=1e-6)


def test_logits_of_a_thousand_do_not_overflow() -> None:
    hidden = torch.tensor([[1000.0], [-1000.0]])
    weight = torch.tensor([[1.0], [0.0]])
    assert linear_cross_entropy(hidden, weight, torch.tensor([0, 0])).item() == pytest.approx(500.0)


def test_without_a_label_the_loss_is_nan() -> None:
    hidden, weight = torch.ones(0, WIDTH), torch.ones(VOCABULARY, WIDTH)
    assert math.isnan(linear_cross_entropy(hidden, weight, torch.ones(0, dtype=torch.long)).item())


def test_autocast_multiplies_in_bf16_and_sums_in_fp32() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(9, WIDTH, generator=generator, requires_grad=True)
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator, requires_grad=True)
    labels = torch.arange(9)
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(hidden, weight, labels)
    rounded = F.cross_entropy((hidden.bfloat16() @ weight.bfloat16().T).float(), labels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(rounded.item(), rel=1e-6)
    loss.backward()
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.float32
