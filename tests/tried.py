"""How often each fault was tried, and how often it ended as it must: `tried` marks the tests that count."""

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import cast

import pytest

FIGURES = "GROUNDUP_TRIED"  # the file to write the counts to
COUNTS: dict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(lambda: {"tried": 0, "passed": 0}))


def pytest_itemcollected(item: pytest.Item) -> None:
    item.user_properties += [("tried", mark.args) for mark in item.iter_markers("tried")]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Reports of pytest-xdist's workers reach the process that started them, with these properties."""
    if report.when == "call" or (report.when == "setup" and report.failed):
        for name, value in report.user_properties:
            if name == "tried":
                table, row = cast("tuple[str, str]", value)
                COUNTS[table][row]["tried"] += 1
                COUNTS[table][row]["passed"] += report.passed


def pytest_sessionfinish(session: pytest.Session) -> None:
    if (path := os.environ.get(FIGURES)) and not hasattr(session.config, "workerinput"):
        Path(path).write_text(json.dumps(COUNTS, indent=2, sort_keys=True) + "\n", encoding="utf-8")
