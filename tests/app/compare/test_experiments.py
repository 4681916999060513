"""`groundup compare`: what DVC shows of experiments, as a table and a picture."""

import io
import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from groundup.app.cli.main import app
from groundup.app.compare.experiments import Measured, parse_experiments
from groundup.app.compare.picture import draw
from tests.conftest import ROOT

STAGES = ("sft", "evaluate")
WIN = {"val_win": 0.6, "val_win_ci_low": 0.55, "val_win_ci_high": 0.65, "judge": 0.5, "fingerprint": ["a"]}


def revision(
    name: str | None, rate: float, loss: float, rev: str = "c0ffee0123", state: str | None = None
) -> dict[str, Any]:
    """A revision as `dvc exp show --json` has it, and what it says of a group of revisions."""
    data = {
        "params": {"params.yaml": {"data": {"sft": {"rate": rate, "seed": 1}}}},
        "metrics": {"metrics/sft.json": {"data": {"val_loss": loss}}, "metrics/evaluate.json": {"data": WIN}},
    }
    one = {"rev": rev, "name": name, "data": data}
    return {"revs": [one], "executor": {"state": state} if state else None, "name": name}


def baseline(of: dict[str, Any], experiments: Iterable[dict[str, Any]] = ()) -> dict[str, Any]:
    return of["revs"][0] | {"experiments": list(experiments) or None}


WORKSPACE = baseline(revision(None, 0.1, 3.0, "workspace"))


def test_experiments_and_where_they_differ() -> None:
    tried = [revision("fast", 0.2, 2.9), revision("faster", 0.4, 2.8), revision("late", 0.8, 9.9, state="queued")]
    found = parse_experiments([WORKSPACE, baseline(revision("main", 0.1, 3.0), tried)], STAGES)
    assert [it.name for it in found.finished] == ["workspace", "main", "fast", "faster"]
    assert found.unfinished == {"late": "queued"}
    assert found.changed == ["sft.rate"]
    assert found.figures == ["sft/val_loss"]
    fast = found.finished[2]
    assert fast.params == {"sft.rate": 0.2, "sft.seed": 1}
    assert fast.figures == {
        "sft/val_loss": Measured(2.9, None),
        "evaluate/val_win": Measured(0.6, (0.55, 0.65)),
        "evaluate/judge": Measured(0.5, None),
    }
    assert str(fast.figures["evaluate/val_win"]) == "0.600 (0.550 to 0.650)"


@pytest.mark.parametrize(
    ("value", "text"),
    [(134515008, "134,515,008"), (0.5754, "0.575"), (12.5, "12.500"), (0.0, "0.000"), (1e-4, "0.0001")],
)
def test_a_figure_as_text(value: float, text: str) -> None:
    assert str(Measured(value, None)) == text


def test_what_was_not_measured_or_has_failed() -> None:
    failed = {"rev": "bad0bad", "name": "broken", "data": None, "error": {"msg": "no params"}}
    empty = {"rev": "workspace", "name": None, "data": {"params": {}, "metrics": {}}}
    groups = [{"revs": [failed], "executor": None, "name": "broken"}]
    printed = [empty | {"experiments": None}, baseline(revision(None, 0.1, 3.0), groups)]
    found = parse_experiments(printed, STAGES)
    assert [it.name for it in found.finished] == ["workspace", "c0ffee0"]
    assert found.unfinished == {"broken": "failed"}
    assert found.finished[0].figures == {}
    assert found.figures == ["sft/val_loss", "evaluate/val_win", "evaluate/judge"]


def test_the_picture_has_a_point_for_each() -> None:
    def picture(*losses: float) -> Image.Image:
        tried = [revision(f"run {loss}", 0.2, loss) for loss in losses]
        png = draw(parse_experiments([WORKSPACE, baseline(revision("main", 0.1, 3.0), tried)], STAGES))
        return Image.open(io.BytesIO(png)).convert("RGBA")

    def num_blue(image: Image.Image) -> int:
        return sum(count for count, color in image.getcolors(1 << 20) or () if color == (0x3B, 0x82, 0xF6, 255))

    two, four = picture(2.9), picture(2.9, 2.8, 2.7)
    assert two.height < four.height
    assert num_blue(four) / num_blue(two) == pytest.approx(5 / 3, rel=0.1)  # workspace and main are shown too


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "stages").mkdir()
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, printed: object, *arguments: str, code: int = 0) -> tuple[int, str]:
    def dvc(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert command[1:] == ["-m", "dvc", "exp", "show", "--json"]
        return subprocess.CompletedProcess(command, code, json.dumps(printed), "ERROR: not a DVC repository\n")

    monkeypatch.setattr("subprocess.run", dvc)
    result = CliRunner().invoke(app, ["compare", *arguments], env={"COLUMNS": "120"})
    return result.exit_code, result.output


TRIED = [revision("fast", 0.2, 2.9), revision("late", 0.8, 9.9, state="queued")]
PRINTED = [WORKSPACE, baseline(revision("main", 0.1, 3.0), TRIED)]


@pytest.mark.parametrize("names", [(), ("main", "fast")])  # the workspace is left out, since main is the same
def test_the_command(checkout: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]) -> None:
    code, output = run(monkeypatch, PRINTED, *names)
    assert code == 0, output
    assert ("main" in output, "workspace" in output) == (True, False)
    lines = [line for line in output.splitlines() if "sft" in line]
    assert [line.replace("\u2502", " ").split() for line in lines] == [
        ["sft.rate", "0.1", "0.2"],
        ["sft/val_loss", "3.000", "2.900"],
    ]
    assert "left out: late (queued)" in output
    assert Image.open(checkout / "exports/compare.png").format == "PNG"


def test_equal_figures_are_a_result_too(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = revision("[/odd]", 0.2, 3.0)
    code, output = run(monkeypatch, [WORKSPACE, baseline(revision("main", 0.1, 3.0), [odd])])
    assert code == 0, output
    assert "[/odd]" in output
    assert "sft.rate" in output
    assert "they differ in no headline figure" in output
    assert not (checkout / "exports").exists()


@pytest.mark.parametrize(
    ("printed", "arguments", "code", "message"),
    [
        ([WORKSPACE], (), 0, "there is nothing to compare: `dvc exp run -S align.seed=5` makes an experiment"),
        (PRINTED, ("fast",), 0, "there is nothing to compare"),
        (PRINTED, ("slow",), 0, "no experiment of this commit is named slow (`dvc exp list -A` names those of other"),
        (PRINTED, ("late",), 0, "late is queued; there are workspace, main, fast"),
        ([], (), 255, "`dvc exp show --json` failed: ERROR: not a DVC repository"),
    ],
)
def test_what_cannot_be_compared(
    checkout: Path,
    monkeypatch: pytest.MonkeyPatch,
    printed: object,
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    exit_code, output = run(monkeypatch, printed, *arguments, code=code)
    assert exit_code == 1
    assert message in " ".join(output.split())
