"""Bits per byte and tasks: every model beside what it is to be compared with, and what training may have seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from groundup.evaluate.report.sentences import MODELS, TRAINING_SETS, number, percent, seen_in_training, task_title
from groundup.evaluate.report.table import Cell, Row

ANY_BYTE = 8.0  # bits, where every byte is equally likely
EMPTY = Cell("", "", None)


@dataclass(frozen=True)
class Measured:
    """What lm-evaluation-harness has measured."""

    tasks: Mapping[str, int]  # of our own, with the number of items
    sources: Sequence[str]  # of the documents
    named: Sequence[str]  # lm-eval's own tasks and groups, as they are called in the metrics
    ngram_order: int
    num_untrained_items: int


@dataclass(frozen=True)
class TaskTable:
    columns: list[str]
    rows: list[Row]


def task_table(metrics: Mapping[str, Any], measured: Measured) -> TaskTable:
    baselines = {"unigram": "Unigram", "ngram": f"{measured.ngram_order}-gram", "untrained": "Untrained"}
    groups = [metrics[name] for name in (*baselines, *MODELS)]
    seen = _contamination(metrics, "bits_per_byte")
    bits = ["bits_per_byte", *(f"bits_per_byte_{source}" for source in measured.sources if len(measured.sources) > 1)]
    rows = [
        Row(
            "Bits per byte" if name == "bits_per_byte" else name.removeprefix("bits_per_byte_"),
            "lower is better" if name == "bits_per_byte" else "",
            [Cell(number(ANY_BYTE), "", None), *(_figure(g, name) for g in groups), seen],
        )
        for name in bits
    ]
    rows += [
        Row(
            task_title(task),
            f"{count} questions",
            [
                Cell(percent(metrics["base"][f"{task}_chance"]), "", None),
                *(_accuracy(g, task) for g in groups),
                _contamination(metrics, task),
            ],
        )
        for task, count in measured.tasks.items()
    ]
    rows += [row for task in measured.named for row in _named_rows(metrics, groups, task)]
    return TaskTable(["Chance", *baselines.values(), *MODELS.values(), "Seen in training"], rows)


def task_method(measured: Measured, contamination_ngram: int) -> list[str]:
    return [
        "Tasks and bits per byte are run by lm-evaluation-harness on the models in memory.",
        "Unigram and n-gram count tokens of the pretraining text and of the replies in SFT's chats (interpolated "
        "absolute discounting). Untrained is a model of the same architecture with random weights, on at most "
        f"{measured.num_untrained_items} items of each task and documents. Chance of a byte is 1 in 256.",
        f"Seen in training: share of items of which {contamination_ngram} words in a row are in a training set "
        f"({', '.join(TRAINING_SETS)}), the wording of a question included.",
    ]


def _named_rows(metrics: Mapping[str, Any], groups: Sequence[Mapping[str, float]], task: str) -> list[Row]:
    chance = metrics["base"].get(f"{task}_chance")
    endings = ("_chance", "_ci_low", "_ci_high")
    return [
        Row(
            name.replace("_", " "),
            "lm-eval's own",
            [
                EMPTY if chance is None else Cell(number(chance), "", None),
                *(_figure(group, name) if name in group else EMPTY for group in groups),
                _contamination(metrics, task) if f"{task}_contamination_text" in metrics else EMPTY,
            ],
        )
        for name in metrics["base"]
        if name.startswith(f"{task}_") and not name.endswith(endings)
    ]


def _figure(scores: Mapping[str, float], name: str) -> Cell:
    if f"{name}_ci_low" not in scores:
        return Cell(number(scores[name]), "", None)
    low, high = scores[f"{name}_ci_low"], scores[f"{name}_ci_high"]
    return Cell(number(scores[name]), f"{number(low)} to {number(high)}", None)


def _accuracy(scores: Mapping[str, float], task: str) -> Cell:
    value, low, high = (scores[f"{task}_accuracy{end}"] for end in ("", "_ci_low", "_ci_high"))
    return Cell(percent(value), f"{100 * low:.0f} to {percent(high)}", None)


def _contamination(metrics: Mapping[str, float], task: str) -> Cell:
    return Cell(seen_in_training(metrics, task), "", None)
