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
from groundup.app.compare.experiments import Figure, comparison
from groundup.app.compare.picture import draw

HEADLINES = {"sft": ("val_loss",), "evaluate": ("val_win", "judge")}
WIN = {"val_win": 0.6, "val_win_ci_low": 0.55, "val_win_ci_high": 0.65, "judge": 0.5, "other": 1}


def shown(
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


WORKSPACE = baseline(shown(None, 0.1, 3.0, "workspace"))


def test_experiments_and_where_they_differ() -> None:
    tried = [shown("fast", 0.2, 2.9), shown("faster", 0.4, 2.8), shown("late", 0.8, 9.9, state="queued")]
    found = comparison([WORKSPACE, baseline(shown("main", 0.1, 3.0), tried)], HEADLINES)
    assert [it.name for it in found.experiments] == ["workspace", "fast", "faster"]  # main is the workspace
    assert found.unfinished == ["late"]
    assert found.changed == ["sft.rate"]
    assert found.figures == ["sft/val_loss"]
    fast = found.experiments[1]
    assert fast.params == {"sft.rate": 0.2, "sft.seed": 1}
    assert fast.figures == {
        "sft/val_loss": Figure(2.9, None),
        "evaluate/val_win": Figure(0.6, (0.55, 0.65)),
        "evaluate/judge": Figure(0.5, None),
    }
    assert str(fast.figures["evaluate/val_win"]) == "0.600 (0.550 to 0.650)"
    assert str(Figure(134515008, None)) == "134,515,008"


def test_a_commit_that_differs_from_the_workspace_stays() -> None:
    found = comparison([WORKSPACE, baseline(shown(None, 0.1, 3.1))], HEADLINES)
    assert [it.name for it in found.experiments] == ["workspace", "c0ffee0"]


def test_what_was_not_measured_or_has_failed() -> None:
    failed = {"rev": "bad0bad", "name": "broken", "data": None, "error": {"msg": "no params"}}
    empty = {"rev": "workspace", "name": None, "data": {"params": {}, "metrics": {}}}
    groups = [{"revs": [failed], "executor": None, "name": "broken"}]
    found = comparison([empty | {"experiments": None}, baseline(shown("main", 0.1, 3.0), groups)], HEADLINES)
    assert found.unfinished == ["broken"]
    assert found.experiments[0].figures == {}
    assert found.figures == ["sft/val_loss", "evaluate/val_win", "evaluate/judge"]


def test_the_picture_grows_with_what_it_shows() -> None:
    def height(*losses: float) -> int:
        tried = [shown(f"run {loss}", 0.2, loss) for loss in losses]
        png = draw(comparison([WORKSPACE, baseline(shown("main", 0.1, 3.0), tried)], HEADLINES))
        image = Image.open(io.BytesIO(png))
        assert image.getchannel("A").getextrema() == (0, 255)  # something is drawn
        return image.height

    assert height(2.9) < height(2.9, 2.8, 2.7)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = Path(__file__).resolve().parents[3]
    (tmp_path / "stages").mkdir()
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).write_bytes((root / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, printed: object, *arguments: str, code: int = 0) -> tuple[int, str]:
    def dvc(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert command[1:] == ["-m", "dvc", "exp", "show", "--json"]
        return subprocess.CompletedProcess(command, code, json.dumps(printed), "ERROR: not a DVC repository\n")

    monkeypatch.setattr("subprocess.run", dvc)
    result = CliRunner().invoke(app, ["compare", *arguments], env={"COLUMNS": "120"})
    return result.exit_code, result.output


def test_the_command(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = [shown("fast", 0.2, 2.9), shown("late", 0.8, 9.9, state="queued")]
    everything = [WORKSPACE, baseline(shown("main", 0.1, 3.0), tried)]
    code, output = run(monkeypatch, everything)
    assert code == 0, output
    lines = [line for line in output.splitlines() if "sft" in line]
    assert [line.replace("\u2502", " ").split() for line in lines] == [
        ["sft.rate", "0.1", "0.2"],
        ["sft/val_loss", "3.000", "2.900"],
    ]
    assert "not finished: late" in output
    assert Image.open(checkout / "exports/compare.png").format == "PNG"


@pytest.mark.parametrize(
    ("printed", "arguments", "code", "message"),
    [
        ([WORKSPACE], (), 0, "there is nothing to compare: `dvc exp run -S align.seed=5` makes an experiment"),
        ([WORKSPACE], ("fast",), 0, "DVC knows no experiment fast; there are workspace"),
        (
            [WORKSPACE, baseline(shown("main", 0.1, 3.0), [shown("late", 0.8, 9.9, state="queued")])],
            ("late",),
            0,
            "late: not finished; there are workspace",
        ),
        ([], (), 255, "`dvc exp show` failed: ERROR: not a DVC repository"),
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
