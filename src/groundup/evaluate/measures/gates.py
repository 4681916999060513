"""The gates of evaluate: conditions for the promotion of the aligned model."""

from collections.abc import Mapping, Sequence
from typing import Any

from groundup.core.judging.gates import Gate, check_gates, wanted, write_gates
from groundup.evaluate.measures.measure import Measure
from groundup.evaluate.shown import Cell, Row, Section, Shown, Table, Tile


class Gates(Measure):
    """Comes after all other figures, since a gate may use any of them."""

    def of_all(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        return {"gates_passed": int(all(gate.passed for gate in self._checked(metrics)))}

    def publish(self, metrics: Mapping[str, Any]) -> None:
        write_gates(self.context.out, self._checked(metrics))  # the registry reads them

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
