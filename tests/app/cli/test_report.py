"""`groundup report`."""

import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from groundup.app.cli.main import app
from groundup.runner.files import write_json
from tests.conftest import ROOT


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    (tmp_path / "stages").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> tuple[Result, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result, " ".join(result.output.split())


def test_report_before_there_is_one(checkout: Path) -> None:
    result, output = run("report")
    assert result.exit_code == 1
    assert "there is no report in" in output
    assert "`dvc repro` writes it" in output


def test_report_has_what_a_clock_measured(checkout: Path) -> None:
    shutil.copyfile(ROOT / "params.yaml", checkout / "params.yaml")
    page = checkout / "artifacts/report/report.html"
    page.parent.mkdir(parents=True)
    page.write_text("<p>Made.<!-- clock sft --></p>", encoding="utf-8")
    write_json(checkout / "metrics/sft.json", {"stage_seconds": 120.0})
    write_json(
        checkout / "artifacts/reports/sft/cost.json",
        {"num_parameters": 1000, "num_learned_tokens": 2000, "num_read_tokens": 0},
    )
    result, output = run("report")
    assert result.exit_code == 0
    row = next(line for line in result.output.splitlines() if " sft " in line)
    assert re.findall(r"[\d.,]+", row) == ["2.0", "1", "1,000", "2,000", "0", "12"]
    assert (checkout / "exports/report.html").read_text(encoding="utf-8") == "<p>Made., 2.0 min, 1 Wh</p>"
    result, output = run("report", "--out", str(page / "below.html"))
    assert result.exit_code == 1
    assert "choose another --out" in output
