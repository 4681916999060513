"""Which evaluation items share a run of words with the training data (Brown et al. 2020, appendix C), or all words.

prepare drops training records that do; this measures what remains, by task and training set.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from xxhash import xxh3_64, xxh3_64_intdigest

from groundup.core.formats.jsonl import Row, read_jsonl
from groundup.core.formats.records import Message, said
from groundup.core.text.words import Hashes, Words, ngram_hashes, word_hashes
from groundup.evaluate.choices import item_texts
from groundup.evaluate.harness.named import metric_name
from groundup.evaluate.harness.tasks import BITS_PER_BYTE
from groundup.evaluate.measures.measure import Data, Measure
from groundup.evaluate.shown import Shown

BATCH_TEXTS = 256
BETWEEN = np.zeros(1, dtype=np.uint64)
Shares = dict[str, dict[str, float]]  # by task; by training set, and the two below
WHOLE, EXACT = "compared_whole", "exact_matches"
TRAINING_SETS = ("text", "chats", "preferences", "prompts")  # the folders of Data that models are trained on


class Text(NamedTuple):
    opening: str  # the line given to the speakers: n-grams leave it out, the comparison as a whole does not
    body: str


Item = Sequence[Text]  # each separate from the next; the first is compared as a whole


class Contamination(Measure):
    def of_all(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        shares = self.context.steps.get("contamination", self._shares)
        return {f"{task}_contamination_{name}": share for task, of in shares.items() for name, share in of.items()}

    def shown(self, metrics: Mapping[str, Any]) -> Shown:
        whole, exact = (small_percent(metrics[f"prompts_contamination_{name}"]) for name in (WHOLE, EXACT))
        return Shown(
            method=[
                f"Seen in training: share of items of which {self.context.params.contamination_ngram} words in a row "
                f"are in a training set ({', '.join(TRAINING_SETS)}), the wording of a question included. Shorter "
                "items are compared whole, with the line that the speakers were given: they count if a training "
                f"record is or begins with the same words. Of test prompts {whole} are that short, {exact} are such "
                f"an exact match, and seen in all are: {seen_in_training(metrics, 'prompts')}."
            ]
        )

    def _shares(self) -> Shares:
        test_set, data = self.context.test_set, self.context.data
        given = openings(data.chats)
        items: dict[str, list[Item]] = {
            BITS_PER_BYTE: [[split_opening(row["text"], given)] for row in test_set.documents],
            **{
                name: [
                    [Text(_opening(item["query"]), item_texts(item)[0]), *_bodies(item_texts(item)[1:])]
                    for item in rows
                ]
                for name, rows in test_set.tasks.items()
            },
            "prompts": [[_chat(row["messages"])] for row in test_set.prompts],
            **{
                metric_name(name): [_bodies(texts) for texts in of_task]
                for name, of_task in self.context.named.texts().items()
            },
        }
        return contamination(items, training_sets(data), self.context.params.contamination_ngram)


def seen_in_training(metrics: Mapping[str, float], task: str) -> str:
    """The share of a task's items in each training set where it is not zero."""
    shares = {name: metrics[f"{task}_contamination_{name}"] for name in TRAINING_SETS}
    return ", ".join(f"{name} {small_percent(share)}" for name, share in shares.items() if share) or "none found"


def small_percent(share: float) -> str:
    """With a decimal, and never 0 for what occurred."""
    return f"{100 * share:.1f}\u00a0%" if share >= 0.0005 or share == 0 else "under 0.1\u00a0%"


