"""launch.yaml and its variables: what comes first, and every problem at once."""

from pathlib import Path
from typing import Any

import pytest

from groundup.runner.launch.settings import SETTINGS, Launch, LaunchError, read_launch

PIPELINE = """
stages:
  pretrain: {cmd: x, meta: {spreads: [ddp, fsdp2]}}
  sft: {cmd: x, meta: {spreads: [ddp]}}
  evaluate: {cmd: x}
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in SETTINGS:
        monkeypatch.delenv(f"GROUNDUP_{name.upper()}", raising=False)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    return tmp_path


def launched(said_by: str, **settings: Any) -> Launch:
    """With what holds where nothing is set."""
    return Launch(**{name: setting.default for name, setting in SETTINGS.items()} | settings, device_said_by=said_by)


def test_without_a_file_a_stage_is_one_process(root: Path) -> None:
    assert read_launch(root, "sft") == launched("GROUNDUP_DEVICE is not set: ")


def test_a_variable_comes_before_a_stage_and_a_stage_before_all(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "launch.yaml").write_text(
        "device: cpu\nprocesses: 2\ntimeout: 60\npretrain: {processes: 4, timeout: 1.5}\n"
    )
    said_by = "launch.yaml: device: "
    assert read_launch(root, "sft") == launched(said_by, device="cpu", processes=2, timeout=60.0)
    assert read_launch(root, "pretrain") == launched(said_by, device="cpu", processes=4, timeout=1.5)
    assert read_launch(root).processes == 1
    assert read_launch(root, "evaluate") == launched(said_by, device="cpu", timeout=60.0)
    monkeypatch.setenv("GROUNDUP_PROCESSES", "3")
    monkeypatch.setenv("GROUNDUP_COMPILE", "false")
    monkeypatch.setenv("GROUNDUP_DETERMINISTIC", "true")
    assert read_launch(root, "pretrain") == launched(
        said_by, device="cpu", compile=False, deterministic=True, processes=3, timeout=1.5
    )


def test_all_problems_are_said_at_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "launch.yaml").write_text(
        "device: gpu\nprocesses: 0\nproceses: 2\nsft: {stages: 2}\npretrain: 4\ncompile: maybe\nnodes: 2\n"
        "deterministic: 1\nrollouts: [gpu1]\nslurm: gpu\nevaluate: {launcher: sky}\n"
    )
    settings = ", ".join(SETTINGS)
    monkeypatch.setenv("GROUNDUP_TIMEOUT", "inf")
    with pytest.raises(LaunchError) as refused:
        read_launch(root, "pretrain")
    assert str(refused.value).splitlines() == [
        f"launch.yaml: pretrain: 4: not a setting: there are {settings}",
        f"launch.yaml: proceses: not a setting or a stage: there are {settings}, pretrain, sft, evaluate",
        f"launch.yaml: sft: stages: not a setting: there are {settings}",
        "launch.yaml: compile: maybe: use true or false",
        "launch.yaml: deterministic: 1: use true or false",
        "launch.yaml: device: gpu: use auto, cpu, cuda or mps",
        "launch.yaml: processes: 0: use a whole number from 1",
        "launch.yaml: rollouts: ['gpu1']: use the URLs of servers, such as [http://10.0.0.5:8000]",
        "launch.yaml: slurm: gpu: use a list of sbatch's options, such as [--partition=gpu, --gpus-per-node=8]",
        "launch.yaml: evaluate: launcher: sky: use local, slurm or nodes",
        "GROUNDUP_TIMEOUT=inf: use a number of seconds above 0",
        "nodes: 2, but this machine is one: set launcher to slurm or nodes, or nodes to 1",
    ]


def test_a_cluster_needs_a_named_device(root: Path) -> None:
    (root / "launch.yaml").write_text("launcher: slurm\nnodes: 2\n")
    with pytest.raises(LaunchError, match="device: auto, but what the nodes have is not known here: set cpu or cuda"):
        read_launch(root, "sft")
    (root / "launch.yaml").write_text("launcher: slurm\nnodes: 2\ndevice: cuda\nslurm: [--partition=gpu]\n")
    assert read_launch(root, "sft").num_processes == 2
    assert read_launch(root, "sft").slurm == ("--partition=gpu",)
    assert not read_launch(root, "evaluate").is_spread


def test_what_a_later_stage_lacks_is_refused_before_the_first_one_starts(root: Path) -> None:
    (root / "launch.yaml").write_text("processes: 2\nstrategy: fsdp2\n")
    with pytest.raises(LaunchError, match=r"strategy: fsdp2, but sft has ddp: set `sft: \{strategy: ddp\}`"):
        read_launch(root, "pretrain")
    (root / "launch.yaml").write_text("processes: 2\npretrain: {strategy: fsdp2}\n")
    assert read_launch(root, "pretrain").strategy == "fsdp2"
    assert read_launch(root, "sft").strategy == "ddp"
    (root / "launch.yaml").write_text("sft: {nodes: 2}\n")
    with pytest.raises(LaunchError, match="nodes: 2, but this machine is one"):
        read_launch(root, "evaluate")
    (root / "launch.yaml").write_text("processes: 2\ndevice: mps\n")
    with pytest.raises(LaunchError, match="device: mps, which one process at most can use"):
        read_launch(root, "evaluate")
    (root / "launch.yaml").write_text("deterministic: true\ndevice: mps\n")
    with pytest.raises(LaunchError, match="deterministic: true, but of mps torch promises nothing"):
        read_launch(root, "sft")


def test_servers_of_rollouts_are_urls_without_a_path(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "launch.yaml").write_text("evaluate: {rollouts: [http://a:8000/, https://b]}\n")
    assert read_launch(root, "evaluate").rollouts == ("http://a:8000", "https://b")
    assert read_launch(root, "sft").rollouts == ()
    monkeypatch.setenv("GROUNDUP_ROLLOUTS", "http://c:1 http://d:2")
    assert read_launch(root, "sft").rollouts == ("http://c:1", "http://d:2")
    for wrong in ("http://c/v1", "c:8000", "http://", "file:///c"):
        monkeypatch.setenv("GROUNDUP_ROLLOUTS", wrong)
        with pytest.raises(LaunchError, match=f"GROUNDUP_ROLLOUTS={wrong}: use the URLs of servers"):
            read_launch(root, "sft")


@pytest.mark.parametrize("text", ["", "cuda\n", "[1]\n"])
def test_a_file_without_settings_is_refused(root: Path, text: str) -> None:
    (root / "launch.yaml").write_text(text)
    with pytest.raises(LaunchError, match="write lines such as `device: cuda` and `processes: 2`, or delete the file"):
        read_launch(root)


def test_the_copy_of_an_experiment_has_the_users_file(root: Path) -> None:
    (root / "launch.yaml").write_text("processes: 2\n")
    copy = root / ".dvc/tmp/exps/abc123"
    copy.mkdir(parents=True)
    (copy / "dvc.yaml").write_text(PIPELINE)
    assert read_launch(copy, "sft").processes == 2
