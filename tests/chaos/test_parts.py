"""What an interrupted `make test-chaos` has played is not played again."""

from pathlib import Path

import pytest

from tests.chaos import __main__ as chaos
from tests.chaos.case import Outcome
from tests.chaos.plan import Kill
from tests.smoke_run import SmokeRun


def test_the_same_command_plays_the_rest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kills = [(number, Kill("sft", "training", "stage", number, 0.0)) for number in range(4)]
    struck: list[int] = []

    def strike(run: SmokeRun, kill: Kill, wanted: object) -> Outcome:
        if len(struck) == 2:
            raise KeyboardInterrupt
        struck.append(kill.number)
        return Outcome("sft", "training", "SIGKILL", "self", str(kill.number), killed=True, steps_lost=kill.number)

    monkeypatch.setattr(chaos, "strike", strike)
    monkeypatch.setattr(chaos, "histories", lambda run: {"sft": {}})
    with pytest.raises(KeyboardInterrupt):
        chaos.play_the_rest(SmokeRun(tmp_path), kills)
    del struck[:]
    outcomes = chaos.play_the_rest(SmokeRun(tmp_path), kills)
    assert struck == [2, 3]
    assert [outcome.steps_lost for outcome in outcomes] == [0, 1, 2, 3]
