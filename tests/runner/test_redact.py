"""No secret leaves the process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from groundup.runner.redact import redact, redact_all
from groundup.runner.tracking.spool import EVENTS, Spool


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:hunter2@host:5000/x", "http://***@host:5000/x"),
        ("at postgresql+psycopg2://me:p@ss!@db/mlflow, port", "at postgresql+psycopg2://***@db/mlflow, port"),
        ("https://ghp_abc@example.org/me/repo.git", "https://***@example.org/me/repo.git"),
        ("https://host/data.jsonl?a=1&token=abc&b=2", "https://host/data.jsonl?a=1&token=***&b=2"),
        ("https://host/x?X-Amz-Signature=9f&X-Amz-Date=1", "https://host/x?X-Amz-Signature=***&X-Amz-Date=1"),
        ("https://host/x?sig=9f%3D", "https://host/x?sig=***"),
        ("sqlite:////home/me/mlflow.db", "sqlite:////home/me/mlflow.db"),
        ("git@example.org:me/repo.git wrote to me@example.org", "git@example.org:me/repo.git wrote to me@example.org"),
        ("https://host/a and me@example.org", "https://host/a and me@example.org"),
        ("loss=1.5; seed=17", "loss=1.5; seed=17"),
    ],
)
def test_urls(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_secrets_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "correct horse")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tok-4711")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:pa%2Fss@host")
    monkeypatch.setenv("HF_TOKEN", "abc")  # too short to distinguish from text
    text = "correct horse, correct%20horse, tok-4711, pa/ss, pa%2Fss, abc"
    assert redact(text) == "***, ***, ***, ***, ***, abc"


def test_every_string_of_a_structure() -> None:
    url = "https://me:secret@host/x"
    event = {"params": {"url": url}, "files": [[url, 1]], "value": 0.5, "none": None}
    shown = "https://***@host/x"
    assert redact_all(event) == {"params": {"url": shown}, "files": [[shown, 1]], "value": 0.5, "none": None}


def test_the_spool_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", 'quo"ted')
    spool = Spool(tmp_path)
    spool.write("start", tags={"remote": "https://me:pass@host/repo"}, params={"source": 'x quo"ted y'})
    event = json.loads((tmp_path / EVENTS).read_text())
    assert event["tags"]["remote"] == "https://***@host/repo"
    assert event["params"]["source"] == "x *** y"


def test_logs_warnings_and_tracebacks_show_none(tmp_path: Path) -> None:
    script = (
        "import logging, sys, warnings\n"
        "from groundup.runner.redact import redact_streams\n"
        "redact_streams()\n"
        "logging.basicConfig(level=logging.INFO, stream=sys.stderr)\n"
        "logging.getLogger('lib').warning('asking %s', 'http://me:hunter2@host')\n"
        "warnings.warn('http://me:hunter2@host')\n"
        "sys.stdout.write('tok-4711\\n')\n"
        "raise RuntimeError('http://me:hunter2@host and tok-4711')\n"
    )
    environment = os.environ | {"HF_TOKEN": "tok-4711"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == "***\n"
    assert done.stderr.count("http://***@host") >= 3
    assert "RuntimeError" in done.stderr
    # a traceback quotes the line of a file; here there is none to quote
    assert "hunter2" not in done.stderr
    assert "tok-4711" not in done.stderr


def test_a_password_that_is_a_word_changes_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "report")
    spool = Spool(tmp_path)
    spool.write("artifacts", files=[["export/artifacts/reports/evaluate/a.md", ""]])
    assert json.loads((tmp_path / EVENTS).read_text())["files"] == [["export/artifacts/reports/evaluate/a.md", ""]]
    assert redact("password report, reports/reported") == "password ***, reports/reported"
