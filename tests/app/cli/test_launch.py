"""`groundup launch`: what it shows, and the files it prints, which their own packages accept."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from groundup.app.cli.main import app
from groundup.runner.launch.settings import SETTINGS
from groundup.runner.pipeline import read_pipeline
from tests.conftest import ROOT

CLUSTER = ("--image", "lab/groundup:1", "--volume", "checkouts", "--accelerator", "H100")
FILES = {
    path.stem: YAML(typ="safe").load(path) for path in (Path(__file__).parent / "launch").glob("*.yaml")
}  # what is printed for CLUSTER


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    (tmp_path / "stages").mkdir()
    for name in SETTINGS:
        monkeypatch.delenv(f"GROUNDUP_{name.upper()}", raising=False)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def launch(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["launch", *arguments])
    return result.exit_code, result.output


def test_it_shows_the_settings_of_a_stage_and_its_command(checkout: Path) -> None:
    (checkout / "launch.yaml").write_text("processes: 2\npretrain: {strategy: fsdp2}\n")
    code, shown = launch("--dry-run", "pretrain")
    assert code == 0
    assert re.search(r"strategy +. fsdp2 +. all ", shown)
    assert re.search(r"rollouts +. none +. all ", shown)
    assert "-m groundup.runner.launch.torchrun --standalone --nproc-per-node 2" in shown
    assert shown.rstrip().endswith("-m stages.pretrain")
    code, shown = launch("--dry-run")
    assert code == 0
    assert re.search(
        r"processes +. 1 +. prepare, tokenizer +.\n. processes +. 2 +. pretrain, sft, reward, align", shown
    )
    assert re.search(r"strategy +. ddp +. prepare, tokenizer, sft, .*\n.*\n?. strategy +. fsdp2 +. pretrain ", shown)
    assert re.search(r"timeout +. 1800 +. all ", shown)
    spread = ["pretrain", "sft", "reward", "align", "evaluate"]
    assert [stage for stage in read_pipeline(checkout) if f"\n{stage}:\n" in shown] == spread


def test_it_shows_the_job_of_slurm(checkout: Path) -> None:
    (checkout / "launch.yaml").write_text(
        "launcher: slurm\nnodes: 2\nprocesses: 8\ndevice: cuda\nslurm: [--partition=gpu, --time=12:00:00]\n"
    )
    code, shown = launch("--dry-run", "align")
    assert code == 0
    script = shown[shown.index("#!/bin/bash") :]
    assert "#SBATCH --nodes=2\n" in script
    assert "#SBATCH --partition=gpu\n#SBATCH --time=12:00:00\n" in script
    assert "srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --kill-on-bad-exit=1 " in script
    assert " --nproc-per-node 8 " in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize("kind", ["sky", "kubernetes"])
def test_the_file_of_a_cluster(checkout: Path, kind: str) -> None:
    (checkout / "launch.yaml").write_text(
        "launcher: nodes\nnodes: 1\nprocesses: 8\ndevice: cuda\nsft: {nodes: 2, processes: 1}\n"
    )
    code, printed = launch("--file-for", kind, *CLUSTER)
    assert code == 0
    found = YAML(typ="safe").load(printed)
    assert found == FILES[kind]
    line = found["run"] if kind == "sky" else found["spec"]["trainer"]["command"][2]
    subprocess.run(["bash", "-n"], input=line, text=True, check=True)


def test_without_gpus_no_accelerator_is_asked_for(checkout: Path) -> None:
    (checkout / "launch.yaml").write_text("launcher: nodes\nnodes: 2\ndevice: cpu\n")
    code, printed = launch("--file-for", "sky", *CLUSTER[:4])
    assert code == 0
    assert YAML(typ="safe").load(printed)["resources"] == {"image_id": "docker:lab/groundup:1"}


@pytest.mark.parametrize(
    ("launch_yaml", "arguments", "said"),
    [
        ("processes: 2", (), ["`dvc repro` starts stages; `groundup launch --dry-run` shows how"]),
        ("processes: 2", ("--dry-run", "tune"), ["dvc.yaml has no stage tune; it has prepare, "]),
        ("processes: two", ("--dry-run",), ["launch.yaml: processes: two: use a whole number from 1"]),
        (
            "launcher: nodes\nnodes: 2\ndevice: cuda",
            ("--file-for", "sky"),
            ["--image is missing", "--volume is missing", "--accelerator is missing: SkyPilot's name of the GPU"],
        ),
        (
            "processes: 2",
            ("--file-for", "ray", *CLUSTER),
            ["--file-for ray: use sky or kubernetes", "set `launcher: nodes` in launch.yaml"],
        ),
    ],
)
def test_what_is_wrong_is_said(checkout: Path, launch_yaml: str, arguments: tuple[str, ...], said: list[str]) -> None:
    (checkout / "launch.yaml").write_text(launch_yaml + "\n")
    code, shown = launch(*arguments)
    assert code == 1
    for sentence in said:
        assert sentence in " ".join(shown.split())


def checked(folder: Path, program: str, value: Any) -> str:
    """What a program prints that imports from `folder` and reads a value as JSON."""
    environment = os.environ | {"PYTHONPATH": str(folder), "HOME": str(folder)}
    command = [sys.executable, "-c", program]
    ran = subprocess.run(
        command, env=environment, input=json.dumps(value), capture_output=True, text=True, check=False, cwd=folder
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    return ran.stdout


def installed(folder: Path, *arguments: str) -> Path:
    """Packages from the index, apart from those of the tests; skips where there is no index."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode and "CI" not in os.environ:
        pytest.skip(f"{arguments[-1]} cannot be installed here: {ran.stderr[-200:]}")
    assert ran.returncode == 0, ran.stderr[-2000:]
    return folder


@pytest.mark.services
def test_skypilot_accepts_its_task(tmp_path: Path) -> None:
    folder = installed(tmp_path, "skypilot==0.14.1")
    program = (
        "import json, sys, jsonschema\nfrom sky.utils import schemas\ntask = json.load(sys.stdin)\n"
        "jsonschema.validate(task, schemas.get_task_schema())\n"
        "jsonschema.validate(task['resources'], schemas.get_resources_schema())\nprint('valid')\n"
    )
    assert checked(folder, program, FILES["sky"]).endswith("valid\n")


@pytest.mark.services
def test_kubeflow_accepts_its_job(tmp_path: Path) -> None:
    """Its models drop what they do not know."""
    folder = installed(tmp_path, "--no-deps", "kubeflow-trainer-api==2.3.0")
    program = (
        "import json, sys\nfrom kubeflow_trainer_api.models import TrainerV1alpha1TrainJob\n"
        "print(json.dumps(TrainerV1alpha1TrainJob.from_dict(json.load(sys.stdin)).to_dict()))\n"
    )
    assert json.loads(checked(folder, program, FILES["kubernetes"])) == FILES["kubernetes"]
