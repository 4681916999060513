"""Causal linear attention (Katharopoulos et al. 2020, arXiv:2006.16236) as matrices and as a recurrence.

Instead of exp(q . k), a key weighs phi(q) . phi(k), phi(x) = elu(x) + 1. So all that a sequence needs to remember is
W = sum of phi(k) v^T and the normalizer z = sum of phi(k): memory and time of a new token do not grow with its place.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask
from transformers.models.llama.modeling_llama import LlamaAttention

NAME = "groundup_linear"  # among transformers' attention functions
EPSILON = 1e-6  # as in the authors' code: a query that sees nothing, such as one of padding, gets zeros


def feature_map(x: Tensor) -> Tensor:
    return F.elu(x) + 1


def parallel(queries: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None, dropout: float = 0.0) -> Tensor:
    """[B, heads, T, D], keys and values [B, kv_heads, S, D], visible [B, 1, T, S] or None for causal -> as queries.

    For causal attention the T queries are the last T of S places.
    """
    groups = queries.shape[1] // keys.shape[1]
    keys, values = (x.repeat_interleave(groups, dim=1) for x in (feature_map(keys), values))
    weights = feature_map(queries) @ keys.transpose(-1, -2)
    if visible is None:
        weights = weights.tril(weights.shape[-1] - weights.shape[-2])
    else:
        weights = weights.masked_fill(~visible, 0)
    # In fp32: under bf16 a sum over many keys would stop growing.
    weights = weights / (weights.sum(-1, keepdim=True, dtype=torch.float32) + EPSILON).to(weights.dtype)
    return F.dropout(weights, dropout) @ values


def recur(weight: Tensor, normalizer: Tensor, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """One new token a sequence: [B, heads, D], keys and values [B, kv_heads, D] -> [B, heads, D].

    Takes the token into W [B, kv_heads, D, D] and z [B, kv_heads, D], in place.
    """
    features = feature_map(keys)
    weight += features[..., None] * values[..., None, :]
    normalizer += features
    asked = feature_map(queries).unflatten(1, (keys.shape[1], -1))  # [B, kv_heads, groups, D]
    attended = asked @ weight.to(asked.dtype) / ((asked * normalizer[:, :, None]).sum(-1, keepdim=True) + EPSILON)
    return attended.flatten(1, 2).to(queries.dtype)


class RecurrentState:
    """W and z of each layer and sequence: what linear attention has in place of a KeyValueCache."""

    def __init__(self, prompt_lengths: Sequence[int], device: torch.device) -> None:
        self.positions = torch.tensor(prompt_lengths, device=device) - 1  # [B] of the newest token
        self.weights: list[Tensor] = []  # of each layer, [B, kv_heads, D, D]
        self.normalizers: list[Tensor] = []  # [B, kv_heads, D]

    def fill(self, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        """Those of each prompt in the next layer, [kv_heads, L, D] each."""
        features = [feature_map(rows).float() for rows in keys]
        pairs = zip(features, values, strict=True)
        with torch.autocast(keys[0].device.type, enabled=False):  # sums that go on growing stay in fp32
            self.weights.append(torch.stack([rows.transpose(-1, -2) @ value.float() for rows, value in pairs]))
        self.normalizers.append(torch.stack([rows.sum(-2) for rows in features]))

    def advance(self) -> None:
        """To the next token of each sequence."""
        self.positions = self.positions + 1

    def select(self, rows: Tensor) -> None:
        """Drops all other sequences; one that is named twice is two from here on."""
        self.positions = self.positions[rows]
        self.weights = [weight[rows] for weight in self.weights]
        self.normalizers = [normalizer[rows] for normalizer in self.normalizers]

    def __call__(self, block: LlamaAttention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return recur(self.weights[block.layer_idx], self.normalizers[block.layer_idx], queries, keys, values)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    **unused: object,
) -> tuple[Tensor, None]:
    """transformers' interface: [B, heads, T, D] -> [B, T, heads, D]. Linear attention has no scale."""
    attended = parallel(query, key, value, attention_mask, dropout)
    return attended.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)  # without one there is no mask: padding and packed documents leak
