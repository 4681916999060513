"""The copy of a registered model."""

import json
import sys
from pathlib import Path

import pytest

from groundup.runner.tracking import copy as module


def test_what_a_model_type_says_it_needs_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "makes_it_known.py").write_text("")
    for model_type, known in (("llama", False), ("llama_needs_import_makes_it_known", True)):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
        module._import_what_it_needs(tmp_path)
        assert ("makes_it_known" in sys.modules) is known
    monkeypatch.delitem(sys.modules, "makes_it_known")
