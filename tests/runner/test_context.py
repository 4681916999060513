"""The context of a stage's body: a body in another process gives the same bytes, also after a kill."""

import os
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from groundup.runner import stage as runner
from groundup.runner.context import StageContext
from groundup.runner.files import file_digests
from groundup.runner.tracking.spool import EVENTS
from tests.elsewhere import in_another_process
from tests.runner.conftest import write_outs

pytestmark = pytest.mark.usefixtures("no_deliverer")


def test_what_params_pin_is_in_the_users_checkout(tmp_path: Path) -> None:
    copy = tmp_path / ".dvc/tmp/exps/one"
    for root in (tmp_path, copy):
        stage: Any = SimpleNamespace(root=root)
        assert StageContext.pinned(stage, "models/own") == tmp_path / "models/own"


def train(stage: StageContext) -> dict[str, Any]:
    """Killed in the middle of a point; then from the checkpoint before it."""
    newest = stage.checkpoints.newest()
    if newest is None:
        stage.log(1, loss=1.0)
        with stage.checkpoints.saving(1) as folder:
            (folder / "weights").write_text("1")
        with (stage.folder / EVENTS).open("a", encoding="utf-8") as points:
            points.write('{"kind": "poi')
        os.kill(os.getpid(), signal.SIGKILL)
    assert newest is not None
    assert (newest / "weights").read_text() == "1"
    return write_outs(stage)


def elsewhere(stage: StageContext) -> dict[str, Any]:
    return in_another_process(stage, "tests.runner.test_context", "train")


def test_a_body_in_another_process_makes_the_same_bytes(root: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        runner._run(root, "prepare", elsewhere)
    assert not (root / "artifacts").exists()
    runner._run(root, "prepare", elsewhere)
    assert (root / "artifacts/text/train.txt").read_text() == "hello"
    assert (root / "metrics/prepare.csv").read_text() == "step,loss\n1,1\n2,0.5\n"
    outs = file_digests(root / "artifacts")
    (root / "stages/prepare.py").write_text("pass  # other code, so that it runs again")
    runner._run(root, "prepare", write_outs)
    assert file_digests(root / "artifacts") == outs
