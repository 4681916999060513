"""Stages on an open model with LoRA that are killed resume to the same bytes: of the model, its adapter, its curve.

GPT-2's layers drop out while they train. evaluate is killed at the end of six of its steps.
"""

import shutil
from pathlib import Path

import pytest
import torch

from tests.align.conftest import without_clock
from tests.evaluate.judging import PARAMS as EVALUATE
from tests.evaluate.stage import run_evaluate
from tests.killed_steps import KillBeforeEachRecord, Killed
from tests.open_models.conftest import STAGES, Trained, run_stage, write_inputs
from tests.open_models.test_stages import LOCKED
from tests.resume import Crash, Curve

ADAPTER = "adapter/adapter_model.safetensors"
KILLED = ["base-replies", "sft-topic", "aligned-probes", "decoding-tree", "best-of-n", "unigram-topic"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[int, dict[str, float]]]]:
    """A folder with the results of all stages of GPT-2, and their curves."""
    root, curves = tmp_path_factory.mktemp("whole"), {stage: Curve() for stage in STAGES}
    write_inputs(root, "gpt2")
    for stage, curve in curves.items():
        run_stage(stage, root, curve, dropout=0.1)
    return root, {stage: curve.rows for stage, curve in curves.items()}


def before(stage: str, whole: Path, root: Path) -> Path:
    """What there is before a stage runs."""
    shutil.copytree(whole, root, ignore=shutil.ignore_patterns("work", stage))
    return root


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_stage_resumes_to_the_same_bytes(
    uninterrupted: tuple[Path, dict[str, dict[int, dict[str, float]]]], tmp_path: Path, stage: str
) -> None:
    whole, curves = uninterrupted
    root, cut = before(stage, whole, tmp_path / "cut"), Curve()
    cut.crash_at = 3
    with pytest.raises(Crash):
        run_stage(stage, root, cut, dropout=0.1, checkpoint_every=2)
    assert [path.name for path in (root / "work" / stage).rglob("checkpoint-*") if path.is_dir()] == ["checkpoint-2"]
    resumed = Curve()
    run_stage(stage, root, resumed, dropout=0.1, checkpoint_every=2)
    for name in ("model.safetensors", ADAPTER):
        assert (root / stage / name).read_bytes() == (whole / stage / name).read_bytes()
    assert min(resumed.rows) == 3
    assert cut.rows | resumed.rows == curves[stage]


@pytest.mark.parametrize("method", ["ppo", "rloo", "grpo", "dpo"])
def test_each_method_resumes_to_the_same_bytes(trained: Trained, tmp_path: Path, method: str) -> None:
    whole, cut = Curve(), Curve()
    cut.crash_at = 3
    roots = [before("aligned", trained.root, tmp_path / name) for name in ("whole", "cut")]
    run_stage("aligned", roots[0], whole, method)
    with pytest.raises(Crash):
        run_stage("aligned", roots[1], cut, method, checkpoint_every=1)
    resumed = Curve()
    run_stage("aligned", roots[1], resumed, method, checkpoint_every=1)
    for name in ("model.safetensors", ADAPTER):
        expected, found = ((root / "aligned" / name).read_bytes() for root in roots)
        assert found == expected
    assert min(resumed.rows) == 3
    assert cut.rows | resumed.rows == whole.rows


def test_checkpoints_of_pretraining_hold_the_adapter_alone(trained: Trained, tmp_path: Path) -> None:
    root, cut = before("base", trained.root, tmp_path / "cut"), Curve()
    cut.crash_at = 5
    with pytest.raises(Crash):
        run_stage("base", root, cut, checkpoint_every=2)
    (state,) = (root / "work/base/work/checkpoint-4").glob("*.ckpt")
    saved = torch.load(state, weights_only=True)["state_dict"]
    assert saved
    assert all("lora_" in name or "trainable_tokens_delta" in name for name in saved)


def test_evaluate_killed_in_its_steps_gives_the_same_bytes(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(root: Path) -> dict[str, object]:
        points = root / "reports/aligned/evaluation_points.jsonl"
        return run_evaluate(root, EVALUATE, Curve(), points=points, out="evaluated", open_base=LOCKED)

    roots = [before("evaluated", trained.root, tmp_path / name) for name in ("whole", "cut")]
    expected = run(roots[0])
    kills = KillBeforeEachRecord(monkeypatch, KILLED)
    for _ in KILLED:
        with pytest.raises(Killed):
            run(roots[1])
    assert without_clock(run(roots[1])) == without_clock(expected)
    assert kills.reached == KILLED
    assert len(set(kills.recorded)) == len(kills.recorded)  # every step was finished once
    whole, cut = ({path.name: path.read_bytes() for path in (root / "evaluated").iterdir()} for root in roots)
    assert cut == whole
