"""The body of the evaluate stage on a folder with everything that it reads."""

from pathlib import Path
from typing import Any

from groundup.evaluate.evaluate import evaluate
from groundup.evaluate.measures.measure import Data
from groundup.runner.base import Base
from groundup.runner.params.evaluate import EvaluateParams
from groundup.runner.params.training import RuntimeParams

FOLDERS = ("shards", "text", "chats", "preferences", "prompts", "evaluation", "judge")


def run_evaluate(
    root: Path,
    params: EvaluateParams,
    log: Any,
    *,
    points: Path,
    out: str,
    aligned: str = "aligned",
    open_base: Base | None = None,
) -> dict[str, Any]:
    """points: evaluation_points.jsonl of align; out, aligned: folders in root."""
    return evaluate(
        base=root / "base",
        sft=root / "sft",
        reward=root / "reward",
        aligned=root / aligned,
        data=Data(**{folder: root / folder for folder in FOLDERS}),
        points=points,
        out=root / out,
        params=params,
        runtime=RuntimeParams(num_threads=1, precision="fp32"),
        device="cpu",
        work=root / "evaluate_work",
        kept=root / "kept",
        model_judge=root / "base" if params.judge == "model" else None,
        open_base=open_base,
        log=log,
    )
