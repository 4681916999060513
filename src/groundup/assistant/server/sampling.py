"""How the next token of a reply is chosen."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaForCausalLM
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from groundup.model.generation import draw, next_token_logprobs


@dataclass(frozen=True)
class Sampling:
    temperature: float  # 0 takes the likeliest token
    top_k: int  # 0 for all
    top_p: float
    min_p: float
    repetition_penalty: float  # of tokens that stand in the reply already


def choose(
    model: LlamaForCausalLM, logits: Tensor, written: Sequence[list[int]], uniforms: Tensor, sampling: Sampling
) -> Tensor:
    """The next token [B] of each row from its logits [B, V], the tokens of its reply so far and a number in [0, 1)."""
    scores = logits.float()
    if sampling.repetition_penalty != 1:
        so_far = pad_sequence(
            [torch.tensor(tokens, dtype=torch.long) for tokens in written],
            batch_first=True,
            padding_value=model.config.pad_token_id,  # which is never said
        )
        scores = RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)(so_far.to(logits.device), scores)
    if sampling.temperature == 0:
        return next_token_logprobs(model, scores, 0.0).argmax(-1)
    logprobs = next_token_logprobs(model, scores, sampling.temperature)
    filters = LogitsProcessorList()
    if sampling.top_k > 0:
        filters.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        filters.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p > 0:
        filters.append(MinPLogitsWarper(sampling.min_p))
    return draw(filters(torch.empty(0), logprobs), uniforms.to(logits.device))
