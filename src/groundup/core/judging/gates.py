"""Conditions that a model must meet. A gate asks for evidence: the whole interval of its figure must hold."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.runner.files import write_json
from groundup.runner.nested import flatten
from groundup.runner.params.gates import GateParams

logger = logging.getLogger(__name__)

FILE = "gates.json"
NUM_ITEMS = "_num_items"  # after the name of a figure: what it was measured on


@dataclass(frozen=True)
class Gate:
    """`ci_low` and `ci_high` are the value itself where the figure has no interval."""

    name: str
    metric: str
    value: float | None
    ci_low: float | None
    ci_high: float | None
    bound: str
    limit: float
    num_items: int | None
    min_items: int
    passed: bool
    reason: str


def check_gates(metrics: Mapping[str, Any], gates: Sequence[GateParams]) -> list[Gate]:
    """metrics: with nested groups, as evaluate has them, or flat."""
    values = flatten(dict(metrics))
    return [_check(values, gate) for gate in gates]


def _check(values: Mapping[str, Any], gate: GateParams) -> Gate:
    value = _number(values, gate.metric)
    low, high = (_number(values, f"{gate.metric}_ci_{end}") for end in ("low", "high"))
    if f"{gate.metric}_ci_low" not in values:
        low = high = value
    num_items = _number(values, f"{gate.metric}{NUM_ITEMS}")
    passed, reason = _verdict(gate, value, low, high, num_items)
    return Gate(
        gate.name,
        gate.metric,
        value,
        low,
        high,
        gate.bound,
        gate.limit,
        None if num_items is None else int(num_items),
        gate.min_items,
        passed,
        reason,
    )


def _verdict(
    gate: GateParams, value: float | None, low: float | None, high: float | None, num_items: float | None
) -> tuple[bool, str]:
    if value is not None and (low is None or high is None):
        return False, f"{gate.metric} has no interval: there are too few conversations for one"
    if value is None or low is None or high is None:
        return False, f"{gate.metric} was not measured: correct its name in the gates of params.yaml, or see why"
    if gate.min_items and num_items is None:
        return False, (
            f"{gate.metric} has no count {gate.metric}{NUM_ITEMS}, and the gate takes at least {gate.min_items} "
            "items: report the count, or set min_items to 0"
        )
    if num_items is not None and num_items < gate.min_items:
        return False, (
            f"{gate.metric} was measured on {num_items:.0f} items, which is too few to show anything: the gate takes "
            f"at least {gate.min_items}"
        )
    must = f"must be {wanted(gate.bound, gate.limit)}"
    if low == high:
        return _holds(gate, value, value), f"{gate.metric} is {value:.4g} and {must}"
    said = f"{gate.metric} is {value:.4g} ({low:.4g} to {high:.4g}), and the whole interval {must}"
    if not _holds(gate, low, high) and _holds(gate, value, value):
        said += ": the value is, the evidence does not suffice"
    return _holds(gate, low, high), said


def _holds(gate: GateParams, low: float, high: float) -> bool:
    """Whether all between both ends keeps the limit."""
    match gate.bound:
        case "above":
            return low > gate.limit
        case "at_least":
            return low >= gate.limit
        case "at_most":
            return high <= gate.limit
        case "within":
            return -gate.limit <= low and high <= gate.limit


def wanted(bound: str, limit: float) -> str:
    return f"within -{limit:g} to {limit:g}" if bound == "within" else f"{bound.replace('_', ' ')} {limit:g}"


def _number(values: Mapping[str, Any], name: str) -> float | None:
    value = values.get(name)
    return None if isinstance(value, bool) or not isinstance(value, int | float) else float(value)


def write_gates(folder: Path, gates: Sequence[Gate]) -> None:
    write_json(folder / FILE, [vars(gate) for gate in gates])


def failed_gates(folder: Path) -> list[str]:
    """Name and reason of each failed gate in the folder's file; none without a file."""
    path = folder / FILE
    gates = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return [f"{gate['name']} ({gate['reason']})" for gate in gates if not gate["passed"]]


def warn_of_failed(reward: Path) -> None:
    """One warning, if the reward model in the folder fails a gate."""
    if failed := failed_gates(reward):
        logger.warning(
            "the reward model fails %d of its gates, so a rising reward need not mean better replies: %s",
            len(failed),
            "; ".join(failed),
        )
