"""The groundup command on missing or broken artifacts."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from groundup.app.cli.main import app
from tests.bad_input.checkout import EARLIER, snapshot
from tests.bad_input.conftest import Case, Checkout, Outcome, assert_clear, case_id
from tests.bad_input.spoil import (
    an_empty_folder,
    append,
    both,
    delete,
    file_for_folder,
    nan_weights,
    truncate,
    write,
)

pytestmark = pytest.mark.tried("bad input", "commands")

FORCE = "`dvc checkout --force"
AGAIN = "`dvc repro` writes it again"
WORK = f".work/sft/{EARLIER}"


def command(line: str, name: str, spoil: Any, says: str) -> Case:
    return Case(f"{line}: {name}", line, spoil, says)


CASES = [
    command("chat", "no model", delete("artifacts/aligned"),
            "there is no model in | artifacts/aligned | train one with `dvc repro`"),
    command("chat --model none", "no such model", bool,
            "unknown model | 'none' | choose base, sft, aligned, champion"),
    command("chat --model sft", "an empty folder", an_empty_folder("artifacts/sft"),
            "there is no model in | artifacts/sft | `dvc repro`"),
    command("chat", "a file for a folder", file_for_folder("artifacts/aligned"),
            "there is no model in | artifacts/aligned | `dvc repro`"),
    command("chat", "weights cut off", truncate("artifacts/aligned/model.safetensors"),
            f"damaged or incomplete | artifacts/aligned | {FORCE}"),
    command("chat", "no weights", delete("artifacts/aligned/model.safetensors"),
            f"it has no weights | artifacts/aligned | {FORCE}"),
    command("chat", "NaN weights", nan_weights("artifacts/aligned"), f"are not finite | artifacts/aligned | {FORCE}"),
    command("chat", "no tokenizer", delete("artifacts/aligned/tokenizer.json"),
            f"tokenizer.json is missing | artifacts/aligned | {FORCE}"),
    command("chat", "a config cut off", truncate("artifacts/aligned/config.json"),
            f"config.json cannot be read | artifacts/aligned | {FORCE}"),
    command("chat --model reward", "a reward model", bool, "unknown model | 'reward' | choose base, sft, aligned"),
    command("chat --model ../sft", "a path", bool, "unknown model | '../sft' | choose base, sft, aligned"),
    command("chat --decode magic", "no such decoding", bool, "unknown decoding method | 'magic' | choose greedy"),
    command("chat --decode tree", "no reward model", delete("artifacts/reward"),
            "has none | artifacts/reward | choose greedy, sample or beam"),
    command("chat --decode tree", "NaN in the reward model", nan_weights("artifacts/reward"),
            f"are not finite | artifacts/reward | {FORCE}"),
    command("chat", "no params", delete("params.yaml"), "is missing | params.yaml | restore it with `git checkout"),
    command("chat --max-new-tokens 0", "no room for a reply", bool,
            "max_new_tokens is 0 | max_new_tokens | greater than or equal to 1"),
    command("chat --max-new-tokens 999", "no room for a prompt", bool,
            "max_new_tokens is 999 | half of the model's context | choose 1 to 64"),
    command("chat --temperature -1", "a negative temperature", bool,
            "temperature is -1 | temperature | greater than or equal to 0"),
    command("lineage", "no stage has run", delete("metrics"),
            "no stage has run yet | no stage | `dvc repro` runs them all"),
    command("lineage", "a record cut off", truncate("metrics/sft.json"),
            f"not valid JSON | metrics/sft.json | {AGAIN}"),
    command("lineage", "a record with conflict markers", write("metrics/sft.json", "<<<<<<< HEAD\n{}"),
            "conflict markers | metrics/sft.json, line 1 | resolve the conflict"),
    command("lineage", "a record that is a list", write("metrics/sft.json", "[]"),
            f"not an object | metrics/sft.json | {AGAIN}"),
    command("lineage", "dvc.yaml broken", append("dvc.yaml", " - ["),
            "not valid YAML | dvc.yaml, line | git checkout HEAD"),
    command("deliver", "a spool of junk", write(f"{WORK}/spool.jsonl", "junk\n"),
            f"not valid JSON | {WORK}/spool.jsonl, line 1 | remove the folder"),
    command("deliver", "a delivery record cut off",
            both(write(f"{WORK}/spool.jsonl", '{"kind": "start", "time_ms": 1}\n'), write(f"{WORK}/run.json", "{")),
            f"not valid JSON | {WORK}/run.json | remove the folder"),
    command("report", "a curve with conflict markers", write("metrics/sft.csv", "step,loss\n<<<<<<< HEAD\n1,2\n"),
            "'<<<<<<< HEAD' | metrics/sft.csv, line 2 | delete the file, then `dvc repro`"),
    command("report", "a curve of words", write("metrics/sft.csv", "step,loss\n1,high\n"),
            f"'1,high' | metrics/sft.csv, line 2 | {AGAIN}"),
    command("report", "figures of another version", write("artifacts/reports/evaluate/page.json", "{}"),
            "does not match this version of evaluate | artifacts/reports/evaluate/page.json | "
            "`dvc repro evaluate`"),
    command("report", "nothing made", delete("artifacts/reports"),
            "there is nothing to report yet | report | `dvc repro`"),
]  # fmt: skip


def invoke(checkout: Checkout, line: str, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    monkeypatch.chdir(checkout.root)
    monkeypatch.setattr("groundup.app.cli.main.console.width", 10_000)
    result = CliRunner().invoke(app, line.split(), input="Hello\n")
    unexpected = result.exception is not None and not isinstance(result.exception, SystemExit)
    return Outcome(result.exit_code, result.output + ("Traceback " + repr(result.exception) if unexpected else ""))


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_it_is_said_and_nothing_changes(case: Case, checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    case.spoil(checkout.root)
    before = snapshot(checkout.root, (".work/sft.lock",)), checkout.earlier("sft")
    outcome = invoke(checkout, case.stage, monkeypatch)
    assert_clear(case, outcome)
    assert (snapshot(checkout.root, (".work/sft.lock",)), checkout.earlier("sft")) == before


def test_lineage_of_another_machine(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that this store does not have, and a record without its fingerprint."""
    record = json.loads((checkout.root / "metrics/reward.json").read_text(encoding="utf-8"))
    del record["fingerprint"]
    (checkout.root / "metrics/reward.json").write_text(json.dumps(record), encoding="utf-8")
    outcome = invoke(checkout, "lineage", monkeypatch)
    assert outcome.code == 0, outcome.message
    assert "fingerprint ffffffff" in outcome.message
    assert "fingerprint unknown" in outcome.message


def test_ui_without_a_server(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"
    says = "MLFLOW_TRACKING_URI points to | http://127.0.0.1:9 | open that address"
    case = command("ui", "another's server", bool, says)
    assert_clear(case, invoke(checkout, "ui", monkeypatch))


@pytest.mark.parametrize("line", ["chat", "lineage", "deliver", "ui"])
def test_outside_a_checkout(line: str, checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [line])
    case = command(line, "outside", bool, "no groundup checkout | here | change into the folder that holds dvc.yaml")
    assert_clear(case, Outcome(result.exit_code, " ".join(result.output.split())))
