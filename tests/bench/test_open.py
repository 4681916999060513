"""What is kept of a run that started from an open model, from made-up figures."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from bench.open import restart, seeds
from bench.open.__main__ import table
from bench.results import run_figures
from groundup.core.model.llama import save_model
from groundup.core.training.adapters import add_adapter, merge_adapter
from groundup.runner.files import write_json
from groundup.runner.params.training import LoraParams
from groundup.runner.pipeline import read_pipeline
from tests.conftest import ROOT


def test_minutes_and_memory_stand_beside_what_plan_said() -> None:
    stages = {
        "sft": {"stage_seconds": 600.0, "peak_memory_mb": 4000.4},
        "align": {"stage_seconds": 1230.0, "peak_memory_mb": 3000.0},
    }
    plan = {
        "sft": {"seconds": 660.0, "peak_memory_mb": 2400.0},
        "align": {"seconds": 1200.0, "peak_memory_mb": 2600.0},
    }
    assert table(stages, plan).splitlines()[2:] == [
        "| sft | 10.0 | 11.0 | 4,000 | 2,400 |",
        "| align | 20.5 | 20.0 | 3,000 | 2,600 |",
        "| together | 30.5 | 31.0 | 4,000 | 2,600 |",
    ]


def test_a_run_is_kept_whole_or_the_missing_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    reports = {stage: tmp_path / spec.report for stage, spec in read_pipeline(tmp_path).items()}
    for number, (stage, report) in enumerate(reports.items()):
        if stage != "evaluate":
            write_json(report / "metrics.json", {"number": number})
    with pytest.raises(ValueError, match=r"^artifacts/reports/evaluate/metrics\.json, .*replies\.jsonl missing: run"):
        run_figures(tmp_path, 1)
    write_json(reports["evaluate"] / "metrics.json", {"number": 6})
    said = {"messages": [{"role": "user", "content": "Hi"}], "person": None}
    rows = [
        said | {model: {"text": f"{model} {i}", "reward": 0.5} for model in ("base", "sft", "aligned")} for i in "ab"
    ]
    (reports["evaluate"] / "replies.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    figures = run_figures(tmp_path, 1)
    assert [figures[stage]["number"] for stage in reports] == list(range(7))
    assert figures["samples"] == [
        {"messages": said["messages"], "base": "base a", "sft": "sft a", "aligned": "aligned a"}
    ]


def test_seeds_stand_beside_sft_and_people() -> None:
    won = {"win_rate_vs_sft_gold": 0.56, "win_rate_vs_sft_gold_ci_low": 0.51, "win_rate_vs_sft_gold_ci_high": 0.6111}
    style = {"greeting_rate": 0.05, "question_rate": 0.2, "echo_rate": 0.0}
    run = won | style | {"seed": 4, "kept_iteration": 24, "kl_to_sft": 2.5}
    lines = seeds.table(
        {"runs": [run], "all": won | style, "sft": style, "people": style | {"question_rate": 0.35}}
    ).splitlines()
    assert lines[0].startswith("| seed | wins against SFT | moved elsewhere | KL, nats |")
    assert lines[2:] == [
        "| 4 | 0.560 (0.510 to 0.611) |  | 2.500 |  | 0.050 | 0.200 | 0.000 | 24 |",
        "| all | 0.560 (0.510 to 0.611) |  |  |  | 0.050 | 0.200 | 0.000 |  |",
        "| SFT |  |  |  |  | 0.050 | 0.200 | 0.000 |  |",
        "| people |  |  |  |  | 0.050 | 0.350 | 0.000 |  |",
    ]


def test_finished_stages_start_again_from_their_adapters(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast, tiny_model: LlamaForCausalLM
) -> None:
    lora = LoraParams(rank=2, alpha=4.0, dropout=0.0, target_modules="all-linear")

    def train(model: PreTrainedModel, out: Path) -> None:
        adapted = add_adapter(model, lora)
        with torch.no_grad():
            for weight in (it for it in adapted.parameters() if it.requires_grad):
                weight += 0.1 * torch.randn_like(weight)
        save_model(merge_adapter(adapted, out / "adapter"), tiny_tokenizer, out, "---\n# A card\n")

    save_model(tiny_model, tiny_tokenizer, tmp_path / "base", "---\n# A card\n")
    train(tiny_model, tmp_path / "sft")
    scoring = AutoModelForSequenceClassification.from_pretrained(tmp_path / "sft", num_labels=1)
    train(scoring, tmp_path / "reward")

    def names(folder: Path) -> set[Path]:
        return {path.relative_to(folder) for path in folder.rglob("*")} - {Path("adapter/README.md")}

    for stage, parent in restart.PARENTS.items():
        restart.keep(tmp_path / stage, tmp_path / "kept" / stage)
        restart.restore(stage, tmp_path / "kept" / stage, tmp_path / parent, tmp_path / "again" / stage)
        assert names(tmp_path / "again" / stage) == names(tmp_path / stage)
        trained, again, start = (
            load_file(folder / restart.WEIGHTS)
            for folder in (tmp_path / stage, tmp_path / "again" / stage, tmp_path / parent)
        )
        assert trained.keys() == again.keys()
        for name, weight in trained.items():
            torch.testing.assert_close(again[name], weight, atol=2e-3, rtol=0)
        assert any((trained[name] - start[name]).abs().max() > 0.02 for name in trained.keys() & start.keys())
