"""A hand-written training loop in the manner of nanoGPT: plain PyTorch, one file, no framework.

The network has the shape of ours: RMSNorm, rotary positions, SwiGLU, tied embeddings. So has the optimizer: Muon for
2-D hidden weights, AdamW for the others. Like nanoGPT it lets attention cross documents (`is_causal`), unless told
where they are. Nothing here imports groundup.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, width: int, num_heads: int, intermediate: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.gate_up = nn.Linear(width, 2 * intermediate, bias=False)
        self.down = nn.Linear(intermediate, width, bias=False)
        self.norms = nn.ModuleList([nn.RMSNorm(width, eps=1e-6) for _ in range(2)])
        for linear in (self.qkv, self.gate_up):
            nn.init.normal_(linear.weight, std=0.02)
        for linear in (self.out, self.down):
            nn.init.zeros_(linear.weight)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = self.qkv(self.norms[0](x)).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        gate, up = self.gate_up(self.norms[1](x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


class Network(nn.Module):
    def __init__(
        self, vocab_size: int, context: int, width: int, num_layers: int, num_heads: int, intermediate: int
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, width)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.blocks = nn.ModuleList([Block(width, num_heads, intermediate) for _ in range(num_layers)])
        self.norm = nn.RMSNorm(width, eps=1e-6)
        half = width // num_heads // 2
        angles = torch.arange(context)[:, None] * 10000.0 ** (-torch.arange(half) / half)
        self.cos, self.sin = angles.cos(), angles.sin()

    def forward(self, ids: Tensor, targets: Tensor, mask: Tensor | None) -> Tensor:
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x, self.cos, self.sin, mask)
        logits = F.linear(self.norm(x), self.embed.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class Muon(torch.optim.Optimizer):
    """As Jordan wrote it in 2024, each weight by itself, in fp32."""

    def __init__(self, parameters: list[nn.Parameter], lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                x = parameter.grad.lerp(state["momentum"], group["momentum"])
                tall = x.shape[0] > x.shape[1]
                x = x.t() if tall else x
                x = x / (x.norm() + 1e-7)
                for _ in range(5):
                    gram = x @ x.t()
                    x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
                x = x.t() if tall else x
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                scale = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
                parameter.add_(x, alpha=-group["lr"] * scale)


class Loop:
    """Trains `network` on random stretches of a stream of tokens, a few steps at a time."""

    def __init__(
        self, network: Network, tokens: np.ndarray, documents: np.ndarray | None, rows: int, context: int, seed: int
    ) -> None:
        """`documents` [num_tokens], the number of each token's document, keeps attention inside documents."""
        self.network, self.tokens, self.documents = network, tokens, documents
        self.rows, self.context = rows, context
        self.random = np.random.default_rng(seed)
        self.causal = torch.ones(context, context, dtype=torch.bool).tril()
        hidden = [p for p in network.blocks.parameters() if p.ndim == 2]
        norms = [p for p in network.parameters() if p.ndim == 1]
        groups = [{"params": [network.embed.weight], "weight_decay": 0.05}, {"params": norms, "weight_decay": 0.0}]
        self.optimizers: list[torch.optim.Optimizer] = [
            Muon(hidden, lr=0.02, momentum=0.95, weight_decay=0.05),
            torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.95), fused=True),
        ]

    def train(self, num_steps: int) -> float:
        """The last loss."""
        loss = torch.zeros(())
        for _ in range(num_steps):
            ids, targets, mask = self.batch()
            loss = self.network(ids, targets, mask)
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            for optimizer in self.optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def batch(self) -> tuple[Tensor, Tensor, Tensor | None]:
        starts = self.random.integers(len(self.tokens) - self.context, size=self.rows)
        rows = torch.from_numpy(np.stack([self.tokens[s : s + self.context + 1] for s in starts]).astype(np.int64))
        mask = None
        if self.documents is not None:
            numbers = torch.from_numpy(np.stack([self.documents[s : s + self.context] for s in starts]))
            mask = ((numbers[:, :, None] == numbers[:, None, :]) & self.causal)[:, None]
        return rows[:, :-1], rows[:, 1:], mask