def contamination(items: Mapping[str, Sequence[Item]], training: Mapping[str, Iterable[Text]], n: int) -> Shares:
    """Share of a task's items that a training set has seen: an n-gram of words, or all words of an item without one.

    WHOLE: items without an n-gram. EXACT: items, of any length, that are or begin a record of any training set.
    """
    hashes = {
        task: [np.concatenate([ngram_hashes(word_hashes(text.body), n) for text in item]) for item in of_task]
        for task, of_task in items.items()
    }
    wholes = {task: [_whole(word_hashes(" ".join(item[0]))) for item in of_task] for task, of_task in items.items()}
    asked = np.unique(np.concatenate([ngrams for of_task in hashes.values() for ngrams in of_task]))
    asked_whole = {whole for of_task in wholes.values() for whole in of_task}
    matched: set[int] = set()  # in any training set
    shares: Shares = {task: {} for task in items}
    for name, texts in training.items():
        met, met_whole = _met(asked, asked_whole, texts, n)
        matched |= met_whole
        for task, of_task in hashes.items():
            shares[task][name] = _share(
                bool(np.isin(ngrams, met).any()) if len(ngrams) else whole in met_whole
                for ngrams, whole in zip(of_task, wholes[task], strict=True)
            )
    for task, of_task in hashes.items():
        shares[task][WHOLE] = _share(not len(ngrams) for ngrams in of_task)
        shares[task][EXACT] = _share(whole in matched for whole in wholes[task])
    return shares


def _share(found: Iterable[bool]) -> float:
    values = list(found)
    return sum(values) / len(values)


def _whole(words: Hashes) -> int:
    return xxh3_64_intdigest(words.tobytes())


def _met(asked: Hashes, asked_whole: set[int], texts: Iterable[Text], n: int) -> tuple[Hashes, set[int]]:
    """The n-grams, and the whole items, that occur in the texts."""
    met, met_whole = np.zeros(len(asked), dtype=bool), set[int]()
    distinct = _distinct(texts)
    while batch := list(islice(distinct, BATCH_TEXTS)):
        lines = [[text.opening, *text.body.split("\n")] for text in batch]
        hashes = iter(Words([line for of_text in lines for line in of_text]).by_text())
        words: list[Hashes] = []
        for of_text in lines:
            digest = xxh3_64(next(hashes).tobytes())
            for line in islice(hashes, len(of_text) - 1):  # an item may end where a turn does
                words.append(line)
                digest.update(line.tobytes())
                if (beginning := digest.intdigest()) in asked_whole:
                    met_whole.add(beginning)
            words.append(BETWEEN)  # the hash of no word, so that no n-gram crosses from one text into the next
        ngrams = ngram_hashes(np.concatenate(words), n)
        if len(asked):
            places = np.minimum(np.searchsorted(asked, ngrams), len(asked) - 1)
            met[places[asked[places] == ngrams]] = True
    return asked[met], met_whole


def _distinct(texts: Iterable[Text]) -> Iterator[Text]:
    """A side of a preference pair can be in many pairs."""
    seen: set[int] = set()
    for text in texts:
        digest = xxh3_64_intdigest("\n".join(text).encode())
        if digest not in seen:
            seen.add(digest)
            yield text


def training_sets(data: Data) -> dict[str, Iterable[Text]]:
    """Training data of pretrain, sft, reward and align, from train.jsonl in each folder."""
    given = openings(data.chats)
    pairs = _rows(data.preferences, "chosen", "rejected")
    return {
        "text": (split_opening(row["text"], given) for row in _rows(data.text, "text")),
        "chats": (_chat(row["messages"]) for row in _rows(data.chats, "messages")),
        "preferences": (_chat(row[side]) for row in pairs for side in ("chosen", "rejected")),
        "prompts": (_chat(row["messages"]) for row in _rows(data.prompts, "messages")),
    }


def openings(chats: Path) -> set[str]:
    """The lines given to the speakers: many conversations share one, so they are in every split."""
    return {m["content"] for row in _rows(chats, "messages") for m in row["messages"] if m["role"] == "system"}


def split_opening(text: str, given: set[str]) -> Text:
    opening, _, rest = text.partition("\n")
    return Text(opening, rest) if opening in given else Text("", text)


def _chat(messages: Sequence[Message]) -> Text:
    return Text(_opening(messages), said(messages))


def _opening(messages: Sequence[Message]) -> str:
    return "\n".join(message["content"] for message in messages if message["role"] == "system")


def _bodies(texts: Iterable[str]) -> list[Text]:
    return [Text("", text) for text in texts]


def _rows(folder: Path, *columns: str) -> Iterator[Row]:
    return read_jsonl(folder / "train.jsonl", columns)
