"""Bits per byte of a causal language model: comparable across tokenizers, since bytes do not depend on one.

It counts the bits of every token of `<|bos|> text <|end|>` (or what an open model has in their place) except the
first, that is of every UTF-8 byte of a document and its end, divided by the UTF-8 bytes of the text. Each document is
scored alone. A document longer than the context is scored in windows that overlap by a quarter of it, so that every
later token is scored with at least a quarter of the context before it.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from groundup.core.formats.chat_format import document_ends, encode_text
from groundup.core.model.likelihood import Stretch, own_distribution, stretch_nats

Score = Callable[[Sequence[Stretch]], list[float]]


@dataclass(frozen=True)
class BitsPerByte:
    overall: float
    by_source: dict[str, float]


def bits_per_byte(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    documents: Iterable[Mapping[str, Any]],
    context_length: int,
    batch_size: int,
    divide: Callable[[Score, list[Stretch]], list[float]] = lambda score, windows: score(windows),
) -> BitsPerByte:
    """Bits per byte of documents {"text", "source"}; the model keeps its train or eval mode.

    divide: calls the score of some windows for all of them; processes that do this together divide them.
    """
    rows = list(documents)
    windows = [document_windows(tokenizer, row["text"], context_length) for row in rows]
    training = model.training
    model.eval()
    score = partial(stretch_nats, model, batch_size=batch_size, distribution=own_distribution)
    nats = divide(score, [window for group in windows for window in group])
    model.train(training)
    return summarize(rows, windows, nats)


def document_windows(tokenizer: PreTrainedTokenizerFast, text: str, context_length: int) -> list[Stretch]:
    """The document as stretches of at most context_length inputs; each token is scored once."""
    if context_length < 2:
        raise ValueError(f"bits per byte needs a context of at least 2 tokens, got {context_length}")
    stride = context_length - context_length // 4
    first, last = document_ends(tokenizer)
    ids = [first, *encode_text(tokenizer, text), last]
    num_inputs = len(ids) - 1
    stretches: list[Stretch] = []
    scored = 0
    while scored < num_inputs:
        start = len(stretches) * stride
        stop = min(start + context_length, num_inputs)
        stretches.append(Stretch(ids[start : stop + 1], stop - scored))
        scored = stop
    return stretches


def summarize(
    documents: Sequence[Mapping[str, Any]], windows: Sequence[Sequence[Stretch]], nats: Sequence[float]
) -> BitsPerByte:
    """nats: of all windows of all documents, in order."""
    source_bytes: dict[str, int] = {}
    source_nats: dict[str, list[float]] = {}
    values = iter(nats)
    for document, group in zip(documents, windows, strict=True):
        source = document["source"]
        source_bytes[source] = source_bytes.get(source, 0) + len(document["text"].encode("utf-8"))
        source_nats.setdefault(source, []).extend(next(values) for _ in group)
    if sum(source_bytes.values()) == 0:
        raise ValueError("bits per byte: the documents hold no text; check that prepare wrote this split")
    bits = {source: math.fsum(source_nats[source]) / math.log(2) for source in sorted(source_nats)}
    return BitsPerByte(
        overall=math.fsum(bits.values()) / sum(source_bytes.values()),
        by_source={source: bits[source] / source_bytes[source] for source in bits if source_bytes[source]},
    )
