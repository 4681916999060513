"""The choice of the device: the environment, then the launch file, then what is present."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from groundup.runner.device import resolve_device, show_own_gpu, stage_device
from groundup.runner.environment import DETERMINISM, NO_COMPILATION, VISIBLE_GPUS
from groundup.runner.launch.settings import read_launch


def taken(root: Path) -> str:
    return resolve_device(read_launch(root))


def devices(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, num_gpus: int = 1) -> None:
    for variable in (
        VISIBLE_GPUS,
        NO_COMPILATION,
        *DETERMINISM,
    ):  # set here and deleted again, so that they are put back afterwards
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus if cuda else 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


def test_a_device_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GROUNDUP_DEVICE", "quantum")
    with pytest.raises(ValueError, match="GROUNDUP_DEVICE=quantum: use auto, cpu, cuda or mps"):
        taken(tmp_path)


@pytest.mark.parametrize("wanted", ["cuda", "mps"])
def test_a_device_that_is_not_here_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wanted: str) -> None:
    devices(monkeypatch, cuda=False, mps=False)
    monkeypatch.setenv("GROUNDUP_DEVICE", wanted)
    with pytest.raises(ValueError, match=f"GROUNDUP_DEVICE={wanted}, but torch finds no such device"):
        taken(tmp_path)


@pytest.mark.parametrize(
    ("wanted", "cuda", "mps", "found"),
    [
        (None, True, True, "cuda"),
        (None, False, True, "cpu"),  # mps is untested
        ("mps", False, True, "mps"),
        ("auto", False, False, "cpu"),
        ("cpu", True, True, "cpu"),
        ("cuda", True, False, "cuda"),
    ],
)
def test_the_device_that_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wanted: str | None, cuda: bool, mps: bool, found: str
) -> None:
    devices(monkeypatch, cuda, mps)
    if wanted is None:
        monkeypatch.delenv("GROUNDUP_DEVICE", raising=False)
    else:
        monkeypatch.setenv("GROUNDUP_DEVICE", wanted)
    assert taken(tmp_path) == found


@pytest.fixture
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GROUNDUP_DEVICE", raising=False)


@pytest.mark.usefixtures("no_variable")
def test_the_launch_file_decides_where_the_environment_says_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    devices(monkeypatch, cuda=True, mps=False)
    (tmp_path / "launch.yaml").write_text("device: cpu\n")
    with caplog.at_level(logging.INFO):
        assert taken(tmp_path) == "cpu"
    assert caplog.messages == ["device: cpu (launch.yaml: device: cpu)"]
    assert taken(tmp_path / ".dvc/tmp/exps/abc123") == "cpu"  # an experiment's copy has no launch file
    monkeypatch.setenv("GROUNDUP_DEVICE", "cuda")
    assert taken(tmp_path) == "cuda"


@pytest.mark.usefixtures("no_variable")
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("device: gpu\n", "launch.yaml: device: gpu: use auto, cpu, cuda or mps"),
        ("device: mps\n", "launch.yaml: device: mps, but torch finds no such device"),
        ("device: [cpu]\n", "use auto, cpu, cuda or mps"),
        ("device: {cpu\n", "is not valid YAML .*; write lines such as `device: cuda` and `processes: 2`"),
        ("compile: no way\n", "launch.yaml: compile: no way: use true or false"),
    ],
)
def test_a_wrong_launch_file_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, problem: str
) -> None:
    devices(monkeypatch, cuda=False, mps=False)
    (tmp_path / "launch.yaml").write_text(text)
    with pytest.raises(ValueError, match=problem):
        taken(tmp_path)


@pytest.mark.usefixtures("no_variable")
@pytest.mark.parametrize(
    ("visible", "seen"), [(None, "0"), ("1,0", "1"), ("2", "2"), ("GPU-8f2a,GPU-77b1", "GPU-8f2a"), ("", "")]
)
def test_a_process_sees_one_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, visible: str | None, seen: str
) -> None:
    devices(monkeypatch, cuda=True, mps=False)
    if visible is not None:
        monkeypatch.setenv(VISIBLE_GPUS, visible)
    taken(tmp_path)
    assert os.environ[VISIBLE_GPUS] == seen


@pytest.mark.usefixtures("no_variable")
def test_each_process_has_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: {sft: {cmd: x, meta: {spreads: [ddp]}}}")
    (tmp_path / "launch.yaml").write_text("device: cuda\nprocesses: 2\n")
    devices(monkeypatch, cuda=True, mps=False, num_gpus=2)
    monkeypatch.setenv(VISIBLE_GPUS, "3,1,0")
    assert stage_device(read_launch(tmp_path, "sft")) == "cuda"
    assert os.environ[VISIBLE_GPUS] == "3,1"
    show_own_gpu(1)
    assert os.environ[VISIBLE_GPUS] == "1"
    devices(monkeypatch, cuda=True, mps=False, num_gpus=1)
    with pytest.raises(ValueError, match="processes: 2, each with a GPU, but torch finds 1: lower it"):
        stage_device(read_launch(tmp_path, "sft"))


@pytest.mark.usefixtures("no_variable")
def test_several_gpus_that_cuda_sees_already_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    devices(monkeypatch, cuda=True, mps=False, num_gpus=8)
    with pytest.raises(ValueError, match=r"8 GPUs are visible.* start again with CUDA_VISIBLE_DEVICES=0"):
        taken(tmp_path)


@pytest.mark.usefixtures("no_variable")
@pytest.mark.parametrize(
    ("launch", "compiler", "header", "is_off", "warning"),
    [
        ("", "/usr/bin/cc", True, False, None),
        ("compile: true\n", "/usr/bin/cc", True, False, None),
        ("compile: false\n", "/usr/bin/cc", True, True, None),
        ("", None, True, True, "device: a C compiler missing"),
        ("", "/usr/bin/cc", False, True, "device: Python.h missing"),
        ("", None, False, True, "device: a C compiler and Python.h missing.*apt install gcc python3-dev"),
        ("compile: false\n", None, False, True, None),
    ],
)
def test_compilation_is_off_where_it_cannot_work_or_is_not_wanted(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    launch: str,
    compiler: str | None,
    header: bool,
    is_off: bool,
    warning: str | None,
) -> None:
    devices(monkeypatch, cuda=True, mps=False)
    if launch:
        (tmp_path / "launch.yaml").write_text(launch)
    if header:
        (tmp_path / "Python.h").touch()
    monkeypatch.setattr("shutil.which", lambda name: compiler)
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    taken(tmp_path)
    assert (os.environ.get(NO_COMPILATION) == "1") == is_off
    assert [bool(re.match(warning or "", message)) for message in caplog.messages] == [True] * (warning is not None)


@pytest.mark.usefixtures("no_variable")
@pytest.mark.parametrize(
    ("launch", "is_set"),
    [
        ("", False),
        ("deterministic: false\n", False),
        ("deterministic: true\n", True),
        ("deterministic: true\ndevice: cpu\n", False),
    ],
)
def test_cublas_repeats_its_results_where_it_is_asked_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, launch: str, is_set: bool
) -> None:
    devices(monkeypatch, cuda=True, mps=False)
    if launch:
        (tmp_path / "launch.yaml").write_text(launch)
    taken(tmp_path)
    assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == (":4096:8" if is_set else None)


def test_torch_obeys_that_variable() -> None:
    script = (
        "import torch\ndef backend(graph, inputs): raise SystemExit('compiled')\n"
        "assert torch.compile(lambda x: x + 1, backend=backend)(torch.ones(2)).tolist() == [2, 2]"
    )
    for value, status in (("1", 0), ("0", 1)):
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, env=os.environ | {NO_COMPILATION: value}, capture_output=True, check=False)
        assert done.returncode == status, done.stderr
