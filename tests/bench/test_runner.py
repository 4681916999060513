"""What bench/runner measures: imports, and a stage with nothing to do."""

from pathlib import Path

import pytest

from bench.runner.__main__ import imports_of, imports_of_everything, make_empty_checkout, run_empty_stage

STAGE = """
from typing import Any


def main(stage: Any) -> None:
    import json
    from fractions import Fraction
"""


def test_a_stages_imports_are_those_inside_its_main_too(tmp_path: Path) -> None:
    (tmp_path / "stage.py").write_text(STAGE, encoding="utf-8")
    assert imports_of(tmp_path / "stage.py") == "from typing import Any\nimport json\nfrom fractions import Fraction"


def test_everything_is_what_any_stage_and_any_branch_may_import() -> None:
    lines = imports_of_everything().split("\n")
    packages = {line.split()[1].split(".")[0] for line in lines}
    assert {"torch", "lightning", "transformers", "trl", "datasets", "peft", "mlflow", "lm_eval"} <= packages
    assert {"sklearn", "matplotlib", "openai", "datasketch", "ftfy", "tokenizers"} <= packages
    assert not {"groundup", "stages", "dvc"} & packages


def test_a_stage_with_nothing_to_do_runs_again_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    make_empty_checkout(tmp_path)
    for _ in range(2):
        (tmp_path / "metrics/empty.json").unlink(missing_ok=True)
        assert run_empty_stage(tmp_path) > 0
        assert (tmp_path / "metrics/empty.json").is_file()
