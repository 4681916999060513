"""Adapters of our models for lm-evaluation-harness: strings in, log-likelihoods out."""

from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from groundup.core.formats.chat_format import document_ends, encode_text
from groundup.core.formats.jsonl import Row
from groundup.core.model.bits_per_byte import document_windows
from groundup.core.model.branches import Branches
from groundup.core.model.context import context_length
from groundup.core.model.likelihood import own_distribution, stretch_nats
from groundup.core.training.ranks import by_share
from groundup.evaluate.ngram import NgramModel
from groundup.evaluate.reply_likelihood import shared_scores

# (context and continuation as strings, tokens of the context, tokens of the continuation)
TokenRequest = tuple[tuple[str, str], list[int], list[int]]
LogLikelihood = tuple[float, bool]  # nats, and whether greedy decoding gives the same tokens
KEPT_STRINGS = 2**14  # tokenize a prompt once, not for every choice and model


class Encoder:
    """Token ids of a string, in which special tokens are recognized; a text starts as documents do in training.

    choices: rows of `choice_row`. Their chats have ids that not every tokenizer gives for their text again.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, choices: Iterable[Row] = ()) -> None:
        self.tokenizer = tokenizer
        self.start, self.end = document_ends(tokenizer)
        self.chats = {
            (row["prompt"], reply): (list(row["prompt_ids"]), list(ids))
            for row in choices
            for reply, ids in zip(row["replies"], row["reply_ids"], strict=True)
        }
        self._start = str(tokenizer.convert_ids_to_tokens(self.start))
        self._ids = lru_cache(maxsize=KEPT_STRINGS)(self._encode)

    def ids(self, string: str, starts_a_text: bool) -> list[int]:
        return list(self._ids(self.started(string) if starts_a_text else string))

    def started(self, string: str) -> str:
        return string if string.startswith(self._start) else self._start + string

    def _encode(self, string: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(string, add_special_tokens=False)["input_ids"])


class LoadedModel(HFLM):
    """A loaded model. Replies to one prompt share its forward pass, which is twice as fast as HFLM's own method.

    Ranks share the prompts.
    """

    def __init__(self, model: PreTrainedModel, encoder: Encoder, batch_size: int) -> None:
        super().__init__(
            pretrained=model,
            tokenizer=encoder.tokenizer,
            batch_size=batch_size,
            max_length=context_length(model, encoder.tokenizer),
        )
        self.encoder = encoder

    @property
    def prefix_token_id(self) -> int:
        return self.encoder.start

    def tok_encode(self, string: str, add_special_tokens: bool | None = None) -> list[int]:
        return self.encoder.ids(string, starts_a_text=add_special_tokens is None)

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        return self.encoder.chats.get((context, continuation)) or super()._encode_pair(context, continuation)

    def tok_batch_encode(
        self,
        strings: list[str],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return super().tok_batch_encode(
            list(map(self.encoder.started, strings)), padding_side, left_truncate_len, truncation
        )

    def _loglikelihood_tokens(
        self, requests: list[TokenRequest], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[LogLikelihood]:
        by_context: dict[tuple[int, ...], list[int]] = {}
        for i, (_, context, _) in enumerate(requests):
            by_context.setdefault(tuple(context), []).append(i)
        items = [
            fit(context, [requests[i][2] for i in asked], self.max_length) for context, asked in by_context.items()
        ]
        found: list[LogLikelihood] = [(0.0, False)] * len(requests)
        scores = shared_scores(self.model, items, self.batch_size)
        for asked, scored in zip(by_context.values(), scores, strict=True):
            for i, (nats, greedy) in zip(asked, scored, strict=True):
                found[i] = (-nats, greedy)
        return found

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """As in pretrain: overlapping windows, with the end of the text counted."""
        windows = [document_windows(self.tokenizer, request.args[0], self.max_length) for request in requests]
        stretches = [window for group in windows for window in group]
        score = partial(stretch_nats, self.model, batch_size=self.batch_size, distribution=own_distribution)
        nats = iter(by_share(score, stretches))
        return [-sum(next(nats) for _ in group) for group in windows]


def fit(context: Sequence[int], replies: list[list[int]], context_length: int) -> Branches:
    """Cut replies to half the context, then the start of a prompt that is too long."""
    replies = [reply[: max(1, context_length // 2)] for reply in replies]
    room = context_length + 1 - max(map(len, replies))
    return Branches(list(context[-room:]), replies)


class LoadedNgrams(TemplateLM):
    """An n-gram model; it uses only the last few tokens of a prompt."""

    def __init__(self, model: NgramModel, encoder: Encoder) -> None:
        super().__init__()
        self.ngrams = model
        self.encoder = encoder
        self.tokenizer = encoder.tokenizer

    @property
    def eot_token_id(self) -> int:
        return self.encoder.end

    @property
    def prefix_token_id(self) -> int:
        return self.encoder.start

    def tok_encode(self, string: str, add_special_tokens: bool | None = None) -> list[int]:
        return self.encoder.ids(string, starts_a_text=add_special_tokens is None)

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        return self.encoder.chats.get((context, continuation)) or super()._encode_pair(context, continuation)

    def _loglikelihood_tokens(self, requests: list[TokenRequest], disable_tqdm: bool = False) -> list[LogLikelihood]:
        # The greedy flag is unused: only multiple choice and bits per byte are measured.
        context = len(self.ngrams.levels) + 1
        return [
            (float(self.ngrams.log_probs(before[-context:] + asked)[-len(asked) :].sum()), False)
            for _, before, asked in requests
        ]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        return [float(self.ngrams.log_probs(self._document(request.args[0])).sum()) for request in requests]

    def _document(self, text: str) -> list[int]:
        return [self.prefix_token_id, *encode_text(self.encoder.tokenizer, text), self.eot_token_id]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        raise TypeError("n-grams only have likelihoods and cannot run tasks that generate (see named.LIKELIHOODS)")
