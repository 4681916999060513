"""What must hold for a model to be promoted; a gate whose metric was not measured does not pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from groundup.runner.nested import flatten
from groundup.runner.params.evaluate import GateParams

BOUNDS = {"at_least": "at least", "at_most": "at most"}


@dataclass(frozen=True)
class Gate:
    name: str
    metric: str
    value: float | None
    limit: float
    passed: bool
    reason: str


def check_gates(metrics: Mapping[str, Any], gates: Sequence[GateParams]) -> list[Gate]:
    """metrics: those of evaluate, groups nested."""
    values = flatten(dict(metrics))
    return [_check(values.get(gate.metric), gate) for gate in gates]


def _check(value: Any, gate: GateParams) -> Gate:
    wanted = f"{BOUNDS[gate.bound]} {gate.limit:g}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        reason = (
            f"{gate.metric} was not measured, and must be {wanted}: correct its name in evaluate.gates, or see why"
        )
        return Gate(gate.name, gate.metric, None, gate.limit, False, reason)
    passed = value >= gate.limit if gate.bound == "at_least" else value <= gate.limit
    reason = f"{gate.metric} is {value:.4g} and must be {wanted}"
    return Gate(gate.name, gate.metric, float(value), gate.limit, passed, reason)
