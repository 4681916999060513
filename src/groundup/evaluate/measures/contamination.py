"""Which evaluation items share a run of words with the training data (Brown et al. 2020, appendix C).

prepare drops training records that do; this measures what remains, by task and training set.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from xxhash import xxh3_64_intdigest

from groundup.core.formats.jsonl import Row, read_jsonl
from groundup.core.formats.records import said
from groundup.core.text.words import Hashes, ngram_hashes, word_hashes
from groundup.evaluate.choices import item_texts
from groundup.evaluate.harness.named import metric_name
from groundup.evaluate.harness.tasks import BITS_PER_BYTE
from groundup.evaluate.measures.measure import Data, Measure
from groundup.evaluate.shown import Shown, percent

Item = Sequence[str]  # texts, each separate from the next
BATCH_TEXTS = 256
BETWEEN = np.zeros(1, dtype=np.uint64)
Shares = dict[str, dict[str, float]]  # by task and training set
TRAINING_SETS = ("text", "chats", "preferences", "prompts")  # the folders of Data that models are trained on


class Contamination(Measure):
    def of_all(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        shares = self.context.steps.get("contamination", self._shares)
        return {f"{task}_contamination_{name}": share for task, of in shares.items() for name, share in of.items()}

    def shown(self, metrics: Mapping[str, Any]) -> Shown:
        return Shown(
            method=[
                f"Seen in training: share of items of which {self.context.params.contamination_ngram} words in a row "
                f"are in a training set ({', '.join(TRAINING_SETS)}), the wording of a question included; of test "
                f"prompts it is {seen_in_training(metrics, 'prompts')}."
            ]
        )

    def _shares(self) -> Shares:
        test_set, data = self.context.test_set, self.context.data
        given = openings(data.chats)
        items = {
            BITS_PER_BYTE: [[without_opening(row["text"], given)] for row in test_set.documents],
            **{name: [item_texts(item) for item in rows] for name, rows in test_set.tasks.items()},
            "prompts": [[said(row["messages"])] for row in test_set.prompts],
            **{metric_name(name): texts for name, texts in self.context.named.texts().items()},
        }
        return contamination(items, training_sets(data), self.context.params.contamination_ngram)


def seen_in_training(metrics: Mapping[str, float], task: str) -> str:
    """The share of a task's items in each training set where it is not zero."""
    shares = {name: metrics[f"{task}_contamination_{name}"] for name in TRAINING_SETS}
    return ", ".join(f"{name} {100 * share:.1f}\u00a0%" for name, share in shares.items() if share) or percent(0)


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


def _ngrams(text: str, n: int) -> Hashes:
    return ngram_hashes(word_hashes(text), n)


def _met(asked: Hashes, texts: Iterable[str], n: int) -> Hashes:
    """The n-grams that occur in the texts."""
    met = np.zeros(len(asked), dtype=bool)
    distinct = _distinct(texts)
    while len(asked) and (batch := list(islice(distinct, BATCH_TEXTS))):
        # BETWEEN is the hash of no word, so that no n-gram crosses from one text into the next.
        words = np.concatenate([part for text in batch for part in (word_hashes(text), BETWEEN)])
        ngrams = ngram_hashes(words, n)
        places = np.minimum(np.searchsorted(asked, ngrams), len(asked) - 1)
        met[places[asked[places] == ngrams]] = True
    return asked[met]


def _distinct(texts: Iterable[str]) -> Iterator[str]:
    """A side of a preference pair can be in many pairs."""
    seen: set[int] = set()
    for text in texts:
        digest = xxh3_64_intdigest(text.encode())
        if digest not in seen:
            seen.add(digest)
            yield text


def training_sets(data: Data) -> dict[str, Iterable[str]]:
    """Training data of pretrain, sft, reward and align, from train.jsonl in each folder."""
    given = openings(data.chats)
    pairs = _rows(data.preferences, "chosen", "rejected")
    return {
        "text": (without_opening(row["text"], given) for row in _rows(data.text, "text")),
        "chats": (said(row["messages"]) for row in _rows(data.chats, "messages")),
        "preferences": (said(row[side]) for row in pairs for side in ("chosen", "rejected")),
        "prompts": (said(row["messages"]) for row in _rows(data.prompts, "messages")),
    }


def openings(chats: Path) -> set[str]:
    """The lines given to the speakers: many conversations share one, so they are in every split."""
    return {m["content"] for row in _rows(chats, "messages") for m in row["messages"] if m["role"] == "system"}


def without_opening(text: str, given: set[str]) -> str:
    opening, _, rest = text.partition("\n")
    return rest if opening in given else text


def _rows(folder: Path, *columns: str) -> Iterator[Row]:
    return read_jsonl(folder / "train.jsonl", columns)
