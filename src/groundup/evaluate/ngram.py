"""An n-gram model of tokens: the baseline that counting alone gives."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from groundup.core.formats.chat_format import reply_start
from groundup.core.formats.control_tokens import encode_texts
from groundup.core.formats.jsonl import read_jsonl
from groundup.core.formats.shards import read_manifest
from groundup.core.judging.statistics import Floats
from groundup.core.text.words import Hashes, ngram_hashes

BATCH_REPLIES = 1024


class NgramModel:
    """Interpolated absolute discounting (Ney, Essen and Kneser 1994); order 1 is add-one smoothing."""

    def __init__(self, tokens: Hashes, order: int, vocab_size: int) -> None:
        counts = np.bincount(tokens.astype(np.int64), minlength=vocab_size)
        self.unigram: Floats = (counts + 1) / (len(tokens) + vocab_size)
        token_bits = vocab_size.bit_length()
        self.levels = [_Level(tokens, n, token_bits) for n in range(2, min(order, len(tokens)) + 1)]

    def log_probs(self, ids: Sequence[int]) -> Floats:
        """Log-probability of every token but the first, in nats, given the tokens before: [len(ids) - 1]."""
        tokens = np.asarray(ids, dtype=np.uint64)
        found = self.unigram[tokens[1:].astype(np.int64)]
        for level in self.levels:
            start = level.order - 2  # the first tokens have too little context
            found[start:] = level.interpolate(tokens, found[start:])
        return np.log(found)


class _Level:
    """Counts of all n-grams of one order above 1."""

    def __init__(self, tokens: Hashes, order: int, token_bits: int) -> None:
        self.order = order
        self.shift = np.uint64(token_bits)
        # A key is a hash of the context, then the token, so that sorting puts n-grams of one context together.
        self.keys, self.counts = np.unique(self._keys(tokens), return_counts=True)
        contexts = self.keys >> self.shift
        starts = np.flatnonzero(np.diff(contexts, prepend=~contexts[:1]))
        self.contexts = contexts[starts]
        self.totals = np.add.reduceat(self.counts, starts)
        self.num_continuations = np.diff(starts, append=len(contexts))
        once, twice = (max(1, int((self.counts == times).sum())) for times in (1, 2))
        self.discount = once / (once + 2 * twice)

    def interpolate(self, tokens: Hashes, lower: Floats) -> Floats:
        """Probabilities of the last tokens of all n-grams of `tokens`, from those of the next lower order."""
        keys = self._keys(tokens)
        places, known = _places(self.contexts, keys >> self.shift)
        totals, continuations = self.totals[places], self.num_continuations[places]
        places, met = _places(self.keys, keys)
        counted = np.where(met, self.counts[places] - self.discount, 0)
        return np.where(known, (counted + self.discount * continuations * lower) / totals, lower)

    def _keys(self, tokens: Hashes) -> Hashes:
        contexts = ngram_hashes(tokens, self.order - 1)[:-1]
        return (contexts >> self.shift << self.shift) | tokens[self.order - 1 :]


def _places(sorted_keys: Hashes, keys: Hashes) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The index of each key, and whether it is present."""
    places = np.minimum(np.searchsorted(sorted_keys, keys), len(sorted_keys) - 1)
    return places, sorted_keys[places] == keys


def training_tokens(shards: Path, chats: Path, tokenizer: PreTrainedTokenizerFast, max_tokens: int) -> Hashes:
    """Tokens for the n-gram counts: up to max_tokens of the pretraining documents, and as many of SFT's replies.

    Replies are included because tasks ask for their words: a topic is one of a few.
    """
    manifest = read_manifest(shards)
    files = (
        np.memmap(shards / f"{i:05d}.bin", dtype=manifest["dtype"], mode="r") for i in range(len(manifest["shards"]))
    )
    documents = _first(files, max_tokens)
    replies = _first(_reply_tokens(chats, tokenizer), max_tokens)
    return np.concatenate([documents, replies])


def _first(parts: Iterable[NDArray[np.integer]], count: int) -> Hashes:
    """The first `count` numbers of the concatenated parts, or all."""
    kept: list[Hashes] = [np.empty(0, dtype=np.uint64)]
    for part in parts:
        kept.append(part[:count].astype(np.uint64))
        count -= len(kept[-1])
        if not count:
            break
    return np.concatenate(kept)


def _reply_tokens(chats: Path, tokenizer: PreTrainedTokenizerFast) -> Iterator[NDArray[np.integer]]:
    # A padding token before each reply, because another chat is not its context.
    before, end = [tokenizer.pad_token_id, *reply_start(tokenizer)], tokenizer.eos_token_id
    replies = _replies(chats)
    while batch := list(islice(replies, BATCH_REPLIES)):
        yield np.array([token for ids in encode_texts(tokenizer, batch) for token in (*before, *ids, end)])


def _replies(chats: Path) -> Iterator[str]:
    for row in read_jsonl(chats, ("messages",)):
        for message in row["messages"]:
            if message["role"] == "assistant":
                yield message["content"]
