"""Sampling replies in batches, with the log-probability of every token that was drawn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from groundup.core.model.cache import StockCache, prefill
from groundup.core.model.decode_step import DecodeStep
from groundup.core.model.forward import is_plain
from groundup.core.model.projection import OutputHead

# Drop ended rows once this share of the batch has ended: dropping copies the cache of the other rows.
COMPACT_SHARE = 0.2
BLOCK_TOKENS = 64
FRACTION_BITS = 52  # of a share as a whole number: sums up to 2 are exact in fp64
# Tokens of a segment of distinct_2: enough segments for an interval in evaluate, and at least two in a rollout.
DISTINCT_2_TOKENS = 500


@dataclass(frozen=True)
class Replies:
    """One reply per prompt, in the order of the prompts."""

    tokens: list[list[int]]  # without the prompt; ends with end-of-turn if the reply ended
    logprobs: list[list[float]]  # of each token
    ended: list[bool]  # with end-of-turn; the others reached max_new_tokens
    # Of each token's probability to that by which it was drawn, where another engine drew it; at most a limit.
    ratios: list[list[float]] | None = None


@dataclass(frozen=True)
class Sampler:
    """Draws replies at `temperature`; at 0, always the most likely token."""

    eos_token_id: int
    pad_token_id: int
    max_new_tokens: int
    temperature: float
    batch_size: int

    @classmethod
    def of(
        cls, tokenizer: PreTrainedTokenizerFast, max_new_tokens: int, temperature: float, batch_size: int
    ) -> "Sampler":
        return cls(tokenizer.eos_token_id, tokenizer.pad_token_id, max_new_tokens, temperature, batch_size)

    @torch.inference_mode()
    def sample(
        self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], seed: int, places: Sequence[int] | None = None
    ) -> Replies:
        """One reply per prompt, or per prompt at `places` alone.

        One uniform number decides one token, and all are drawn before the prompts are batched. So a reply depends on
        neither the batch size nor the other prompts, unless rounding moves a number to another token.
        """
        generator = torch.Generator().manual_seed(seed)
        uniforms = torch.rand(len(prompts), self.max_new_tokens, generator=generator, dtype=torch.float64)
        if places is not None:
            prompts, uniforms = [prompts[i] for i in places], uniforms[list(places)]
        replies = Replies([[] for _ in prompts], [[] for _ in prompts], [False for _ in prompts])
        # Prompts of similar length leave small gaps in the cache.
        by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        longest = self.max_new_tokens + max(map(len, prompts), default=0)
        decoder = model.base_model
        decode_step: Callable[[Any, torch.Tensor], torch.Tensor] = StockCache.step
        is_packed = False
        if is_plain(decoder):
            decode_step = fast = DecodeStep(decoder, longest)
            is_packed = fast.is_packed
        head = OutputHead(model, is_packed)
        for start in range(0, len(prompts), self.batch_size):
            rows = by_length[start : start + self.batch_size]
            tokens, logprobs = self._sample_batch(model, decode_step, head, [prompts[i] for i in rows], uniforms[rows])
            for i, row, row_logprobs in zip(rows, tokens, logprobs, strict=True):
                replies.ended[i] = self.eos_token_id in row
                length = row.index(self.eos_token_id) + 1 if replies.ended[i] else self.max_new_tokens
                replies.tokens[i] = row[:length]
                replies.logprobs[i] = row_logprobs[:length]
        return replies

    def _sample_batch(
        self,
        model: PreTrainedModel,
        decode_step: Callable[[Any, torch.Tensor], torch.Tensor],  # like Cache.step
        head: OutputHead,
        prompts: Sequence[Sequence[int]],
        uniforms: torch.Tensor,  # [B, T]
    ) -> tuple[list[list[int]], list[list[float]]]:
        """Tokens and their log-probabilities, [B, T] each; entries after an end-of-turn token have no meaning."""
        device = model.device
        num_rows, max_new_tokens = uniforms.shape
        uniforms = put_uniforms(uniforms, device)
        tokens = torch.full((num_rows, max_new_tokens), self.pad_token_id, device=device)
        logprobs = torch.zeros(num_rows, max_new_tokens, device=device)

        cache, hidden = prefill(model.base_model, prompts, max_new_tokens)
        rows = torch.arange(num_rows, device=device)  # which rows are still in the batch
        ended = torch.zeros(num_rows, dtype=torch.bool, device=device)

        for step in range(max_new_tokens):
            scores = next_token_scores(model, head(hidden), self.temperature)
            distribution = scores.softmax(-1)
            greedy = self.temperature == 0
            token = scores.argmax(-1) if greedy else sample_tokens(distribution, uniforms[rows, step])
            tokens[rows, step] = token
            logprobs[rows, step] = distribution.gather(1, token[:, None])[:, 0].log()
            ended |= token == self.eos_token_id
            num_ended = int(ended.sum())
            if num_ended == len(rows) or step + 1 == max_new_tokens:
                break
            if num_ended >= COMPACT_SHARE * len(rows):
                kept = (~ended).nonzero()[:, 0]
                cache.select(kept)
                rows, token, ended = (x[kept] for x in (rows, token, ended))
            hidden = decode_step(cache, token)
        return tokens.tolist(), logprobs.tolist()


def next_token_logprobs(model: PreTrainedModel, logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """The distribution of replies, logits [..., V] -> log-probabilities [..., V]; may change the logits in place."""
    return next_token_scores(model, logits, temperature).log_softmax(-1)


def next_token_scores(model: PreTrainedModel, logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """Logits of that distribution before the softmax, [..., V] -> [..., V]; temperature 0 is treated as 1.

    May change the logits in place: for a few tokens, a copy would take longer than the rest.

    A model's generation config lists tokens that are never generated (`suppress_tokens`, which transformers' generate
    respects too). They are excluded before the softmax, here and where log-probabilities are recomputed, so that both
    are the same distribution. Otherwise a policy could earn reward with role markers that no user can write.
    """
    logits = logits.float()
    if temperature not in (0, 1):
        logits = logits / temperature
    if model.generation_config.suppress_tokens:
        suppressed = torch.tensor(model.generation_config.suppress_tokens, device=logits.device)
        # Not -inf, which would make the entropy 0 x inf.
        logits = logits.index_fill_(-1, suppressed, torch.finfo(logits.dtype).min)
    return logits


def put_uniforms(uniforms: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Numbers in [0, 1) on the device, in fp64 except on mps, which lacks it."""
    return uniforms.to(device, torch.float32 if device.type == "mps" else torch.float64)


