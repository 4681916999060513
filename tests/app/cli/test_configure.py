"""`groundup configure`."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from groundup.app.cli.main import app
from groundup.app.plan.sizing import resize
from groundup.runner.params import load_params
from tests.conftest import ROOT


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    shutil.copyfile(ROOT / "presets/laptop.yaml", tmp_path / "params.yaml")
    (tmp_path / "stages").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> tuple[Result, str]:
    result = CliRunner().invoke(app, ["configure", *arguments])
    return result, " ".join(result.output.split())


def test_a_preset_is_written_as_it_is(checkout: Path) -> None:
    for preset in ("evening", "gpu", "cluster", "smoke", "laptop"):
        result, _ = run("--preset", preset)
        assert result.exit_code == 0
        assert load_params(checkout / "params.yaml") == load_params(ROOT / f"presets/{preset}.yaml")
    assert (checkout / "params.yaml").read_bytes() == (ROOT / "presets/laptop.yaml").read_bytes()


def test_a_depth_shows_old_and_new_and_the_diff_has_only_these(checkout: Path) -> None:
    laptop = load_params(checkout / "params.yaml")
    depth = laptop.model.num_layers + 1
    result, output = run("--preset", "laptop", "--depth", str(depth))
    assert result.exit_code == 0
    row = next(line for line in result.output.splitlines() if "model.num_layers" in line)
    assert re.findall(r"[\d]+", row) == [str(depth - 1), str(depth)]
    files = [str(ROOT / "presets/laptop.yaml"), str(checkout / "params.yaml")]
    diff = subprocess.run(["diff", *files], capture_output=True, text=True).stdout
    keys = {line.split(":")[0].lstrip("> ") for line in diff.splitlines() if line.startswith(">")}
    assert keys <= {key.rpartition(".")[2] for key in resize(laptop, depth)}
    assert "num_layers" in keys
    result, output = run("--preset", "laptop", "--depth", str(depth))
    assert output.startswith("no changed values.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--preset", "huge"), "there is no preset huge: use cluster, evening, gpu, laptop, smoke"),
        (("--preset", "../laptop"), "there is no preset ../laptop"),
        (("--preset", "laptop", "--depth", "0"), "greater than or equal to 1"),
        ((), "Missing option '--preset'"),
    ],
)
def test_what_does_not_exist_is_refused(checkout: Path, arguments: tuple[str, ...], message: str) -> None:
    result, output = run(*arguments)
    assert result.exit_code != 0
    assert message in re.sub(r"[^ -~] ", "", output)
    assert (checkout / "params.yaml").read_bytes() == (ROOT / "presets/laptop.yaml").read_bytes()


def test_a_damaged_file_stays_and_is_named(checkout: Path) -> None:
    (checkout / "params.yaml").write_text("model: [1")
    result, output = run("--preset", "laptop")
    assert result.exit_code == 1
    assert "params.yaml is as it was." in output
    assert "is not valid YAML" in output
    assert (checkout / "params.yaml").read_text() == "model: [1"


def test_a_preset_with_problems_names_all(checkout: Path) -> None:
    preset = checkout / "presets/laptop.yaml"
    preset.write_text(preset.read_text().replace("num_heads: ", "num_heads: -").replace("seed: 19", "seed: -1"))
    result, output = run("--preset", "laptop", "--depth", "6")
    assert result.exit_code == 1
    assert "model.num_heads" in output
    assert "prepare.seed" in output
