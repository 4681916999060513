"""Bits per byte and tasks: every model beside its baselines, and the share of items seen in training."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedModel

from groundup.core.model.context import context_length
from groundup.evaluate.harness.named import metric_name
from groundup.evaluate.harness.suite import Suite
from groundup.evaluate.harness.tasks import BITS_PER_BYTE
from groundup.evaluate.intervals import Metrics
from groundup.evaluate.measures.contamination import seen_in_training
from groundup.evaluate.measures.measure import Context, Measure
from groundup.evaluate.shown import (
    MODELS,
    Cell,
    Row,
    Section,
    Shown,
    Table,
    Tile,
    number,
    number_cell,
    percent,
    percent_cell,
    verdict,
)

ANY_BYTE = 8.0  # bits, if every byte is equally likely


class Tasks(Measure):
    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.suite = Suite(
            context.test_set.documents,
            context.test_set.tasks,
            context.named,
            context.tokenizer,
            context_length(context.sft, context.tokenizer),
            context.steps,
            context.params,
        )
        self.sources = sorted({row["source"] for row in context.test_set.documents})
        self.sizes = {name: len(items) for name, items in context.test_set.tasks.items()}

    def of_model(self, name: str, model: PreTrainedModel) -> Metrics:
        return self.suite.model_scores(name, model)

    def of_all(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        data = self.context.data
        return {
            "untrained": self.suite.untrained_scores(self.context.sft),
            **self.suite.ngram_scores(data.shards, data.chats / "train.jsonl"),
        }

    def shown(self, metrics: Mapping[str, Any]) -> Shown:
        base, aligned = metrics["base"], metrics["aligned"]
        ngram = f"{self.context.params.ngram.order}-gram"
        compared = f"{ngram}s {number(metrics['ngram'][BITS_PER_BYTE])}, aligned {number(aligned[BITS_PER_BYTE])}"
        hint = (
            "Each model beside chance, counting, and a model of the same kind with random weights. Small figures are "
            "95\u00a0% intervals."
        )
        return Shown(
            tiles=[Tile("Bits per byte, base", number(base[BITS_PER_BYTE]), compared)],
            sentences=[_bits(metrics), *task_sentences(aligned, list(self.sizes)), *self._left_out()],
            sections=[Section("Tasks", hint, [self._table(metrics, ngram)])],
            method=[
                f"Bits per byte: {metrics['num_documents']} of the {self.context.test_set.num_documents_in_split} "
                "documents of the test split, drawn at random. Every UTF-8 byte and the end of each document counts, "
                "each document is scored alone, and one longer than the context in windows that overlap by a quarter.",
                "Choice: the reply with the highest log-likelihood per token, end-of-turn included, is the model's "
                "answer. Tasks and bits per byte are run by lm-evaluation-harness on the models in memory.",
                "Unigram and n-gram count tokens of the pretraining text and of the replies in SFT's chats "
                "(interpolated absolute discounting). Untrained is a model of the same architecture with random "
                f"weights, on at most {self.context.params.num_untrained_items} items of each task and documents. "
                "Chance of a byte is 1 in 256.",
            ],
        )

    def _left_out(self) -> list[str]:
        names = ", ".join(name.replace("_", " ") for name in self.context.test_set.empty_tasks)
        return [f"Left out, since the test split of the data has no item for them: {names}."] if names else []

    def _table(self, metrics: Mapping[str, Any], ngram: str) -> Table:
        baselines = {"unigram": "Unigram", "ngram": ngram, "untrained": "Untrained"}
        groups = [metrics[name] for name in (*baselines, *MODELS)]
        seen = Cell(seen_in_training(metrics, BITS_PER_BYTE))
        any_byte = Cell(number(ANY_BYTE))
        rows = [
            Row("Bits per byte", "lower is better", [any_byte, *(number_cell(g, BITS_PER_BYTE) for g in groups), seen])
        ]
        for source in self.sources if len(self.sources) > 1 else []:
            name = f"{BITS_PER_BYTE}_{source}"
            rows.append(Row(source, "", [any_byte, *(number_cell(g, name) for g in groups), seen]))
        for task, size in self.sizes.items():
            chance, met = Cell(percent(metrics["base"][f"{task}_chance"])), Cell(seen_in_training(metrics, task))
            cells = [percent_cell(group, f"{task}_accuracy") for group in groups]
            title = f"{task.replace('_', ' ').capitalize()} choice"
            rows.append(Row(title, f"{size} questions", [chance, *cells, met]))
        for named in (*self.context.named.tasks, *self.context.named.groups):
            rows += named_rows(metrics, groups, metric_name(named))
        return Table(["", "Chance", *baselines.values(), *MODELS.values(), "Seen in training"], rows)


def named_rows(metrics: Mapping[str, Any], groups: Sequence[Mapping[str, float]], task: str) -> list[Row]:
    """lm-eval's own tasks and groups, with gaps where a group or the n-grams lack a figure."""
    seen = Cell(seen_in_training(metrics, task) if f"{task}_contamination_text" in metrics else "")
    return [
        Row(
            name.replace("_", " "),
            "lm-eval's own",
            [number_cell(metrics["base"], f"{task}_chance"), *(number_cell(group, name) for group in groups), seen],
        )
        for name in metrics["base"]
        if name.startswith(f"{task}_") and not name.endswith(("_chance", "_ci_low", "_ci_high"))
    ]


def _bits(metrics: Mapping[str, Any]) -> str:
    base, sft, aligned = (number(metrics[model][BITS_PER_BYTE]) for model in MODELS)
    return (
        f"On held-out text base, SFT and aligned model need {base}, {sft} and {aligned} bits per byte; n-grams of the "
        f"same training text need {number(metrics['ngram'][BITS_PER_BYTE])}."
    )


def task_sentences(scores: Mapping[str, float], tasks: Sequence[str]) -> list[str]:
    """Sentences of tasks grouped by the verdict of their interval."""
    grouped: dict[str, list[str]] = {}
    for task in tasks:
        chance = scores[f"{task}_chance"]
        said = verdict(
            scores,
            f"{task}_accuracy",
            chance,
            "The aligned model chooses better than guessing",
            "The aligned model chooses worse than guessing",
            "No better or worse than guessing, as far as the interval tells",
        )
        figures = f"{task.replace('_', ' ')} {percent(scores[f'{task}_accuracy'])} (guessing {percent(chance)})"
        grouped.setdefault(said, []).append(figures)
    return [f"{said}: {', '.join(figures)}." for said, figures in grouped.items()]
