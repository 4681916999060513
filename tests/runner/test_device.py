"""The choice of the device: the environment, then the launch file, then what is present."""

import logging
from pathlib import Path

import pytest
import torch

from groundup.runner.device import resolve_device


def devices(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


def test_a_device_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GROUNDUP_DEVICE", "quantum")
    with pytest.raises(ValueError, match="GROUNDUP_DEVICE=quantum: use auto, cpu, cuda or mps"):
        resolve_device(tmp_path)


@pytest.mark.parametrize("wanted", ["cuda", "mps"])
def test_a_device_that_is_not_here_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wanted: str) -> None:
    devices(monkeypatch, cuda=False, mps=False)
    monkeypatch.setenv("GROUNDUP_DEVICE", wanted)
    with pytest.raises(ValueError, match=f"GROUNDUP_DEVICE={wanted}, but torch finds no such device"):
        resolve_device(tmp_path)


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
    assert resolve_device(tmp_path) == found


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
        assert resolve_device(tmp_path) == "cpu"
    assert caplog.messages == ["device: cpu (launch.yaml: device: cpu)"]
    assert resolve_device(tmp_path / ".dvc/tmp/exps/abc123") == "cpu"  # an experiment's copy has no launch file
    monkeypatch.setenv("GROUNDUP_DEVICE", "cuda")
    assert resolve_device(tmp_path) == "cuda"


@pytest.mark.usefixtures("no_variable")
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("device: gpu\n", "launch.yaml: device: gpu: use auto, cpu, cuda or mps"),
        ("device: mps\n", "launch.yaml: device: mps, but torch finds no such device"),
        ("device: [cpu]\n", "use auto, cpu, cuda or mps"),
        ("devices: cpu\n", "write one line, such as `device: cpu`"),
        ("device: cpu\nprecision: bf16\n", "write one line, such as `device: cpu`"),
        ("cpu\n", "write one line, such as `device: cpu`"),
        ("", "write one line, such as `device: cpu`"),
        ("device: {cpu\n", "is not valid YAML .*; write one line, such as `device: cpu`"),
    ],
)
def test_a_wrong_launch_file_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, problem: str
) -> None:
    devices(monkeypatch, cuda=False, mps=False)
    (tmp_path / "launch.yaml").write_text(text)
    with pytest.raises(ValueError, match=problem):
        resolve_device(tmp_path)
