"""The comparison: finished cells are kept, foreign ones refused, and the page follows from the JSON alone."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from bench.compare_alignment.cells import Cells
from bench.compare_alignment.page import BEST_OF_N, METHODS, PEOPLE, REFERENCES, SAME_STYLE, WON, draw_plot, page
from bench.compare_alignment.score import of_same_style
from bench.finish import RESULT, finish
from groundup.core.rollout.prompts import Prompt
from groundup.evaluate.gold import Contest
from tests.align.conftest import AlignRun, run_align
from tests.presets import preset

__all__ = ["run_align"]
ROOT = Path(__file__).resolve().parents[2]


def with_interval(name: str, value: float) -> dict[str, float]:
    return {name: value, f"{name}_ci_low": value - 0.1, f"{name}_ci_high": value + 0.1}


def replies_of(method: str, seed: int) -> dict[str, Any]:
    return {
        "method": method,
        "seed": seed,
        **with_interval(WON, 0.6),
        f"{WON}_moved": 0.51,
        **with_interval(f"{WON}_above_moved", 0.09),
        f"{WON}_length_controlled": 0.58,
        **with_interval(SAME_STYLE, 0.57),
        "reward_difference": 0.2,
        "kl_to_sft": 4.25,
        "reply_length": 18.5,
        "distinct_2": 0.75,
        **style(0.1 * seed),
    }


def style(rate: float) -> dict[str, float]:
    return {f"{name}_rate": rate for name in ("greeting", "question", "echo", "repeat")}


def run(method: str, seed: int) -> dict[str, Any]:
    return replies_of(method, seed) | {
        "train_seconds": 100.0 + seed,
        "cell_seconds": 150.0,
        "samples_per_second": 20.0,
        "kept_iteration": 30 + seed,
        "stopped_early": "no",
        "alarms_fired": "none",
        "points": [
            {
                "iteration": i,
                "kl": float(i),
                "kept": i == 2,
                "proxy_gain": 0.1 * i,
                "gold_gain": 0.05 * i,
                "gold_gain_low": 0.05 * i - 0.1,
                "gold_gain_high": 0.05 * i + 0.1,
            }
            for i in range(3)
        ],
    }


RESULT_OF_ALL = {
    "num_seeds": 2,
    "num_prompts": 256,
    "num_samples": 2560,
    "num_replies": 16,
    "judge_agreement": 0.7,
    "judge_agreement_ci_low": 0.65,
    "judge_agreement_ci_high": 0.75,
    "judge_num_pairs": 1500,
    "judge_num_conversations": 300,
    "people": with_interval(PEOPLE, 0.58) | style(0.3),
    "sft": style(0.4),
    "controls": {
        key: value
        for name in REFERENCES
        if name != PEOPLE
        for key, value in with_interval(name, 0.4 if "constant" in name else 0.5).items()
    },
    "runs": [run(method, seed) for seed in range(2) for method in METHODS]
    + [replies_of(BEST_OF_N, seed) for seed in range(2)],
    "best_of_n": [
        [{"n": n, "kl": 0.5 * n, "proxy_gain": n + s, "gold_gain": 0.5 * n} for n in (1, 2)] for s in (0, 1)
    ],
}


def test_page_and_plot_follow_from_the_result(tmp_path: Path) -> None:
    text = page(RESULT_OF_ALL)
    for contestant in ("rloo", "ppo_shuffled", "best_of_n"):
        figures = "0.600 (0.500 to 0.700) | 0.510 | 0.090 (-0.010 to 0.190) | 0.580 | 0.570 (0.470 to 0.670) "
        figures += "| +0.200 | 4.25 | 18.5 | 0.750"
        assert f"| {contestant} | 1 | {figures} |" in text
    assert "| people's replies | 0.580 (0.480 to 0.680) |" in text
    assert "| one reply to all, the best of 20 | 0.400 (0.300 to 0.500) |" in text
    assert "| people | 0.300 | 0.300 | 0.300 | 0.300 |" in text
    assert "| best_of_n | 0.050 | 0.050 | 0.050 | 0.050 |" in text
    assert "| dpo | 100 | 150 | 20.0 | 30, 31 | no, no | none, none |" in text
    assert "| 2 | 1.00 | 2.50 | 1.00 |" in text
    assert "2,560 replies sampled" in text
    assert "in 0.70 (0.65 to 0.75) of 1,500 held-out pairs (300 conversations; guessing 0.50)" in text
    plots = [tmp_path / name for name in ("a.png", "b.png")]
    for plot in plots:
        draw_plot(RESULT_OF_ALL, plot)
    assert plots[0].read_bytes() == plots[1].read_bytes()
    assert len(plots[0].read_bytes()) < 300_000


def test_alike_are_replies_that_both_greet_or_not_and_ask_or_not() -> None:
    ours = ["Hi there", "Hi, how are you?", "I like tea", "Do you?"]
    theirs = ["Hello", "Hi", "Why?", "You do?"]
    prompts = [Prompt(str(i), [{"role": "user", "content": "Hi"}], ids=[]) for i in range(4)]
    alike = of_same_style(Contest(prompts, ours, theirs))
    assert [prompt.conversation_id for prompt in alike.prompts] == ["0", "3"]
    assert (alike.ours, alike.theirs) == (["Hi there", "Do you?"], ["Hello", "You do?"])


def cells(tmp_path: Path) -> Cells:
    (tmp_path / "artifacts/sft").mkdir(parents=True, exist_ok=True)
    (tmp_path / "artifacts/sft/model.safetensors").write_bytes(b"weights")
    return Cells(tmp_path / "artifacts", tmp_path / "work", preset("smoke"), 2, "cpu")


def test_a_finished_cell_is_not_trained_again(tmp_path: Path) -> None:
    calls = []

    def compute(checkpoints: object) -> dict[str, Any]:
        calls.append(checkpoints)
        return {"score": 1.5}

    first = finish(tmp_path / "ppo-0", compute)
    assert first["score"] == 1.5
    assert finish(tmp_path / "ppo-0", compute) == first
    assert len(calls) == 1


def test_what_is_not_finished_is_named(tmp_path: Path) -> None:
    comparison = cells(tmp_path)
    finish(comparison.policy("dpo", 0), lambda checkpoints: {})
    control = ["ppo_shuffled-0", "ppo_shuffled-1"]
    assert comparison.unfinished() == ["ppo-0", "ppo-1", "rloo-0", "rloo-1", "grpo-0", "grpo-1", "dpo-1", *control]
    assert (comparison.policy("dpo", 0) / RESULT).exists()


def test_cells_of_another_sft_model_are_refused(tmp_path: Path) -> None:
    cells(tmp_path).check_setting()
    comparison = cells(tmp_path)
    comparison.check_setting()
    (tmp_path / "artifacts/sft/model.safetensors").write_bytes(b"others")
    with pytest.raises(ValueError, match="holds cells of other params or of other models"):
        comparison.check_setting()


def test_cells_go_from_the_artifacts_to_a_policy_a_method_and_seed(
    run_align: AlignRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = run_align.root
    (root / "data").mkdir()
    for name in ("prompts", "monitor"):
        (root / name).rename(root / "data" / name)
    seeds = []

    def train_reward(*, out: Path, params: Any, **rest: Any) -> dict[str, Any]:
        seeds.append(params.seed)
        shutil.copytree(root / "reward", out)
        return {}

    monkeypatch.setattr("bench.compare_alignment.cells.train_reward", train_reward)
    comparison = Cells(root, root / "work", preset("smoke"), 2, "cpu")
    result = comparison.train_policy("dpo", 1)
    assert comparison.train_policy("dpo", 1) == result
    comparison.train_policy("rloo", 1)
    assert seeds == [comparison.params.reward.seed + 1]
    assert result["num_pairs"] > 0
    for method in ("dpo", "rloo"):
        folder = comparison.policy(method, 1)
        assert f"by {method}, to score higher" in " ".join((folder / "out/README.md").read_text().split())
        assert sorted(path.name for path in folder.iterdir()) == ["out", "report", RESULT]
    assert (folder / "report/evaluation_points.jsonl").exists()
