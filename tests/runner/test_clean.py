"""Work dirs that are no longer needed are removed; all others stay, and the reason is given."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from groundup.runner.clean import clean
from groundup.runner.files import dvc_md5, write_json
from groundup.runner.fingerprint import take_fingerprint
from groundup.runner.lock import locked
from groundup.runner.params import load_params
from groundup.runner.params.selection import select
from groundup.runner.pipeline import read_pipeline
from groundup.runner.tracking.spool import Delivered, Spool, note_delivered
from tests.presets import preset_text

PIPELINE = """
stages:
  prepare:
    cmd: python -m stages.prepare
    deps: [data]
    params: [prepare.seed]
    outs: [artifacts/text]
  tokenizer:
    cmd: python -m stages.tokenizer
    deps: [artifacts/text]
    params: [tokenizer]
    outs: [artifacts/tokenizer]
"""
LOCK = """
stages:
  prepare:
    outs:
    - path: artifacts/text
      md5: recorded
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.txt").write_text("hello")
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "dvc.lock").write_text(LOCK)
    (tmp_path / "params.yaml").write_text(preset_text("smoke"), encoding="utf-8")
    return tmp_path


def make(root: Path, name: str, delivered: bool = True, md5: str | None = None) -> Path:
    """A work dir with a checkpoint of 1000 bytes; finished if `md5` is given."""
    work = root / ".work" / name
    work.mkdir(parents=True)
    (work / "scratch").mkdir()
    (work / "scratch/checkpoint").write_bytes(bytes(1000))
    spool = Spool(work)
    spool.write("start")
    if delivered:
        note_delivered(work, Delivered("run", 1))
    if md5:
        write_json(work / "finished.json", {"metrics": {}, "md5s": {"artifacts/text": md5}})
    return work


def present(root: Path, device: str) -> str:
    spec = read_pipeline(root)["prepare"]
    params = select(load_params(root / "params.yaml"), spec.params)
    return take_fingerprint(root, spec, params, device).value


def verdicts(root: Path, undelivered: bool = False, dry_run: bool = False) -> dict[str, tuple[bool, str]]:
    return {v.work.name: (v.stale, v.reason) for v in clean(root, undelivered, dry_run)}


def test_only_what_is_stale_goes(root: Path) -> None:
    here, gpu = present(root, "cpu"), present(root, "cuda")
    for name in (here, gpu, "other", "held"):
        make(root, f"prepare/{name}")
    make(root, "prepare/done", md5="recorded")
    make(root, "prepare/waits", md5="not recorded")
    make(root, "gone/any")
    make(root, "tokenizer/unknown")
    with locked(root / ".work/prepare/held"):
        found = verdicts(root)
    assert {name for name, (stale, _) in found.items() if stale} == {"other", "done", "waits", "any"}
    assert found["done"][1] == "dvc.lock records its result"
    assert found["other"][1] == "its inputs have changed since"
    assert found[here] == found[gpu] == (False, "its inputs are current: `dvc repro prepare` continues from here")
    assert "already works on" in found["held"][1]
    assert "an input of tokenizer is missing" in found["unknown"][1]
    left = {path.name for path in (root / ".work").glob("*/*") if path.is_dir()}
    assert left == {here, gpu, "held", "unknown"}


def test_the_present_inputs_result_goes_once_dvc_has_it(root: Path) -> None:
    name = present(root, "cpu")
    work = make(root, f"prepare/{name}", md5="not recorded")
    assert not verdicts(root)[name][0]
    write_json(work / "finished.json", {"metrics": {}, "md5s": {"artifacts/text": "recorded"}})
    assert not verdicts(root)[name][0]  # other inputs gave the same bytes; DVC has not recorded these inputs
    entry = {
        "deps": [{"path": "data", "md5": dvc_md5(root / "data")}],
        "params": {"params.yaml": {"prepare.seed": 17}},
    }
    outs = [{"path": "artifacts/text", "md5": "recorded"}]
    (root / "dvc.lock").write_text(json.dumps({"stages": {"prepare": entry | {"outs": outs}}}))  # JSON is YAML
    assert verdicts(root)[name][0]


def test_what_mlflow_has_not_taken_stays_unless_asked(root: Path) -> None:
    work = make(root, "prepare/old-undelivered-17", delivered=False)
    (stale, reason) = verdicts(root)[work.name]
    assert not stale
    assert "`groundup deliver` sends it, --undelivered discards it" in reason
    assert verdicts(root, undelivered=True)[work.name][0]
    assert not list((root / ".work/prepare").iterdir())


def test_a_dry_run_says_the_same_and_removes_nothing(root: Path) -> None:
    make(root, "prepare/other")
    (told,) = clean(root, undelivered=False, dry_run=True)
    assert told.work.is_dir()
    (done,) = clean(root, undelivered=False, dry_run=False)
    assert told == done
    assert done.num_bytes > 1000
    assert not done.work.exists()


def test_nothing_to_clean(root: Path) -> None:
    assert verdicts(root) == {}


def test_it_needs_neither_torch_nor_mlflow() -> None:
    script = (
        "import sys, groundup.runner.clean\nheavy = {'torch', 'mlflow'} & sys.modules.keys()\nassert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
