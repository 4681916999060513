"""Causal linear attention (Katharopoulos et al. 2020, arXiv:2006.16236), registered with transformers.

A key has the weight phi(q) . phi(k) instead of exp(q . k), with phi(x) = elu(x) + 1.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

NAME = "groundup_linear"  # in transformers' list of attention functions
EPSILON = 1e-6  # as in the authors' code: a query without visible keys, such as padding, gets zeros


def feature_map(x: Tensor) -> Tensor:
    return F.elu(x) + 1


def parallel(queries: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None, dropout: float = 0.0) -> Tensor:
    """[B, heads, T, D], keys and values [B, kv_heads, S, D], visible [B, 1, T, S] or None for causal -> as queries.

    For causal attention the T queries are the last T of S positions.
    """
    groups = queries.shape[1] // keys.shape[1]
    keys, values = (x.repeat_interleave(groups, dim=1) for x in (feature_map(keys), values))
    weights = feature_map(queries) @ keys.transpose(-1, -2)
    if visible is None:
        weights = weights.tril(weights.shape[-1] - weights.shape[-2])
    else:
        weights = weights.masked_fill(~visible, 0)
    # In fp32: in bf16 a sum over many keys would stop growing.
    weights = weights / (weights.sum(-1, keepdim=True, dtype=torch.float32) + EPSILON).to(weights.dtype)
    return F.dropout(weights, dropout) @ values


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
AttentionMaskInterface.register(NAME, sdpa_mask)  # without it, padding and packed documents would leak
