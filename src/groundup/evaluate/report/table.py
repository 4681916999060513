"""The scores as rows, tiles and bars for the templates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from groundup.evaluate.gates import Gate
from groundup.evaluate.probes.figures import TITLES
from groundup.evaluate.report.gold import agreement
from groundup.evaluate.report.sentences import MODELS, interval, number, percent, percent_range, seen_in_training
from groundup.evaluate.report.values import probe_title, shown, shown_interval


@dataclass(frozen=True)
class Bar:
    """An interval on the line from 0 to 1, with the value that stands for no effect."""

    value: float
    low: float
    high: float
    reference: float


@dataclass(frozen=True)
class Cell:
    value: str
    interval: str
    bar: Bar | None


@dataclass(frozen=True)
class Row:
    label: str
    note: str
    cells: list[Cell]  # one a model


@dataclass(frozen=True)
class Group:
    title: str
    rows: list[Row]


@dataclass(frozen=True)
class Tile:
    label: str
    value: str
    note: str


@dataclass(frozen=True)
class WinBar:
    label: str
    value: str
    interval: str
    bar: Bar


def score_table(metrics: Mapping[str, Any]) -> list[Group]:
    scores = [metrics[model] for model in MODELS]
    replies = [
        Row("Reward", "higher is better", [_with_interval(s, "reward") for s in scores]),
        Row("KL to SFT", "nats a reply", [_with_interval(s, "kl_to_sft") for s in scores]),
        Row("Length", "tokens", [Cell(f"{s['reply_length']:.1f}", "", None) for s in scores]),
        Row("Distinct-2", "distinct bigrams", [_plain(s["distinct_2"]) for s in scores]),
        Row(
            "End-of-turn rate", "ended by themselves", [Cell(percent(s["end_of_turn_rate"]), "", None) for s in scores]
        ),
    ]
    if "judge_agreement" in metrics:
        golds = [_with_interval(metrics, f"gold_reward_{when}") for when in ("before", "after")]
        replies[1:1] = [Row("Gold score", f"judge's agreement {agreement(metrics)}", [Cell("", "", None), *golds])]
    seen = f"test prompts seen in training: {seen_in_training(metrics, 'prompts')}"
    groups = [Group(f"Replies ({seen})", replies), Group("Values", _values(scores))]
    return [group for group in groups if group.rows]


def _values(scores: list[Mapping[str, float]]) -> list[Row]:
    measures = [name for name in scores[0] if name in TITLES or (name.startswith("canary_") and "_ci_" not in name)]
    return [
        Row(
            *probe_title(measure),
            [
                Cell(
                    shown(measure, s[measure]),
                    shown_interval(measure, s[f"{measure}_ci_low"], s[f"{measure}_ci_high"]),
                    None,
                )
                for s in scores
            ],
        )
        for measure in measures
    ]


def tiles(metrics: Mapping[str, Any], gates: Sequence[Gate]) -> list[Tile]:
    base, sft, aligned = (metrics[model] for model in MODELS)
    passed = sum(gate.passed for gate in gates)
    return [
        Tile("Win rate against SFT", percent(metrics["win_rate_vs_sft"]), _percents(metrics, "win_rate_vs_sft")),
        *_gold_tiles(metrics),
        Tile("Reward", number(aligned["reward"]), f"SFT {number(sft['reward'])}, base {number(base['reward'])}"),
        Tile("Bits per byte, base", number(base["bits_per_byte"]), f"aligned {number(aligned['bits_per_byte'])}"),
        Tile(
            "Gates passed", f"{passed} of {len(gates)}", "may be promoted" if passed == len(gates) else "not promoted"
        ),
    ]


def _gold_tiles(metrics: Mapping[str, Any]) -> list[Tile]:
    name = "win_rate_vs_sft_gold"
    if name not in metrics:
        return []
    note = f"{_percents(metrics, name)}; judge's agreement {number(metrics['judge_agreement'])}"
    shown = [Tile("Win rate, gold judge", percent(metrics[name]), note)]
    human = "win_rate_human_vs_sft_gold"
    if human in metrics:
        note = f"{_percents(metrics, human)}; against SFT"
        shown.append(Tile("People's win rate, gold judge", percent(metrics[human]), note))
    return shown


def win_bars(metrics: Mapping[str, Any]) -> list[WinBar]:
    labels = {
        "win_rate_vs_sft": "Aligned against SFT, reward model",
        "win_rate_vs_base": "Aligned against base, reward model",
        "win_rate_vs_sft_gold": "Aligned against SFT, gold judge",
        "win_rate_vs_sft_gold_length_controlled": "Aligned against SFT, gold judge, equal length",
        "win_rate_human_vs_sft_gold": "What people answered against SFT, gold judge",
    }
    return [
        WinBar(label, percent(metrics[name]), _percents(metrics, name), _bar(metrics, name, 0.5))
        for name, label in labels.items()
        if name in metrics
    ]


def _plain(value: float) -> Cell:
    return Cell(number(value), "", None)


def _with_interval(scores: Mapping[str, float], name: str) -> Cell:
    low, high = scores[f"{name}_ci_low"], scores[f"{name}_ci_high"]
    return Cell(number(scores[name]), "" if low == high else interval(scores, name), None)


def _bar(scores: Mapping[str, float], name: str, reference: float) -> Bar:
    return Bar(scores[name], scores[f"{name}_ci_low"], scores[f"{name}_ci_high"], reference)


def _percents(scores: Mapping[str, float], name: str) -> str:
    return percent_range(scores[f"{name}_ci_low"], scores[f"{name}_ci_high"])
