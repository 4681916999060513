"""Plain lines of progress: the rate of a large model, and a loss that is not known yet."""

import logging

import pytest

from groundup.core.training import progress
from groundup.core.training.progress import ProgressReport


@pytest.mark.parametrize(
    ("amount", "loss", "text"),
    [
        (4.0, None, "sft 3/3  0.40 examples/s  0 s left"),
        (1200.0, 2.5, "sft 3/3  loss 2.500  120 examples/s  0 s left"),
    ],
)
def test_a_line_has_what_is_known(
    amount: float, loss: float | None, text: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seconds = iter([0.0, 10.0, 20.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))
    report = ProgressReport("sft", 3, "examples")
    with caplog.at_level(logging.INFO):
        for step in (1, 2, 3):
            report.update(step, amount, loss)
    assert caplog.messages[-1] == text
