"""Broken or missing files around a stage: dvc.yaml, dvc.lock, inputs, records of other runs, folders."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from groundup.runner import lock as locks
from groundup.runner.lock import locked
from tests.bad_input.checkout import EARLIER, snapshot
from tests.bad_input.conftest import Case, Checkout, Outcome, assert_clear, case_id, run_here, unreached
from tests.bad_input.spoil import (
    Spoil,
    an_empty_folder,
    append,
    both,
    delete,
    edit_json,
    file_for_folder,
    replace,
    truncate,
    write,
)
from tests.conftest import ROOT

pytestmark = pytest.mark.tried("bad input", "runner")

COMMITTED = "`git checkout HEAD -- dvc.yaml`"
LOCK = "`git checkout HEAD -- dvc.lock`"
AGAIN = "delete it, then `dvc repro` writes it again"


def lock(content: str) -> Spoil:
    """A dvc.lock, and a finished result whose state it records."""
    finished = write(f".work/tokenizer/{EARLIER}/finished.json", '{"md5s": {"a": "b"}, "metrics": {}}')
    return both(write("dvc.lock", content), finished)


# Said before a stage imports what it needs, and nothing is touched.
EARLY = [
    Case("no dvc.yaml", "prepare", delete("dvc.yaml"), "dvc.yaml is missing | checkout/dvc.yaml | repository root"),
    Case("dvc.yaml empty", "prepare", write("dvc.yaml", ""), f"no mapping `stages` | dvc.yaml | {COMMITTED}"),
    Case("dvc.yaml a list", "prepare", write("dvc.yaml", "- stages"), f"no mapping `stages` | dvc.yaml | {COMMITTED}"),
    Case("dvc.yaml with a stage of nothing", "prepare",
         replace("dvc.yaml", "plots:\n  - pretrain", "  more:\n\nplots:\n  - pretrain"),
         f"no mapping `stages` | dvc.yaml | {COMMITTED}"),
    Case("dvc.yaml a folder", "prepare", an_empty_folder("dvc.yaml"),
         "dvc.yaml is missing | dvc.yaml | repository root"),
    Case("dvc.yaml broken", "prepare", append("dvc.yaml", "  - [\n"),
         f"not valid YAML | dvc.yaml, line | {COMMITTED}"),
    Case("dvc.yaml with conflict markers", "sft",
         replace("dvc.yaml", "  sft:", "<<<<<<< HEAD\n  sft:\n=======\n  sft:\n>>>>>>> other"),
         "conflict markers | dvc.yaml, line | resolve the conflict"),
    Case("dvc.yaml in Latin-1", "prepare", write("dvc.yaml", b"# \xe9"),
         "not valid UTF-8 | dvc.yaml | save it as UTF-8"),
    Case("a stage that dvc.yaml lacks", "sft", replace("dvc.yaml", "  sft:", "  tuning:"),
         "no stage sft | dvc.yaml | it has prepare"),
    Case("a declared param that there is not", "sft", replace("dvc.yaml", "      - sft\n", "      - sft.sede\n"),
         "sft.sede | dvc.yaml declares | params.yaml does not have"),
    Case("no base.lock", "pretrain", delete("base.lock"),
         "base.lock is missing | checkout/base.lock | `groundup configure --base NAME` writes it again"),
    Case("an input deleted", "tokenizer", delete("artifacts/data/text"),
         "do not exist | artifacts/data/text | `dvc checkout` brings back"),
    Case("all artifacts deleted", "evaluate", delete("artifacts"),
         "do not exist | artifacts/base, artifacts/sft, artifacts/reward, artifacts/aligned | `dvc repro evaluate`"),
    Case("an unknown device", "sft", lambda root: os.environ.update(GROUNDUP_DEVICE="quantum"),
         "GROUNDUP_DEVICE=quantum | sft failed | use auto, cpu, cuda or mps"),
    Case("dvc.lock broken", "tokenizer", lock("stages: ["), f"not valid YAML | dvc.lock, line | {LOCK}"),
    Case("dvc.lock a list", "tokenizer", lock("- 1"), f"no mapping `stages` | dvc.lock | {LOCK}"),
    Case("dvc.lock with conflict markers", "tokenizer", lock("stages:\n<<<<<<< HEAD\n  a: 1\n"),
         "conflict markers | dvc.lock, line 2 | resolve the conflict"),
    Case("an upstream metrics file cut off", "tokenizer", truncate("metrics/prepare.json"),
         f"not valid JSON | metrics/prepare.json | {AGAIN}"),
    Case("an upstream metrics file with conflict markers", "tokenizer",
         write("metrics/prepare.json", '{\n<<<<<<< HEAD\n"a": 1}'),
         "conflict markers | metrics/prepare.json, line 2 | resolve"),
    Case("an upstream metrics file that is a list", "tokenizer", write("metrics/prepare.json", "[]"),
         f"not an object | metrics/prepare.json | {AGAIN}"),
    Case("an upstream metrics file in another encoding", "tokenizer", write("metrics/prepare.json", b'{"a": "\xe9"}'),
         f"not valid UTF-8 | metrics/prepare.json | {AGAIN}"),
    Case("a folder for a metrics file", "tokenizer", an_empty_folder("metrics/prepare.json"),
         "is a folder | metrics/prepare.json | remove it"),
    Case("a file for .work", "tokenizer", file_for_folder(".work"),
         "Not a directory | .work/tokenizer | has the name of a folder"),
]  # fmt: skip


@pytest.mark.parametrize("case", EARLY, ids=case_id)
def test_it_is_said_before_anything_is_touched(
    case: Case, checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.spoil(checkout.root)
    before = snapshot(checkout.root, (".work",)), checkout.earlier(case.stage)
    assert_clear(case, run_here(checkout, case.stage, monkeypatch, unreached))
    assert (snapshot(checkout.root, (".work",)), checkout.earlier(case.stage)) == before


def process(stage: str, cwd: Path, **environment: str) -> Outcome:
    """`python -m stages.STAGE`, as a user types it."""
    result = subprocess.run(
        [sys.executable, "-m", f"stages.{stage}"],
        cwd=cwd,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return Outcome(result.returncode, result.stdout + result.stderr)


def test_a_stage_started_from_another_folder(checkout: Checkout) -> None:
    says = f"groundup comes from | not from {checkout.root / 'data/src'} | from the repository root"
    case = Case("another folder", "sft", bool, says)
    before = snapshot(checkout.root)
    assert_clear(case, process("sft", checkout.root / "data", PYTHONPATH=str(ROOT)))
    assert snapshot(checkout.root) == before


def test_the_groundup_of_another_checkout(checkout: Checkout) -> None:
    """As with an editable install of another clone, if stages belongs to that clone too."""
    (checkout.root / "src").unlink()
    shutil.copytree(ROOT / "src", checkout.root / "src", ignore=shutil.ignore_patterns("__pycache__"))
    says = f"groundup comes from | {ROOT / 'src/groundup'} | `python -m stages.NAME`"
    case = Case("wrong groundup", "sft", bool, says)
    before = snapshot(checkout.root)
    assert_clear(case, process("sft", checkout.root))
    assert snapshot(checkout.root) == before


def test_a_wait_for_another_process_can_be_ended(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert run_here(checkout, "tokenizer", monkeypatch).code == 0
    (work,) = (path for path in (checkout.root / ".work/tokenizer").iterdir() if (path / "finished.json").exists())
    before = checkout.earlier("tokenizer")
    caplog.set_level("INFO", "groundup")
    monkeypatch.setattr(locks.time, "sleep", lambda seconds: os.kill(os.getpid(), signal.SIGTERM))
    with locked(work):
        ended = run_here(checkout, "tokenizer", monkeypatch)
    assert ended.code == 128 + signal.SIGTERM
    said = rf"process {os.getpid()}, since [-\d]+ [:\d]+, works on {work}: this stage waits for its result"
    assert re.search(said, ended.message)
    assert checkout.earlier("tokenizer") == before


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("no dvc.lock", delete("dvc.lock")),
        ("dvc.lock empty", write("dvc.lock", "")),
        ("a metrics file from another machine", edit_json("metrics/prepare.json", fingerprint=["d" * 16])),
        ("a metrics file of an unknown key", edit_json("metrics/prepare.json", surprise=[1])),
        ("no upstream metrics file", delete("metrics/prepare.json")),
        ("no git", lambda root: os.environ.update(PATH="/nowhere")),
    ],
)
def test_what_a_stage_can_do_without(
    checkout: Checkout, name: str, spoil: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkout is not a git repository."""
    spoil(checkout.root)
    outcome = run_here(checkout, "tokenizer", monkeypatch)
    assert outcome.code == 0, outcome.message
    assert json.loads((checkout.root / "metrics/tokenizer.json").read_text(encoding="utf-8"))["fingerprint"]
