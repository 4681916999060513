"""The unspoilt checkout: every stage succeeds in it, so that each case fails only for its own reason."""

import pytest

from tests.bad_input.checkout import STAGES
from tests.bad_input.conftest import Checkout, run_here


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_succeeds(checkout: Checkout, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = run_here(checkout, stage, monkeypatch)
    assert outcome.code == 0, outcome.message
    assert checkout.new_statuses(stage) == ["FINISHED"]
