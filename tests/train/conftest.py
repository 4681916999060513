"""The signal handlers of a stage, for the time of a test."""

import signal
from collections.abc import Iterator

import pytest

from groundup.frame.interruption import SIGNALS


@pytest.fixture(autouse=True)
def handlers_as_before() -> Iterator[None]:
    handlers = [signal.getsignal(number) for number in SIGNALS]
    yield
    for number, handler in zip(SIGNALS, handlers, strict=True):
        signal.signal(number, handler)
