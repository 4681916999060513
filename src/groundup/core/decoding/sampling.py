"""Token by token decoding: rows that grow together from prefixes computed once, and the choice of the next token."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from groundup.core.decoding.assistant import Assistant
from groundup.core.decoding.settings import Decoding
from groundup.core.model.cache import prefill
from groundup.core.model.generation import next_token_logprobs, put_uniforms, sample_tokens
from groundup.core.model.head import output_logits


class Rows:
    """Replies that grow by one token per step. Several rows can start from the same prefix."""

    @torch.no_grad()
    def __init__(
        self,
        model: PreTrainedModel,
        prefixes: Sequence[Sequence[int]],
        starts: Sequence[int],  # for each row, the index of its prefix
        max_new_tokens: int,
    ) -> None:
        self.model = model
        self.cache, self.hidden = prefill(model.base_model, prefixes, max_new_tokens)  # [B, H]
        self.select(torch.tensor(starts, device=model.device))

    @torch.no_grad()
    def logits(self) -> Tensor:
        """Logits of each row's next token, [B, V]."""
        return output_logits(self.model, self.hidden)

    @torch.no_grad()
    def advance(self, tokens: Tensor) -> None:
        """Append one token to each row, [B]."""
        self.hidden = self.cache.step(tokens)

    def select(self, rows: Tensor) -> None:
        self.cache.select(rows)
        self.hidden = self.hidden[rows]


def stream(assistant: Assistant, prompt: Sequence[int], decoding: Decoding) -> Iterator[int]:
    """The tokens of one reply as they are chosen, including end-of-turn; for greedy and sample."""
    model = assistant.model
    rows = Rows(model, [prompt], [0], decoding.max_new_tokens)
    uniforms = put_uniforms(draw_uniforms(1, decoding.max_new_tokens, generator(decoding)), model.device)
    written = torch.empty(1, 0, dtype=torch.long, device=model.device)
    for step in range(decoding.max_new_tokens):
        token = choose(model, rows.logits(), written, uniforms[:, step], decoding)
        yield int(token)
        if int(token) == assistant.tokenizer.eos_token_id or step + 1 == decoding.max_new_tokens:
            break
        written = torch.cat([written, token[:, None]], dim=1)
        rows.advance(token)


def extend(
    assistant: Assistant,
    prompt: Sequence[int],
    replies: Sequence[Sequence[int]],
    starts: Sequence[int],
    stops: Callable[[list[int]], bool],
    uniforms: Tensor,
    decoding: Decoding,
) -> list[list[int]]:
    """A longer reply for each of `starts`, the indices of the partial replies to continue.

    A reply grows until `stops` is true for it, or by one token per number in `uniforms` [N, T], which is on the CPU.
    """
    model, width = assistant.model, uniforms.shape[1]
    grown = [list(replies[start]) for start in starts]
    rows = Rows(model, [[*prompt, *reply] for reply in replies], starts, width)
    longest = max(len(reply) for reply in replies)
    # The tokens so far, for the repetition penalty; padding is never chosen anyway.
    written = torch.full((len(grown), longest + width), assistant.tokenizer.pad_token_id)
    for row, reply in zip(written, grown, strict=True):
        row[: len(reply)] = torch.tensor(reply)
    written, uniforms = written.to(model.device), put_uniforms(uniforms, model.device)
    numbers = torch.arange(len(grown), device=model.device)  # which replies still grow
    for step in range(width):
        tokens = choose(model, rows.logits(), written[numbers, : longest + step], uniforms[numbers, step], decoding)
        written[numbers, longest + step] = tokens
        growing = []
        for place, (number, token) in enumerate(zip(numbers.tolist(), tokens.tolist(), strict=True)):
            grown[number].append(token)
            if not stops(grown[number]):
                growing.append(place)
        if not growing or step + 1 == width:
            break
        if len(growing) < len(numbers):
            kept = torch.tensor(growing, device=model.device)
            numbers, tokens = numbers[kept], tokens[kept]
            rows.select(kept)
        rows.advance(tokens)
    return grown


def choose(model: PreTrainedModel, logits: Tensor, written: Tensor, uniforms: Tensor, decoding: Decoding) -> Tensor:
    """The next token of each row [B] from its logits [B, V], its reply so far [B, T] and a number in [0, 1) [B].

    The repetition penalty counts the reply only: over the whole prompt, it would penalize end-of-turn for every turn.
    """
    scores = logits.float()
    if decoding.repetition_penalty > 1:
        scores = RepetitionPenaltyLogitsProcessor(decoding.repetition_penalty)(written, scores)
    if decoding.method == "greedy" or decoding.temperature == 0:
        return next_token_logprobs(model, scores, 0.0).argmax(-1)
    filters = LogitsProcessorList()
    if decoding.top_k > 0:
        filters.append(TopKLogitsWarper(decoding.top_k))
    if decoding.top_p < 1:
        filters.append(TopPLogitsWarper(decoding.top_p))
    if decoding.min_p > 0:
        filters.append(MinPLogitsWarper(decoding.min_p))
    # The filtered probabilities need not sum to 1: `sample_tokens` scales its number.
    return sample_tokens(filters(written, next_token_logprobs(model, scores, decoding.temperature)).exp(), uniforms)


def generator(decoding: Decoding) -> torch.Generator:
    return torch.Generator().manual_seed(decoding.seed)


def draw_uniforms(num_rows: int, num_tokens: int, generator: torch.Generator) -> Tensor:
    """A number in [0, 1) for every token of every row, on the CPU: a row's tokens do not depend on other rows."""
    return torch.rand(num_rows, num_tokens, generator=generator, dtype=torch.float64)
