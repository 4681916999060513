"""The matrix products of one forward and backward pass, timed by themselves."""

import time
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

Shape = tuple[int, int, int, int]  # batch, rows, inner, columns


@dataclass
class Product:
    """`count` times [batch, rows, inner] @ [batch, inner, columns]."""

    name: str
    shape: Shape
    count: int
    left: Tensor
    right: Tensor
    out: Tensor

    @property
    def flops(self) -> float:
        batch, rows, inner, columns = self.shape
        return 2.0 * batch * rows * inner * columns * self.count

    def seconds(self) -> float:
        start = time.perf_counter()
        for _ in range(self.count):
            if self.out.ndim == 2:
                torch.mm(self.left, self.right, out=self.out)
            else:
                torch.bmm(self.left, self.right, out=self.out)
        return time.perf_counter() - start


def products_of_step(model: LlamaForCausalLM, rows: int, context: int) -> list[Product]:
    """Operands lie in memory as in the step (transposed where it transposes); results go where memory is ready."""
    linears = Counter(
        (module.in_features, module.out_features) for module in model.modules() if isinstance(module, torch.nn.Linear)
    )
    found = []
    for (inputs, outputs), count in linears.items():
        x, y, weight = (
            torch.randn(*size) for size in ((rows * context, inputs), (rows * context, outputs), (outputs, inputs))
        )
        name = f"linear {inputs} to {outputs}"
        found += [
            product(f"{name}, forward", x, weight.t(), count),
            product(f"{name}, gradient of input", y, weight, count),
            product(f"{name}, gradient of weight", y.t(), x, count),
        ]
    config = model.config
    heads, head_dim = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    states = torch.randn(rows * heads, context, head_dim)
    weights = torch.randn(rows * heads, context, context)
    layers = config.num_hidden_layers
    return [
        *found,
        product("attention, scores and gradient of weights", states, states.mT, 2 * layers),
        product("attention, values and gradient of queries", weights, states, 2 * layers),
        product("attention, gradient of keys and of values", weights.mT, states, 2 * layers),
    ]


def product(name: str, left: Tensor, right: Tensor, count: int) -> Product:
    batch = left.shape[0] if left.ndim == 3 else 1
    out = torch.zeros(*left.shape[:-1], right.shape[-1])
    return Product(name, (batch, *left.shape[-2:], right.shape[-1]), count, left, right, out)


def model_flops(model: LlamaForCausalLM, rows: int, context: int) -> float:
    """Of one step: tokens * (6 N + 12 L H T), as in PaLM (Chowdhery et al. 2022, arXiv:2204.02311), appendix B.

    N: weights of all linear layers, the head included; the lookup of embeddings and the norms are none. The second
    term is attention over the whole context T, nothing deducted for what the mask rules out, H the hidden size.
    """
    num_weights = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear))
    config = model.config
    attention = 12 * config.num_hidden_layers * config.hidden_size * context
    return float(rows * context * (6 * num_weights + attention))
