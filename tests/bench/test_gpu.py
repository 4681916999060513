"""bench/gpu without a GPU: every part runs at small sizes, and a failure costs one row."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench.gpu import __main__ as command
from bench.gpu.__main__ import PARTS
from bench.gpu.machine import OF_PRESET, Machine
from bench.gpu.rows import Figures, Measurement, Rows
from tests.conftest import ROOT
from tests.presets import preset

TOY = Machine(torch.device("cpu"), is_toy=True)


@pytest.mark.services
def test_every_part_runs_at_small_sizes(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "bench.gpu", "--toy", "--out", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    rows = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert [row for row in rows if row["problem"]] == []
    assert list(dict.fromkeys(row["part"] for row in rows)) == [part for part in PARTS if part != "pipeline"]
    assert [row["what"] for row in rows if row["figures"].get("within the limit") is False] == []
    assert {row["figures"]["again"] for row in rows if row["part"] == "repeatability"} == {True}
    table = (tmp_path / "result.md").read_text(encoding="utf-8")
    assert table in result.stderr
    assert len(table.splitlines()) == 2 + len(rows)


def test_the_sizes_are_those_of_the_preset() -> None:
    params = preset("gpu")
    model, rollout = params.model.scratch, params.align.rollout
    assert (OF_PRESET.vocab_size, OF_PRESET.context_length) == (
        params.tokenizer.scratch.vocab_size,
        params.model.context_length,
    )
    for name in ("hidden_size", "num_layers", "num_heads", "intermediate_size"):
        assert getattr(OF_PRESET, name) == getattr(model, name)
    assert OF_PRESET.num_rows == params.pretrain.batch_size
    assert (OF_PRESET.num_chats, OF_PRESET.prompt_tokens, OF_PRESET.new_tokens) == (
        rollout.batch_size,
        rollout.max_prompt_tokens,
        rollout.max_new_tokens,
    )
    assert OF_PRESET.num_scored == params.evaluate.batch_size
    assert sum(PARTS.values()) <= 570


def test_a_bare_machine_is_enough_for_most_parts() -> None:
    """Those that README.md names."""
    text = (ROOT / "bench/gpu/README.md").read_text(encoding="utf-8")
    sentence = text[text.index("torch and transformers are enough for") :].split(".")[0]
    parts = re.findall(r"`(\w+)`", sentence)
    assert set(parts) < set(PARTS)
    assert len(parts) >= 6
    lacking = ["pydantic", "ruamel", "lightning", "trl", "datasets", "peft", "fastapi", "mlflow"]
    code = f"import sys; sys.modules.update(dict.fromkeys({lacking})); import " + ", ".join(
        f"bench.gpu.{part}" for part in ("__main__", *parts)
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr


def fail() -> Figures:
    raise RuntimeError("CUDA error:\n  no kernel image")


def hang() -> Figures:
    time.sleep(60)
    return {}


def test_a_failure_costs_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measurements(machine: Machine) -> Iterator[Measurement]:
        yield Measurement("first", "nothing", lambda: {"ms": 1234.5, "again": True})
        yield Measurement("second", "the first", fail)
        yield Measurement("third", "the first", hang)
        yield Measurement("fourth", "the first", lambda: {"ms": 1.0})

    def quick(machine: Machine) -> Iterator[Measurement]:
        yield Measurement("first", "nothing", lambda: {"ms": 1.0})

    def broken(machine: Machine) -> Iterator[Measurement]:
        raise ValueError("no such model")

    modules = {"bench.gpu.ppo": measurements, "bench.gpu.sft": broken, "bench.gpu.server": quick}

    def import_module(name: str) -> SimpleNamespace:
        if name not in modules:
            raise ModuleNotFoundError("No module named 'trl'")
        return SimpleNamespace(measurements=modules[name])

    monkeypatch.setattr(command.importlib, "import_module", import_module)
    monkeypatch.setattr(command, "PARTS", {"ppo": 6, "sft": 1, "reward": 1, "server": 1})
    rows = Rows(tmp_path)
    command.run(TOY, rows, ["ppo", "sft", "reward", "server"])
    told = {(row["part"], row["what"]): row["problem"] for row in rows.rows}
    assert told["ppo", "first"] == ""
    assert told["ppo", "second"] == "RuntimeError: CUDA error: no kernel image"
    assert "TimeoutError: not done within" in told["ppo", "third"]
    assert told["ppo", "fourth"] == "no time was left"
    rest = "this part, or what was left of it"
    assert told["sft", rest] == "ValueError: no such model"
    assert told["reward", rest] == "ModuleNotFoundError: No module named 'trl'"
    assert told["server", "first"] == ""  # it has its own second, and what others left
    assert rows.table().splitlines()[2:4] == [
        "| ppo | first | ms 1,234, again True | nothing |",
        "| ppo | second | FAILED RuntimeError: CUDA error: no kernel image | the first |",
    ]
    assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8")) == rows.rows


def test_memory_and_time_are_measured_from_the_start_of_a_measurement() -> None:
    taken = TOY.seconds(lambda: time.sleep(0.05))
    assert 0.05 <= taken < 1
    assert TOY.peak_memory() == {}
