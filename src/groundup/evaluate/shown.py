"""The parts of the report's page that measures fill, as plain data that `groundup report` renders."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MODELS = {"base": "Base", "sft": "SFT", "aligned": "Aligned"}
ENDS = ("", "_ci_low", "_ci_high")
PAGE = "page.json"  # the file of Shown in evaluate's report
TIE = 0.5  # win rate
LEGEND = (
    "Small figures are 95\u00a0% intervals. In the bars, the dot is the value, the band its interval, the line a tie."
)


@dataclass(frozen=True)
class Tile:
    """A figure at the top of the page, with a value to compare it with."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class Bar:
    """An interval on the line from 0 to 1, with the value for no effect."""

    value: float
    low: float
    high: float
    reference: float


@dataclass(frozen=True)
class Cell:
    value: str
    interval: str = ""
    bar: Bar | None = None
    failed: bool = False  # a control that does what it must not


@dataclass(frozen=True)
class Row:
    label: str
    note: str
    cells: list[Cell]


@dataclass(frozen=True)
class Table:
    columns: list[str]  # the first column holds the labels
    rows: list[Row]
    last_is_aligned: bool = False  # then it is emphasised


@dataclass(frozen=True)
class Line:
    """A curve with its band; one of its points is circled."""

    label: str
    x: list[float]
    y: list[float]
    low: list[float]
    high: list[float]
    circled: int


@dataclass(frozen=True)
class Chart:
    title: str
    x_label: str
    lines: list[Line]


@dataclass(frozen=True)
class Sample:
    """A conversation with each model's reply."""

    topic: str
    turns: list[dict[str, str]]
    replies: list[dict[str, Any]]  # model, text, ended, reward


@dataclass(frozen=True)
class Section:
    title: str
    hint: str
    tables: list[Table] = field(default_factory=list)
    chart: Chart | None = None
    samples: list[Sample] = field(default_factory=list)


@dataclass(frozen=True)
class Shown:
    tiles: list[Tile] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)  # they state no more than the intervals allow
    sections: list[Section] = field(default_factory=list)
    method: list[str] = field(default_factory=list)  # how it was measured


def percent(value: float) -> str:
    return f"{100 * value:.0f}\u00a0%"  # no line break before the sign


def number(value: float) -> str:
    """Two decimals, without a minus sign on zero."""
    text = f"{value:.2f}"
    return "0.00" if text == "-0.00" else text


def interval(scores: Mapping[str, Any], name: str) -> str:
    return f"{number(scores[f'{name}_ci_low'])} to {number(scores[f'{name}_ci_high'])}"


def percent_interval(scores: Mapping[str, Any], name: str) -> str:
    return f"{100 * scores[f'{name}_ci_low']:.0f} to {percent(scores[f'{name}_ci_high'])}"


def number_with_interval(scores: Mapping[str, Any], name: str) -> str:
    return f"{number(scores[name])} ({interval(scores, name)})"


def percent_with_interval(scores: Mapping[str, Any], name: str) -> str:
    return f"{percent(scores[name])} ({percent_interval(scores, name)})"


def number_cell(scores: Mapping[str, Any], name: str) -> Cell:
    """A value with its interval, unless that is a point; empty without such a figure."""
    if name not in scores:
        return Cell("")
    is_point = scores.get(f"{name}_ci_low") == scores.get(f"{name}_ci_high")
    return Cell(number(scores[name]), "" if is_point else interval(scores, name))


def percent_cell(scores: Mapping[str, Any], name: str) -> Cell:
    return Cell(percent(scores[name]), percent_interval(scores, name) if f"{name}_ci_low" in scores else "")


def models_table(rows: list[Row]) -> Table:
    return Table(["", *MODELS.values()], rows, last_is_aligned=True)


def win_cell(metrics: Mapping[str, Any], name: str, failed: bool = False) -> Cell:
    """A win rate with its bar; empty without such a figure."""
    if name not in metrics:
        return Cell("")
    bar = Bar(metrics[name], metrics[f"{name}_ci_low"], metrics[f"{name}_ci_high"], TIE)
    return Cell(percent(metrics[name]), percent_interval(metrics, name), bar, failed)


def verdict(metrics: Mapping[str, Any], name: str, reference: float, higher: str, lower: str, neither: str) -> str:
    """The wording that the interval supports."""
    if metrics[f"{name}_ci_low"] > reference:
        return higher
    return lower if metrics[f"{name}_ci_high"] < reference else neither
