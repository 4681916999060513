"""python -m bench.scaling, after `dvc repro`: README.md beside this file."""

import argparse
import logging
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.finish import finish
from bench.results import ROOT, write_result
from bench.scaling.fit import FLOPS_PER_PARAMETER_AND_TOKEN, fit_law
from bench.scaling.page import draw, table
from groundup.app.plan.sizing import count_parameters, count_tokens, shape
from groundup.core.formats.chat_format import load_tokenizer
from groundup.core.formats.jsonl import read_jsonl, write_jsonl
from groundup.pretrain.pretrain import pretrain
from groundup.runner.checkpoints import Checkpoints
from groundup.runner.files import read_json, write_json
from groundup.runner.params import Params, load_params
from groundup.runner.params.training import ScratchModelParams

HERE = Path(__file__).parent
DEPTHS = (2, 3, 4, 6)  # width, heads and MLP in proportion, as groundup.app.plan.sizing has them
BUDGETS = (1 / 8, 1 / 4, 1 / 2, 1.0)  # times the FLOPs of the default run
NUM_VALIDATION_DOCUMENTS = 400
SECTIONS = ("tokenizer", "model", "pretrain", "runtime")  # of the params, on which cells depend

logger = logging.getLogger(__name__)


def resize_run(params: Params, model: ScratchModelParams, flops: float, num_parameters: int) -> Params:
    """As many steps as the compute allows, warm-up and decay in proportion, learning rates as they are."""
    p = params.pretrain
    tokens_per_step = p.batch_size * p.accumulate * params.model.context_length
    num_steps = max(1, round(flops / FLOPS_PER_PARAMETER_AND_TOKEN / num_parameters / tokens_per_step))
    update = {
        "num_steps": num_steps,
        "warmup_steps": round(num_steps * p.warmup_steps / p.num_steps),
        "validate_every": num_steps,
        "num_validation_documents": 1,  # the figure is that of the end
        "num_samples": 1,
        "sample_tokens": 1,
    }
    resized = params.model.model_copy(update={"scratch": model})
    return params.model_copy(update={"model": resized, "pretrain": p.model_copy(update=update)})


def train_cell(params: Params, text: Path, folder: Path, checkpoints: Checkpoints) -> dict[str, Any]:
    metrics = pretrain(
        tokenizer=ROOT / "artifacts/tokenizer",
        shards=ROOT / "artifacts/shards",
        text=text,
        out=folder / "out",
        report=folder / "report",
        model_params=params.model,
        params=params.pretrain,
        runtime=params.runtime,
        device="cpu",
        checkpoints=checkpoints,
        log=lambda step, **values: None,
    )
    kept = ("val_bits_per_byte", "num_parameters", "num_tokens", "num_epochs", "flops")
    return {key: metrics[key] for key in kept}


def train_cells(params: Params, work: Path) -> list[dict[str, Any]]:
    """Smallest budget first; what a former run has finished is not trained again."""
    setting = {name: section for name, section in params.model_dump(mode="json").items() if name in SECTIONS}
    if not (work / "setting.json").exists():
        write_json(work / "setting.json", setting)
        documents = list(read_jsonl(ROOT / "artifacts/data/text/val.jsonl"))
        write_jsonl(work / "val.jsonl", documents[:: max(1, len(documents) // NUM_VALIDATION_DOCUMENTS)])
    elif read_json(work / "setting.json") != setting:
        raise ValueError(f"{work} holds cells of other params: remove it, or name another --work")
    vocab_size = len(load_tokenizer(str(ROOT / "artifacts/tokenizer")))
    default_flops = (
        FLOPS_PER_PARAMETER_AND_TOKEN * count_parameters(params.model.scratch, vocab_size) * count_tokens(params)
    )
    cells = []
    for budget in BUDGETS:
        for depth in DEPTHS:
            model = shape(params.model.scratch, depth)
            cell = resize_run(params, model, budget * default_flops, count_parameters(model, vocab_size))
            folder = work / f"width-{cell.model.scratch.hidden_size}-budget-{budget:g}"
            found = finish(folder, partial(train_cell, cell, work, folder))
            cells.append({"width": cell.model.scratch.hidden_size, "budget": budget, **found})
    return cells


def report(cells: list[dict[str, Any]], params: Params) -> dict[str, Any]:
    law = fit_law(cells)
    smaller = fit_law([cell for cell in cells if cell["budget"] != max(BUDGETS)])
    default_width = params.model.scratch.hidden_size
    for cell in cells:
        sizes = float(cell["num_parameters"]), float(cell["num_tokens"])
        cell["fitted"] = float(law.bits_per_byte(*sizes))
        if cell["budget"] == max(BUDGETS):
            cell["predicted"] = float(smaller.bits_per_byte(*sizes))
    default = next(cell for cell in cells if cell["width"] == default_width and cell["budget"] == 1.0)
    best = float(law.best_parameters(float(default["flops"])))
    return {
        "law": {**asdict(law), "compute_exponent": law.exponent},
        "root_mean_square_residual": float(
            np.sqrt(np.mean([(cell["fitted"] - cell["val_bits_per_byte"]) ** 2 for cell in cells]))
        ),
        "default": default,
        "best_parameters_at_default": best,
        "frontier_at_default": float(law.frontier(float(default["flops"]))),
        "cells": cells,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=ROOT / "params.yaml")
    parser.add_argument("--work", type=Path, default=ROOT / ".scaling", help="keeps finished cells")
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    params = load_params(options.params)
    cells = train_cells(params, options.work)
    result = report(cells, params)
    (options.out / "scaling.png").write_bytes(draw(cells, fit_law(cells), params.model.scratch.hidden_size))
    write_result(options.out, result, table(result))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
