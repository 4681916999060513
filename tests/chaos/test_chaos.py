"""The short version of `make test-chaos`: one cheap kill for each kind of failure."""

import random
from typing import Any

import pytest

from tests.chaos.case import strike
from tests.chaos.compare import histories
from tests.chaos.events import read_events, windows
from tests.chaos.plan import draw
from tests.smoke_run import SmokeRun

SEED = 3

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def wanted(smoke_run: SmokeRun) -> dict[str, dict[str, Any]]:
    return histories(smoke_run)


@pytest.mark.parametrize(
    ("stage", "window"),
    [
        ("tokenizer", "publish"),
        ("tokenizer", "commit"),
        ("pretrain", "checkpoint"),
        ("sft", "training"),
        ("align", "training"),
    ],
)
def test_a_killed_stage_ends_as_if_nothing_had_happened(
    smoke_run: SmokeRun, wanted: dict[str, dict[str, Any]], stage: str, window: str
) -> None:
    found = windows(read_events(smoke_run.log), stage)
    kill = draw(random.Random(f"{SEED} {stage} {window}"), stage, window, found)
    outcome = strike(smoke_run, kill, wanted[stage])
    assert outcome.problems == [], outcome.line()
    assert (outcome.window, outcome.killed, outcome.survived) == (window, True, True)
    assert (outcome.identical, outcome.history_whole) == (True, True)
