"""The parent of a run, and the figures that the parent receives."""

import os
import shutil
from pathlib import Path

import psutil
import pytest

from groundup.runner import describe
from groundup.runner.base import Base, write_lock
from groundup.runner.describe import shown
from groundup.runner.figures import Record, write_record
from groundup.runner.pipeline import read_pipeline
from tests.conftest import ROOT


def test_a_parent_stands_for_an_experiment_or_a_process_of_dvc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    monkeypatch.setattr(describe, "find_dvc", lambda: None)
    assert describe._part_of("c0ffee1234") is None
    monkeypatch.setattr(describe, "find_dvc", lambda: psutil.Process(os.getpid()))
    repro = describe._part_of("c0ffee1234")
    assert repro == describe._part_of("c0ffee1234")
    assert repro["name"] == "repro-c0ffee12"
    monkeypatch.setattr(describe, "find_dvc", lambda: psutil.Process(os.getppid()))
    assert describe._part_of("c0ffee1234")["key"] != repro["key"]
    monkeypatch.setenv("DVC_EXP_NAME", "it's")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "a" * 40)
    experiment = describe._part_of("c0ffee1234")
    assert experiment["name"] == "it's"
    assert experiment["key"].isalnum()
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "b" * 40)
    assert describe._part_of("c0ffee1234")["key"] != experiment["key"]


def test_a_run_that_starts_from_an_open_model_names_it_and_its_licence(tmp_path: Path) -> None:
    pipeline = read_pipeline(ROOT)
    revision = "0123456789abcdef0123456789abcdef01234567"
    base = Base(
        name="own",
        source=f"owner/own@{revision}",
        revision=revision,
        licence="llama3.2",
        licence_accepted=True,
        files={},
    )
    write_lock(tmp_path, base)
    tags = {
        "base": "own",
        "base.source": f"owner/own@{revision}",
        "base.revision": revision,
        "base.licence": "llama3.2",
    }
    assert [name for name, spec in pipeline.items() if describe._base_tags(tmp_path, spec) == tags] == [
        "tokenizer",
        "pretrain",
        "evaluate",
    ]
    assert describe._base_tags(tmp_path, pipeline["sft"]) == {}
    write_lock(tmp_path, None)
    assert describe._base_tags(tmp_path, pipeline["pretrain"]) == {}


def test_a_parent_gets_the_shown_figures_of_the_stage_and_of_those_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("dvc.yaml", "base.lock"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    write_record(tmp_path, "pretrain", Record("a", {"val_bits_per_byte": 1.5, "num_tokens": 3}))
    write_record(tmp_path, "sft", Record("b", {"val_loss": 9.0}))
    write_record(tmp_path, "align", Record("c", {"val_kl": 2.0}))  # after sft, so possibly with other inputs
    pipeline = read_pipeline(tmp_path)
    monkeypatch.setenv("DVC_EXP_NAME", "lr")
    parent = describe._parent(tmp_path, pipeline, pipeline["sft"], "c0ffee")
    assert parent["present"] == {"pretrain": {"pretrain/val_bits_per_byte": 1.5}}
    assert shown(pipeline["sft"], {"val_loss": 4.5, "num_steps": 7}) == {"sft/val_loss": 4.5}