def sample_tokens(distribution: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Inverse transform sampling: shares of probability [B, V] and numbers in [0, 1) [B] -> tokens [B].

    First choose a block of tokens, then a token in it: a cumulative sum over the vocabulary would cost a layer's time.
    """
    missing = -distribution.shape[-1] % BLOCK_TOKENS
    blocks = (pad(distribution, (0, missing)) if missing else distribution).unflatten(-1, (-1, BLOCK_TOKENS))
    up_to = cumulative(blocks.sum(-1), uniforms.dtype)
    threshold = _below(uniforms[:, None] * up_to[:, -1:], up_to)
    block = torch.searchsorted(up_to, threshold, right=True)
    if bool((block == blocks.shape[1]).any()):  # past the end: happens with NaN
        raise ValueError(
            "the model gives no finite probabilities, so its weights have diverged: lower the learning rate it is "
            "trained with"
        )
    before = pad(up_to, (1, 0)).gather(1, block)
    inside = cumulative(blocks.gather(1, block[..., None].expand(-1, -1, BLOCK_TOKENS))[:, 0], uniforms.dtype)
    place = torch.searchsorted(inside, _below(threshold - before, inside), right=True)
    return (block * BLOCK_TOKENS + place)[:, 0]


def cumulative(shares: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Sums of shares up to each, [B, N] -> [B, N]."""
    if shares.device.type == "cuda" and torch.are_deterministic_algorithms_enabled():
        return counted_sums(shares).to(dtype)
    return shares.cumsum(-1, dtype=dtype)


def counted_sums(shares: torch.Tensor) -> torch.Tensor:
    """The same in fp64 to 2^-52, by whole numbers, whose sum has one value in any order.

    A GPU has no deterministic kernel for cumulative sums of floats.
    """
    exact = shares.double()
    sums = (exact * 2.0**FRACTION_BITS).round().long().cumsum(-1).double() / 2.0**FRACTION_BITS
    return sums + exact * 0  # NaN stays NaN


def _below(threshold: torch.Tensor, cumulative: torch.Tensor) -> torch.Tensor:
    """Keep the threshold below the last cumulative sum, which rounding may reach."""
    end = cumulative[:, -1:]
    return torch.minimum(threshold, end.nextafter(torch.zeros_like(end)))


def ended_chats(
    prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]], ended: Sequence[bool], eos_token_id: int
) -> list[list[int]]:
    """Prompts with their replies. Reward models expect chats that end, so an unfinished reply gets an end token."""
    return [
        [*prompt, *reply] if has_ended else [*prompt, *reply, eos_token_id]
        for prompt, reply, has_ended in zip(prompts, replies, ended, strict=True)
    ]


def distinct_2(replies: Sequence[Sequence[int]], num_tokens: int) -> float:
    """Distinct token bigrams over all bigrams (Li et al. 2016, arXiv:1510.03055), mean over segments of `num_tokens`.

    The share falls with the number of tokens, so it is comparable at the same number only (Johnson's mean segmental
    type-token ratio, 1944).
    """
    shares = distinct_2_by_segment(replies, num_tokens)
    return sum(shares) / len(shares)


def distinct_2_by_segment(replies: Sequence[Sequence[int]], num_tokens: int) -> list[float]:
    """Cut the replies, in their order, into segments of `num_tokens` tokens and leave out the rest; no bigram crosses
    from one reply into the next. Replies with fewer tokens in all are one segment, comparable with no other.
    """
    ends = list(accumulate(map(len, replies), initial=0))
    num_segments = max(1, ends[-1] // num_tokens)
    bigrams: list[list[tuple[int, int]]] = [[] for _ in range(num_segments)]
    for start, reply in zip(ends, replies, strict=False):
        for place, pair in enumerate(pairwise(reply), start):
            segment = place // num_tokens
            if segment < num_segments and (place + 1) // num_tokens == segment:
                bigrams[segment].append(pair)
    return [len(set(found)) / max(1, len(found)) for found in bigrams]
