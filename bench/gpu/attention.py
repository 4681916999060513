"""Which attention kernel torch takes for the shapes of groundup, what a new shape costs, and whether it is right."""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend
from torch.nn.functional import scaled_dot_product_attention

from bench.gpu.machine import Machine, kernels
from bench.gpu.rows import Figure, Figures, Measurement

HEAD = 64
NAMES = {
    int(backend.value): name.removesuffix("_ATTENTION").lower() for name, backend in SDPBackend.__members__.items()
}


def measurements(machine: Machine) -> Iterator[Measurement]:
    for name, make in SHAPES.items():
        yield Measurement(
            f"kernel for {name}", "bf16 and fp32, cuDNN's attention on and off", partial(chosen, machine, make)
        )
    for cudnn in (True, False):
        yield Measurement(
            f"first call at a new length, cuDNN {'on' if cudnn else 'off'}",
            "cuDNN the other way; it plans for every new shape",
            partial(first_calls, machine, cudnn),
        )
        yield Measurement(
            f"gradient with a mask and very small weights, cuDNN {'on' if cudnn else 'off'}",
            "finite numbers (pytorch issue 196678)",
            partial(gradient, machine, cudnn),
        )


def states(machine: Machine, batch: int, queries: int, keys: int, dtype: torch.dtype) -> list[Tensor]:
    heads = machine.sizes.num_heads
    return [torch.randn(batch, heads, n, HEAD, device=machine.device, dtype=dtype) for n in (queries, keys, keys)]


def pretraining(machine: Machine, dtype: torch.dtype) -> tuple[list[Tensor], Tensor | None, float, bool]:
    length = machine.sizes.context_length
    mask = torch.ones(2, 1, length, length, dtype=torch.bool, device=machine.device)
    return states(machine, 2, length, length, dtype), mask, 0.0, False


def packed(machine: Machine, dtype: torch.dtype) -> tuple[list[Tensor], Tensor | None, float, bool]:
    return states(machine, 1, 391, 391, dtype), None, 0.0, True


def decoding(machine: Machine, dtype: torch.dtype) -> tuple[list[Tensor], Tensor | None, float, bool]:
    bias = torch.zeros(16, 1, 1, 391, device=machine.device, dtype=dtype)
    return states(machine, 16, 1, 391, dtype), bias, 0.0, False


def reward(machine: Machine, dtype: torch.dtype) -> tuple[list[Tensor], Tensor | None, float, bool]:
    mask = torch.ones(1, 1, 256, 256, dtype=torch.bool, device=machine.device)
    return states(machine, 1, 256, 256, dtype), mask, 0.0, False


Make = Callable[[Machine, torch.dtype], tuple[list[Tensor], Tensor | None, float, bool]]
SHAPES: dict[str, Make] = {
    "rows of documents": pretraining,
    "one packed chat": packed,
    "a step of decoding": decoding,
    "a comparison of the reward model": reward,
}


def chosen(machine: Machine, make: Make) -> Figures:
    found: dict[str, Figure] = {}
    for dtype in (torch.bfloat16, torch.float32):
        (queries, keys, values), mask, dropout, is_causal = make(machine, dtype)
        for cudnn in (True, False):
            with kernels(cudnn=cudnn):
                choice = torch._fused_sdp_choice(queries, keys, values, mask, dropout, is_causal)
            found[f"{str(dtype)[6:]} {'on' if cudnn else 'off'}"] = NAMES.get(int(choice), str(choice))
    return found


def first_calls(machine: Machine, cudnn: bool) -> Figures:
    """ms, the median over lengths that no call has had."""
    taken = []
    with kernels(cudnn=cudnn):
        for length in range(201, 213) if cudnn else range(301, 313):
            queries, keys, values = (x.requires_grad_() for x in states(machine, 1, length, length, torch.bfloat16))
            machine.wait()
            start = time.perf_counter()
            scaled_dot_product_attention(queries, keys, values, is_causal=True).sum().backward()
            machine.wait()
            taken.append(1e3 * (time.perf_counter() - start))
    return {"ms forward and backward": statistics.median(taken)}


def gradient(machine: Machine, cudnn: bool) -> Figures:
    """Scores so low that the log of their sum is below the smallest exponent, at a length of 64 modulo 128."""
    length = 704
    queries, keys, values = (
        torch.randn(1, 1, length, HEAD, device=machine.device, dtype=torch.bfloat16) * scale
        for scale in (0.1, 0.1, 1.0)
    )
    queries[..., 0], keys[..., 0] = 1.0, -120 * math.sqrt(HEAD)
    mask = torch.ones(length, length, dtype=torch.bool, device=machine.device).tril()[None, None]
    with kernels(cudnn=cudnn):
        out = scaled_dot_product_attention(queries.requires_grad_(), keys, values, attn_mask=mask)
        (found,) = torch.autograd.grad(out.sum(), queries)
    return {"not finite": int((~found.isfinite()).sum())}
