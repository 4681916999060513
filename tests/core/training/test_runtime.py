"""Set-up that the stages share before they train."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from groundup.app.chat.loading import Models
from groundup.core.training.runtime import draw, set_up
from groundup.runner.environment import DETERMINISM
from groundup.runner.params.training import RuntimeParams


def test_the_seed_decides_what_is_drawn() -> None:
    rows = list(range(100))
    drawn = [draw(rows, 10, seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(part == sorted(set(part)) and len(part) == 10 for part in drawn)
    assert draw(rows, 100, seed=1) == draw(rows, None, seed=1) == rows


def test_no_process_takes_attention_of_cudnn(tmp_path: Path) -> None:
    for start in (
        lambda: set_up(RuntimeParams(num_threads=1, precision="fp32"), "cpu", seed=1),
        lambda: Models(tmp_path, torch.device("cpu")),  # chat, page and server
    ):
        torch.backends.cuda.enable_cudnn_sdp(True)
        start()
        assert not torch.backends.cuda.cudnn_sdp_enabled()


@pytest.mark.parametrize(
    ("device", "workspace", "is_strict"), [("cpu", None, True), ("cuda", None, False), ("cuda", ":4096:8", True)]
)
def test_kernels_are_deterministic_on_a_cpu_and_where_the_launch_asks_for_them(
    monkeypatch: pytest.MonkeyPatch, device: str, workspace: str | None, is_strict: bool
) -> None:
    """Not with warnings alone, under which attention takes the kernel that does not repeat its gradients."""
    for name in DETERMINISM:
        monkeypatch.setenv(name, workspace or "")
        if workspace is None:
            monkeypatch.delenv(name)
    before = torch.are_deterministic_algorithms_enabled()
    try:
        set_up(RuntimeParams(num_threads=1, precision="fp32"), device, seed=1)
        assert torch.are_deterministic_algorithms_enabled() == is_strict
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(before)


FAULTS = """
import resource, torch
from groundup.core.training.runtime import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**23)  # 8,192 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
print([faults() for _ in range(40)][-20:])  # the heap is laid out by then
"""


def test_what_was_freed_is_used_again_without_page_faults() -> None:
    """On glibc, which has the setting, in a process of its own, because earlier frees matter too."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    if platform.libc_ver()[0] == "glibc":
        faults = json.loads(done.stdout)
        assert min(faults) < 100  # the machine may reclaim pages at times, but not every time
        assert sum(fault > 100 for fault in faults) < 5


RELEASE = """
import psutil, torch
from groundup.core.training.runtime import keep_freed_memory, release_freed_memory

def megabytes():
    return psutil.Process().memory_info().rss / 2**20

keep_freed_memory()
kept = []
for _ in range(20):  # what stays lies between what is freed
    tensor = torch.ones(2**20)
    kept.append(torch.ones(100))
del tensor
freed = [torch.ones(2**20) for _ in range(20)]
high = [torch.ones(100) for _ in range(100)]
del freed
before = megabytes()
release_freed_memory()
print(before - megabytes())
"""


def test_what_was_freed_can_be_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", RELEASE], capture_output=True, text=True, check=True)
    if platform.libc_ver()[0] == "glibc":
        assert float(done.stdout) > 60  # of 80 MB


GROWTH = """
import psutil, torch
from groundup.core.training.runtime import keep_few_kernels

keep_few_kernels()
weight = torch.randn(1536, 576)
sizes = []
for rows in range(200, 520):
    with torch.autocast("cpu", torch.bfloat16):
        torch.nn.functional.linear(torch.randn(rows, 576), weight)
    sizes.append(psutil.Process().memory_info().rss / 2**20)
print(sizes[-1] - sizes[79])
"""


def test_products_of_ever_new_shapes_in_bf16_do_not_fill_the_memory() -> None:
    """By default the 240 last ones take more than 150 MB on a CPU with bf16 units; others keep nothing."""
    done = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 60
