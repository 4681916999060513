"""Conditions for the promotion of a model; a gate whose metric was not measured fails."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from groundup.evaluate.measures.measure import Measure
from groundup.evaluate.shown import Cell, Row, Section, Shown, Table, Tile
from groundup.runner.files import write_json
from groundup.runner.nested import flatten
from groundup.runner.params.evaluate import GateParams

FILE = "gates.json"  # the registry reads it
BOUNDS = {"at_least": "at least", "at_most": "at most"}


@dataclass(frozen=True)
class Gate:
    name: str
    metric: str
    value: float | None
    limit: float
    passed: bool
    reason: str


class Gates(Measure):
    """Comes after all other figures, since a gate may use any of them."""

    def of_all(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        return {"gates_passed": int(all(gate.passed for gate in self._checked(metrics)))}

    def publish(self, metrics: Mapping[str, Any]) -> None:
        write_json(self.context.out / FILE, [vars(gate) for gate in self._checked(metrics)])

    def shown(self, metrics: Mapping[str, Any]) -> Shown:
        gates = self._checked(metrics)
        passed = sum(gate.passed for gate in gates)
        rows = [
            Row(gate.name[:1].upper() + gate.name[1:], gate.reason, [Cell("passed" if gate.passed else "failed")])
            for gate in gates
        ]
        hint = "What must hold for the aligned model to be promoted."
        return Shown(
            tiles=[
                Tile(
                    "Gates passed",
                    f"{passed} of {len(gates)}",
                    "may be promoted" if passed == len(gates) else "not promoted",
                )
            ],
            sentences=[gate_sentence(gates)],
            sections=[Section("Gates", hint, [Table(["Gate", "Verdict"], rows)])] if gates else [],
        )

    def _checked(self, metrics: Mapping[str, Any]) -> list[Gate]:
        return check_gates(metrics, self.context.params.gates)


def gate_sentence(gates: Sequence[Gate]) -> str:
    failed = [gate for gate in gates if not gate.passed]
    if not gates:
        return "There are no gates: evaluate.gates is empty."
    if not failed:
        return f"The aligned model passes all {len(gates)} gates and may be promoted."
    return (
        f"The aligned model fails {len(failed)} of {len(gates)} gates and is not promoted: "
        + "; ".join(f"{gate.name} ({gate.reason})" for gate in failed)
        + "."
    )


def check_gates(metrics: Mapping[str, Any], gates: Sequence[GateParams]) -> list[Gate]:
    """metrics: evaluate's, with nested groups."""
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
