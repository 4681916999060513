"""What the stages share before they train."""

import platform
import resource

import pytest
import torch

from groundup.core.training.runtime import draw, keep_freed_memory


def test_the_seed_decides_what_is_drawn() -> None:
    rows = list(range(100))
    drawn = [draw(rows, 10, seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(part == sorted(set(part)) and len(part) == 10 for part in drawn)
    assert draw(rows, 100, seed=1) == draw(rows, None, seed=1) == rows


def test_what_was_freed_is_used_again_without_page_faults(caplog: pytest.LogCaptureFixture) -> None:
    """On glibc, whose setting it is; elsewhere nothing is set and nothing said."""

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(2**23)  # 8,192 pages
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    keep_freed_memory()
    assert not caplog.records
    if platform.libc_ver()[0] == "glibc":
        assert min(faults() for _ in range(8)) < 100  # the machine may take pages away once, not every time
