"""Which items of evaluation share words in a row with what the models were trained on (Brown et al. 2020, appendix C).

prepare drops training records that do; this looks at what came out, task by task and set by set.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from xxhash import xxh3_64_intdigest

from groundup.core.formats.chat_format import Message
from groundup.core.formats.jsonl import Row, read_jsonl
from groundup.core.text.words import Hashes, ngram_hashes, word_hashes

Item = Sequence[str]  # texts of which none goes on in the next
BATCH_TEXTS = 256
BETWEEN = np.zeros(1, dtype=np.uint64)
Shares = dict[str, dict[str, float]]  # by task and training set


def contamination(items: Mapping[str, Sequence[Item]], training: Mapping[str, Iterable[str]], n: int) -> Shares:
    """Share of a task's items with an n-gram of words that is also in a text of the training set."""
    hashes = {
        task: [np.concatenate([_ngrams(text, n) for text in item]) for item in of_task]
        for task, of_task in items.items()
    }
    asked = np.unique(np.concatenate([ngrams for of_task in hashes.values() for ngrams in of_task]))
    shares: Shares = {task: {} for task in items}
    for name, texts in training.items():
        met = _met(asked, texts, n)
        for task, of_task in hashes.items():
            shares[task][name] = sum(bool(np.isin(ngrams, met).any()) for ngrams in of_task) / len(of_task)
    return shares


def contamination_metrics(shares: Shares) -> dict[str, float]:
    return {f"{task}_contamination_{name}": share for task, of in shares.items() for name, share in of.items()}


def _ngrams(text: str, n: int) -> Hashes:
    return ngram_hashes(word_hashes(text), n)


def _met(asked: Hashes, texts: Iterable[str], n: int) -> Hashes:
    """Those of the n-grams that occur in the texts."""
    met = np.zeros(len(asked), dtype=bool)
    distinct = _distinct(texts)
    while len(asked) and (batch := list(islice(distinct, BATCH_TEXTS))):
        # What lies between two texts is the hash of no word, so no n-gram runs on from one into the next.
        words = np.concatenate([part for text in batch for part in (word_hashes(text), BETWEEN)])
        ngrams = ngram_hashes(words, n)
        places = np.minimum(np.searchsorted(asked, ngrams), len(asked) - 1)
        met[places[asked[places] == ngrams]] = True
    return asked[met]


def _distinct(texts: Iterable[str]) -> Iterator[str]:
    """One side of a preference pair stands in many pairs."""
    seen: set[int] = set()
    for text in texts:
        digest = xxh3_64_intdigest(text.encode())
        if digest not in seen:
            seen.add(digest)
            yield text


def training_sets(text: Path, chats: Path, preferences: Path, prompts: Path) -> dict[str, Iterable[str]]:
    """What pretrain, sft, reward and align are trained on, from train.jsonl in each directory."""
    given = openings(chats)
    return {
        "text": (without_opening(row["text"], given) for row in _rows(text, "text")),
        "chats": (said(row["messages"]) for row in _rows(chats, "messages")),
        "preferences": (
            said(row[side]) for row in _rows(preferences, "chosen", "rejected") for side in ("chosen", "rejected")
        ),
        "prompts": (said(row["messages"]) for row in _rows(prompts, "messages")),
    }


def openings(chats: Path) -> set[str]:
    """The lines that speakers were given to talk about: many conversations share one, so they are in every split."""
    return {m["content"] for row in _rows(chats, "messages") for m in row["messages"] if m["role"] == "system"}


def said(messages: Sequence[Message]) -> str:
    return "\n".join(message["content"] for message in messages if message["role"] != "system")


def without_opening(text: str, given: set[str]) -> str:
    opening, _, rest = text.partition("\n")
    return rest if opening in given else text


def _rows(folder: Path, *columns: str) -> Iterator[Row]:
    return read_jsonl(folder / "train.jsonl", columns)
