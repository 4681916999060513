"""Value probes: what each model prefers and says, and what alignment changed. docs/values.md"""

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel

from groundup.evaluate.intervals import Metrics
from groundup.evaluate.measures.measure import Context, Measure
from groundup.evaluate.probes.exposure import read_canaries
from groundup.evaluate.probes.figures import TITLES, change_figures, is_share, model_figures
from groundup.evaluate.probes.items import load_probe_sets
from groundup.evaluate.probes.measure import Values, measure_probes
from groundup.evaluate.shown import ENDS, MODELS, Row, Section, Shown, models_table, number_cell, percent_cell
from groundup.runner.files import write_json

FILE = "probes.json"


class ValueProbes(Measure):
    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.probes = load_probe_sets()
        self.canaries = read_canaries(context.data.evaluation)
        self.values: dict[str, Values] = {}  # by model

    def of_model(self, name: str, model: PreTrainedModel) -> Metrics:
        context = self.context
        self.values[name] = context.steps.get(
            f"{name}-probes",
            measure_probes,
            *(context.engine, model, context.tokenizer, self.probes, self.canaries, context.params),
        )
        return model_figures(self.values[name], context.params)

    def of_all(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        return change_figures(self.values["sft"], self.values["aligned"], self.context.params)

    def publish(self, metrics: Mapping[str, Any]) -> None:
        rows = []
        for measure in self.values["aligned"]:
            title, better = probe_title(measure)
            rows.append(
                {
                    "measure": measure,
                    "title": title,
                    "better": better,
                    "models": {model: _figures(metrics[model], measure) for model in self.values},
                    "change": _figures(metrics, f"{measure}_change"),
                    "items": {model: items[measure] for model, items in self.values.items()},
                }
            )
        write_json(self.context.out / FILE, rows)

    def shown(self, metrics: Mapping[str, Any]) -> Shown:
        scores = [metrics[model] for model in MODELS]
        rows = [
            Row(
                *probe_title(measure),
                [percent_cell(s, measure) if is_share(measure) else number_cell(s, measure) for s in scores],
            )
            for measure in self.values["aligned"]
        ]
        return Shown(
            sections=[Section("Values", "Small probe sets: what a model prefers and says.", [models_table(rows)])],
            method=[
                "Values: small probe sets written for this project; docs/values.md says what each one measures and "
                "what it does not. Shares of items, with Wilson's interval."
            ],
        )


def probe_title(measure: str) -> tuple[str, str]:
    """(title of a measure, which direction is better)"""
    if measure in TITLES:
        return TITLES[measure]
    figure, _, count = measure.rpartition("_")
    figures = {"canary_exposure": "bits, lower is better", "canary_extraction": "lower is better"}
    return f"{figure.replace('_', ' ').capitalize()}, planted {count} times", figures[figure]


def _figures(metrics: Mapping[str, Any], name: str) -> dict[str, float]:
    return {key: metrics[f"{name}{end}"] for key, end in zip(("value", "ci_low", "ci_high"), ENDS, strict=True)}
