"""`groundup plan`."""

import re
import shutil
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner, Result

from groundup.app.cli import plan
from groundup.app.cli.main import app
from groundup.app.plan import calibration, timing
from groundup.app.plan.calibration import Rates
from groundup.core.formats.jsonl import write_jsonl
from groundup.core.training.cost import in_short
from groundup.runner.figures import Record, write_record
from groundup.runner.files import write_json
from tests.conftest import ROOT
from tests.families import family_model
from tests.open_tokenizers import open_tokenizer

CHAT = [{"role": "user", "content": "Do you like music?"}, {"role": "assistant", "content": "I do"}]
STAGES = ("prepare", "tokenizer", "pretrain", "sft", "reward", "align", "evaluate")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The first two stages are done, in 60 s each, and the measurement is fast."""
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    (tmp_path / "stages").mkdir()
    counts = {"num_characters_train": 9_800_000, "num_characters_val": 1_900_000}
    counts |= {"num_chats_train": 8000, "num_prompts_train": 5000}
    counts |= {
        "num_preference_pairs_train": 15000,
        "num_relevance_pairs_train": 4700,
        "num_preference_pairs_val": 1700,
        "num_preference_pairs_test": 5600,
    }
    for stage, figures in {"prepare": counts, "tokenizer": {"val_bytes_per_token": 3.5}}.items():
        write_record(tmp_path, stage, Record("abc", figures))
        write_json(tmp_path / f".work/{stage}/abc.json", {"stage_seconds": 60.0})
    monkeypatch.setattr(plan, "stages_to_run", lambda root, stages: set(stages) - {"prepare", "tokenizer"})
    monkeypatch.setattr(calibration, "calibrate", lambda params, device, planned: Rates(*[1e-3] * 13))
    monkeypatch.setenv("GROUNDUP_DEVICE", "cpu")
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> tuple[Result, dict[str, list[str]]]:
    """The result, and the cells of each row."""
    result = CliRunner().invoke(app, ["plan", *arguments])
    cells = [[cell.strip() for cell in re.split(r"[^ -~]", line)[1:-1]] for line in result.output.splitlines()]
    return result, {row[0]: row[1:] for row in cells if len(row) == 8}


def test_every_stage_has_its_line(checkout: Path) -> None:
    result, rows = run()
    assert result.exit_code == 0, result.output
    assert list(rows) == ["stage", *STAGES, "together"]
    assert rows["prepare"][0] == rows["tokenizer"][0] == "unchanged"
    assert rows["prepare"][5:] == rows["tokenizer"][5:] == ["0", "1.0"]  # minutes, now and in the last run
    assert rows["pretrain"][0] == "runs"
    minutes = [float(rows[stage][5]) for stage in STAGES]
    assert float(rows["together"][5]) == pytest.approx(sum(minutes), abs=0.3)
    assert rows["together"][0] == "5 of 7 run"
    assert len(list((checkout / ".work/plan").iterdir())) == 1


def test_a_stage_that_the_plan_knows_nothing_of_has_its_line_too(checkout: Path) -> None:
    text = (checkout / "dvc.yaml").read_text(encoding="utf-8")
    made_up = "  distill:\n    cmd: python -m stages.distill\n    deps:\n      - artifacts/aligned\n"
    (checkout / "dvc.yaml").write_text(text.replace("\nplots:\n", f"{made_up}\nplots:\n"), encoding="utf-8")
    result, rows = run()
    assert result.exit_code == 0, result.output
    assert list(rows) == ["stage", *STAGES, "distill", "together"]
    assert rows["distill"] == ["runs", "", "", "?", "?", "?", ""]
    assert rows["together"][0] == "6 of 8 run"


LORA = "{rank: 2, alpha: 4.0, dropout: 0.0, target_modules: all-linear}"


def start_from(checkout: Path, family: str) -> int:
    """Train a tiny open model with adapters; returns its number of parameters."""
    model = family_model(family, vocab_size=400)
    model.save_pretrained(checkout / "models/own")
    open_tokenizer("smollm2").save_pretrained(checkout / "models/own")
    path = checkout / "params.yaml"
    text = path.read_text(encoding="utf-8").replace("  base: null", "  base: own", 1)
    before, pretrain, rest = text.partition("  lora: null")  # pretrain's stays: the base is published as it is
    text = before + pretrain + rest.replace("  lora: null", f"  lora: {LORA}")
    text = re.sub(r"(context_length|max_length): 256", r"\1: 128", text)  # the positions that it has
    text = text.replace("max_prompt_tokens: 128", "max_prompt_tokens: 64")
    path.write_text(re.sub(r"(pretrain:(?:\n  .*)*?\n  num_steps: )\d+", r"\g<1>0", text), encoding="utf-8")
    data: dict[str, dict[str, Any]] = {"text": {"text": "I like music."}, "chats": {"messages": CHAT}}
    data |= {"preferences": {"kind": "relevance", "chosen": CHAT, "rejected": CHAT}}
    data |= {"prompts": {"messages": CHAT[:1], "reply": "I do"}}
    for kind, row in data.items():
        write_jsonl(checkout / f"artifacts/data/{kind}/val.jsonl", [row])
    return sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize("family", ["llama-tied", "gpt2"])
def test_an_open_model_is_planned_by_its_config(checkout: Path, monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    monkeypatch.undo()  # measure it
    monkeypatch.setattr(plan, "stages_to_run", lambda root, stages: set(stages) - {"prepare", "tokenizer"})
    monkeypatch.setattr(timing, "MAX_RUNS", 1)
    monkeypatch.setenv("GROUNDUP_DEVICE", "cpu")
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.chdir(checkout)
    num_parameters = start_from(checkout, family)
    result, rows = run()
    assert result.exit_code == 0, result.output
    assert {rows[stage][1] for stage in STAGES[2:]} == {in_short(num_parameters).strip()}
    assert all(float(rows[stage][5]) > 0 for stage in STAGES[2:])
    assert rows["pretrain"][2].strip() == "0"  # FLOP: the base is published as it is
    assert "MB of it for every experiment" in " ".join(result.output.split())


def test_a_base_that_is_not_there_or_torn_is_a_sentence(checkout: Path) -> None:
    start_from(checkout, "llama-tied")
    weights = checkout / "models/own/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    result, _ = run()
    assert result.exit_code == 1
    assert "model.safetensors is damaged or incomplete" in " ".join(result.output.split())
    path = checkout / "params.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("context_length: 128", "context_length: 129"))
    start_from(checkout, "llama-tied")
    result, _ = run()
    assert result.exit_code == 1
    assert "model.context_length is 129, above the 128 positions of the model in" in " ".join(result.output.split())
    shutil.rmtree(checkout / "models/own")
    result, _ = run()
    assert result.exit_code == 1
    assert "models/own: `groundup fetch` brings it" in " ".join(result.output.split())


def test_nothing_runs_and_nothing_is_measured(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "stages_to_run", lambda root, stages: set())
    result, rows = run()
    assert result.exit_code == 0
    assert rows["together"] == ["0 of 7 run", "", "", "", "0", "0.0", ""]
    assert not (checkout / ".work/plan").exists()


def test_what_cannot_fit_is_refused_with_the_numbers_to_change(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = psutil.virtual_memory()._replace(total=4 * 2**30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    params = checkout / "params.yaml"
    text = params.read_text()
    text = re.sub(r"(pretrain:(?:\n  .*)*?\n  batch_size: )\d+", r"\g<1>1024", text)
    text = re.sub(r"(pretrain:(?:\n  .*)*?\n  accumulate: )\d+", r"\g<1>1", text)
    params.write_text(re.sub(r"(reward:(?:\n  .*)*?\n  batch_size: )\d+", r"\g<1>2048", text))
    result, rows = run()
    assert result.exit_code == 1
    assert rows["pretrain"][5] == "?"
    found = re.search(
        r"pretrain cannot fit: .*; lower pretrain\.batch_size to (\d+) and raise .*accumulate to (\d+)", result.output
    )
    assert found is not None, result.output
    assert int(found[1]) * int(found[2]) == 1024
    assert "lower reward.batch_size to" in result.output
    assert "sft cannot fit" not in result.output
    assert not (checkout / ".work/plan").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "metrics/prepare.json").unlink(), "metrics/prepare.json is missing"),
        (lambda root: (root / "params.yaml").write_text("model: {}"), "problems in"),
        (lambda root: (root / "metrics/tokenizer.json").write_text("{"), "is not valid JSON"),
        (lambda root: (root / "dvc.yaml").write_text("stages: 3"), "has no mapping `stages`"),
    ],
)
def test_what_is_missing_is_a_sentence(checkout: Path, damage: object, message: str) -> None:
    assert callable(damage)
    damage(checkout)
    result, _ = run()
    assert result.exit_code == 1
    assert message in " ".join(result.output.split())


def test_other_devices_get_a_plan_of_their_own(checkout: Path) -> None:
    result = CliRunner().invoke(app, ["plan", "--device", "h100", "--processes", "8", "--utilization", "0.4"])
    assert result.exit_code == 0, result.output
    assert "8 processes, one h100 each, fp32" in result.output
    assert "at 40% of the device's rates" in result.output
    result = CliRunner().invoke(app, ["plan", "--device", "h100", "--processes", "7"])
    assert result.exit_code == 1
    said = " ".join(result.output.split())
    assert "pretrain.batch_size 8 cannot be divided among 7 processes: start 1, 2, 4 or 8" in said
    assert "align.minibatch_size 32 cannot be divided among 7" in said
