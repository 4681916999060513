"""What bench/frame has a new interpreter import."""

from pathlib import Path

from bench.frame.__main__ import imports_of, imports_of_everything, seconds_to_import
from tests.conftest import ROOT

STAGE = """
from typing import Any


def main(stage: Any) -> None:
    with stage.importing():
        import json
        from fractions import Fraction
"""

AS_IT_EXECUTES_THEM = """from typing import Any
from groundup.runner import collector
with collector.importing():
    import json
    from fractions import Fraction"""


def test_a_stages_imports_as_it_executes_them(tmp_path: Path) -> None:
    (tmp_path / "stage.py").write_text(STAGE, encoding="utf-8")
    imports = imports_of(tmp_path / "stage.py")
    assert imports == AS_IT_EXECUTES_THEM
    imported, ended = seconds_to_import(f"{imports}\nimport atexit, time\natexit.register(time.sleep, 0.5)")
    assert imported > 0
    assert ended >= 0.5


def test_everything_is_what_any_stage_and_any_branch_may_import() -> None:
    lines = imports_of_everything(ROOT).split("\n")
    packages = {line.split()[1].split(".")[0] for line in lines}
    assert {
        "torch",
        "lightning",
        "transformers",
        "trl",
        "datasets",
        "peft",
        "mlflow",
        "lm_eval",
        "sklearn",
    } <= packages
    assert {"matplotlib", "openai", "datasketch", "ftfy", "tokenizers"} <= packages
    assert "from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer" in lines
    assert not {"groundup", "stages", "dvc"} & packages
