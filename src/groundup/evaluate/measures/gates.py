"""Conditions for the promotion of a model. A gate asks for evidence: the whole interval of its figure must hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from groundup.evaluate.measures.measure import Measure
from groundup.evaluate.shown import Cell, Row, Section, Shown, Table, Tile
from groundup.runner.files import write_json
from groundup.runner.nested import flatten
from groundup.runner.params.evaluate import GateParams

FILE = "gates.json"  # the registry reads it
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


class Gates(Measure):
    """Comes after all other figures, since a gate may use any of them."""

    def of_all(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        return {"gates_passed": int(all(gate.passed for gate in self._checked(metrics)))}

    def publish(self, metrics: Mapping[str, Any]) -> None:
        write_json(self.context.out / FILE, [vars(gate) for gate in self._checked(metrics)])

    def shown(self, metrics: Mapping[str, Any]) -> Shown:
        gates = self._checked(metrics)
        passed = sum(gate.passed for gate in gates)
        hint = (
            "What must hold for the aligned model to be promoted. A gate asks for evidence: the whole 95\u00a0% "
            "interval must keep the limit, and too few items fail."
        )
        columns = ["Gate", "Value", "Limit", "Items", "Verdict"]
        return Shown(
            tiles=[
                Tile(
                    "Gates passed",
                    f"{passed} of {len(gates)}",
                    "may be promoted" if passed == len(gates) else "not promoted",
                )
            ],
            sentences=[gate_sentence(gates)],
            sections=[Section("Gates", hint, [Table(columns, list(map(_row, gates)))])] if gates else [],
        )

    def _checked(self, metrics: Mapping[str, Any]) -> list[Gate]:
        return check_gates(metrics, self.context.params.gates)


def _row(gate: Gate) -> Row:
    value = Cell("not measured")
    if gate.value is not None:
        has_interval = gate.ci_low != gate.ci_high
        value = Cell(f"{gate.value:.3g}", f"{gate.ci_low:.3g} to {gate.ci_high:.3g}" if has_interval else "")
    items = Cell("not counted" if gate.num_items is None else f"{gate.num_items}", f"at least {gate.min_items}")
    cells = [value, Cell(wanted(gate.bound, gate.limit)), items, Cell("passed" if gate.passed else "failed")]
    return Row(gate.name[:1].upper() + gate.name[1:], gate.metric, cells)


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
    return [_check(values, gate) for gate in gates]


def _check(values: Mapping[str, Any], gate: GateParams) -> Gate:
    value = _number(values, gate.metric)
    low, high = (_number(values, f"{gate.metric}_ci_{end}") for end in ("low", "high"))
    if low is None or high is None:
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
    if value is None or low is None or high is None:
        return False, f"{gate.metric} was not measured: correct its name in evaluate.gates, or see why"
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
