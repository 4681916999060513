from pathlib import Path

import pytest

from groundup.evaluate.finished import FinishedSteps


def test_a_finished_step_is_not_computed_again(tmp_path: Path) -> None:
    calls = []

    def compute(value: float) -> dict[str, float]:
        calls.append(value)
        return {"third": value / 3}

    assert FinishedSteps(tmp_path / "w").get("a", compute, 1.0) == {"third": 1.0 / 3}
    assert FinishedSteps(tmp_path / "w").get("a", compute, 1.0) == {"third": 1.0 / 3}
    assert FinishedSteps(tmp_path / "w").get("b", compute, 2.0) == {"third": 2.0 / 3}
    assert calls == [1.0, 2.0]


def test_a_failed_step_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> dict[str, float]:
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        FinishedSteps(tmp_path).get("a", fail)
    assert FinishedSteps(tmp_path).get("a", dict, {"x": 1.0}) == {"x": 1.0}
