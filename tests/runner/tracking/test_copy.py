"""The rehearsal of the registered model's copy: it makes one, leaves nothing and stops nothing."""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from groundup.runner.tracking import copy as module


def test_the_rehearsal_makes_a_whole_copy(tmp_path: Path) -> None:
    module._copy_a_model_of_no_size(tmp_path)
    made = {path.relative_to(tmp_path / "copy").as_posix() for path in (tmp_path / "copy").rglob("*")}
    assert {"MLmodel", "model/model.safetensors", "components/tokenizer/tokenizer.json", "model_card.md"} <= made


def test_the_rehearsal_leaves_and_says_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """The deliverer's last words are shown to the user."""
    module.rehearse_copy(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert capfd.readouterr() == ("", "")


def test_a_rehearsal_that_fails_does_not_keep_the_run_from_being_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(source: Path) -> dict[str, Any]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_load", fail)
    module.rehearse_copy(tmp_path)
    assert "rehearsal" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_what_a_model_type_says_it_needs_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "makes_it_known.py").write_text("")
    for model_type, known in (("llama", False), ("llama_needs_import_makes_it_known", True)):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
        module._import_what_it_needs(tmp_path)
        assert ("makes_it_known" in sys.modules) is known
    monkeypatch.delitem(sys.modules, "makes_it_known")
