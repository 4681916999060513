"""`groundup configure`."""

import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from groundup.app.cli import configure
from groundup.app.cli.main import app
from groundup.app.plan.sizing import resize
from groundup.runner.params import load_params
from tests.conftest import ROOT
from tests.presets import preset, preset_text

COMMITTED = (ROOT / "params.yaml").read_text(encoding="utf-8")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    (tmp_path / "params.yaml").write_text(COMMITTED, encoding="utf-8")
    (tmp_path / "stages").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, answer: str = "") -> tuple[Result, str]:
    result = CliRunner().invoke(app, ["configure", *arguments], input=answer)
    return result, " ".join(result.output.split())


def text_of(checkout: Path) -> str:
    return (checkout / "params.yaml").read_text(encoding="utf-8")


def test_a_preset_is_written_and_the_way_back_is_exact(checkout: Path) -> None:
    for name in ("gpu", "smoke", "laptop"):
        result, output = run("--preset", name)
        assert result.exit_code == 0
        assert "params.yaml was written" in output
        assert text_of(checkout) == preset_text(name)
    assert text_of(checkout) == COMMITTED


def test_a_depth_shows_old_and_new_and_changes_only_these(checkout: Path) -> None:
    laptop = load_params(checkout / "params.yaml")
    depth = laptop.model.scratch.num_layers + 1
    result, _ = run("--preset", "laptop", "--depth", str(depth))
    assert result.exit_code == 0
    row = next(line for line in result.output.splitlines() if "model.scratch.num_layers" in line)
    assert re.findall(r"[\d]+", row) == [str(depth - 1), str(depth)]
    lines = zip(COMMITTED.splitlines(), text_of(checkout).splitlines(), strict=True)
    keys = {new.split(":")[0].strip() for old, new in lines if old != new}
    assert "num_layers" in keys
    assert keys <= {key.rpartition(".")[2] for key in resize(laptop, depth)}
    _, output = run("--preset", "laptop", "--depth", str(depth))
    assert output.startswith("params.yaml needs no change.")


def test_a_dry_run_shows_and_writes_nothing(checkout: Path) -> None:
    result, output = run("--preset", "smoke", "--dry-run")
    assert result.exit_code == 0
    assert "pretrain.num_steps" in output
    assert "This is what would change; params.yaml was not written." in output
    assert text_of(checkout) == COMMITTED


def test_at_a_terminal_it_asks_first(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configure, "is_terminal", lambda: True)
    result, output = run("--preset", "smoke", answer="n\n")
    assert result.exit_code == 0
    assert output.index("pretrain.num_steps") < output.index("Write params.yaml? [y/N]")
    assert output.endswith("params.yaml was not written.")
    assert text_of(checkout) == COMMITTED
    run("--preset", "smoke", answer="y\n")
    assert text_of(checkout) == preset_text("smoke")
    _, output = run("--preset", "laptop", "--yes")
    assert "Write params.yaml?" not in output
    assert text_of(checkout) == COMMITTED


def test_own_sources_stay_and_it_is_said(checkout: Path) -> None:
    (checkout / "params.yaml").write_text(COMMITTED.replace("name: chitchat", "name: talk"), encoding="utf-8")
    _, output = run("--preset", "gpu")
    assert "Your own prepare.sources stay" in output
    assert [source.name for source in load_params(checkout / "params.yaml").prepare.sources] == ["talk", "wikipedia"]


def test_an_old_file_is_taken_over(checkout: Path) -> None:
    old = re.sub(r"(?m)^  base: null.*\n|^  scratch:.*\n", "", COMMITTED)
    start, end = old.index("tokenizer:"), old.index("pretrain:")
    old = old[:start] + re.sub("(?m)^    ", "  ", old[start:end]) + old[end:]
    (checkout / "params.yaml").write_text(old, encoding="utf-8")
    result, output = run("--preset", "laptop")
    assert result.exit_code == 1
    assert (
        "model.num_layers: moved to model.scratch.num_layers; `groundup configure --migrate` rewrites the file"
        in output
    )
    assert text_of(checkout) == old
    result, output = run("--migrate")
    assert result.exit_code == 0
    assert "model.scratch.num_layers" in output
    assert load_params(checkout / "params.yaml") == preset("laptop")
    assert "    num_heads: 3  # attention heads" in text_of(checkout)
    assert run("--migrate")[1].startswith("params.yaml needs no change.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--preset", "huge"), "unknown preset huge: use evening, gpu, laptop, smoke"),
        (("--preset", "../laptop"), "unknown preset ../laptop"),
        (("--preset", "laptop", "--depth", "0"), "greater than or equal to 1"),
        ((), "use either --preset NAME, with --depth N for another size, or --migrate"),
        (("--depth", "4"), "use either --preset NAME"),
        (("--migrate", "--preset", "gpu"), "use either --preset NAME"),
        (("--migrate", "--depth", "4"), "use either --preset NAME"),
    ],
)
def test_what_does_not_exist_is_refused(checkout: Path, arguments: tuple[str, ...], message: str) -> None:
    result, output = run(*arguments)
    assert result.exit_code != 0
    assert message in re.sub(r"[^ -~] ", "", output)
    assert text_of(checkout) == COMMITTED


def test_a_damaged_file_stays_and_is_named(checkout: Path) -> None:
    (checkout / "params.yaml").write_text("model: [1")
    for argument in (("--preset", "laptop"), ("--migrate",)):
        result, output = run(*argument)
        assert result.exit_code == 1
        assert "params.yaml was not written." in output
        assert "is not valid YAML" in output
        assert text_of(checkout) == "model: [1"


def test_a_preset_with_problems_names_all(checkout: Path) -> None:
    path = checkout / "presets/laptop.yaml"
    path.write_text(path.read_text().replace("num_heads: ", "num_heads: -").replace("seed: 21", "seed: -1"))
    result, output = run("--preset", "laptop", "--depth", "6")
    assert result.exit_code == 1
    assert "model.scratch.num_heads" in output
    assert "prepare.seed" in output
    assert text_of(checkout) == COMMITTED
