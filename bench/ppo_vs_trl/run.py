"""PPO of groundup against TRL 1.12.0's: samples per second in alternating turns, held-out reward at equal KL.

python bench/ppo_vs_trl/run.py --trl-python PATH   (README.md beside this file says how to make that environment)
"""

import argparse
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ruamel.yaml import YAML
from transformers import LlamaForCausalLM
from turns import read_settings

from groundup.align.policy import Policy
from groundup.align.rollout import RolloutWorker
from groundup.core.formats.chat_format import load_tokenizer
from groundup.core.model.scoring import RewardScorer
from groundup.core.rollout.engine import Builtin
from groundup.core.rollout.prompts import load_prompts
from groundup.core.training.runtime import draw
from groundup.runner.params.align import AlignParams

HERE = Path(__file__).parent
SIDES = ("trl", "separate", "shared")
# Of the align params, what TRL has no counterpart of is switched off: its KL coefficient is fixed, its learning rate
# does not warm up, it knows no uncertainty of a score and no penalty but that for replies that do not end.
EQUAL_FOOTING: dict[str, Any] = {"lora": None, "warmup_iterations": 0}
EQUAL_PPO = {
    "kl_horizon": 1e12,
    "length_control_gain": 0.0,
    "length_control_rate": 0.0,
    "entropy_coefficient": 0.0,
    "entropy_floor_rate": 0.0,
}
NO_KL_STOP = {"kl_stop": 1e12}
SHARED_KEYS = ("seed", "num_epochs", "minibatch_size")
SHARED_PPO = (
    "learning_rate",
    "value_learning_rate",
    "clip_range",
    "value_clip_range",
    "discount",
    "gae_lambda",
    "kl_coefficient",
)

BOOTSTRAP_SAMPLES = 1000

logger = logging.getLogger("ppo_vs_trl")
Array = NDArray[np.float64]


def make_settings(root: Path, num_turns: int, iterations_per_turn: int, num_threads: int) -> dict[str, Any]:
    align = YAML(typ="safe").load(root / "params.yaml")["align"] | EQUAL_FOOTING
    weights = {term["kind"]: term["weight"] for term in align["rewards"]}
    missing_end = {"kind": "missing_end_of_turn", "weight": weights["missing_end_of_turn"]}
    align["rewards"] = [{"kind": "reward_model", "weight": 1.0, "pessimism": 0.0}, missing_end]
    align["rollout"]["num_elsewhere"] = 0  # TRL's trainer scores a reply after its own prompt alone
    align["alarms"] |= NO_KL_STOP
    align["ppo"] |= EQUAL_PPO
    rollout = align["rollout"]
    tokenizer = load_tokenizer(str(root / "artifacts/sft"))
    prompts = load_prompts(root / "artifacts/data/prompts/train.jsonl", tokenizer, rollout["max_prompt_tokens"])
    return {
        "sft": str(root / "artifacts/sft"),
        "reward": str(root / "artifacts/reward"),
        "num_threads": num_threads,
        "num_iterations": num_turns * iterations_per_turn,
        "iterations_per_turn": iterations_per_turn,
        "batch_size": rollout["batch_size"],
        "max_new_tokens": rollout["max_new_tokens"],
        "temperature": rollout["temperature"],
        "missing_eos_penalty": missing_end["weight"],
        **{key: align[key] for key in SHARED_KEYS},
        **{key: align["ppo"][key] for key in SHARED_PPO},
        "align": align,
        "prompts": [prompt.ids for prompt in prompts],
    }


def take_turns(commands: dict[str, list[str]], num_turns: int, num_threads: int, work: Path) -> dict[str, list[Any]]:
    """Seconds of each iteration, by side and turn; while one side has its turn the others wait."""
    environment = os.environ | {
        "OMP_NUM_THREADS": str(num_threads),
        "HF_HUB_OFFLINE": "1",
        "TRL_EXPERIMENTAL_SILENCE": "1",
    }
    sides: dict[str, subprocess.Popen[str]] = {}
    seconds: dict[str, list[Any]] = {side: [] for side in commands}
    try:
        for side, command in commands.items():
            with (work / f"{side}.log").open("w") as log:
                sides[side] = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
                )
            _answer(side, sides[side], "ready", work)
        for turn in range(num_turns):
            for side, process in sides.items():
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
                seconds[side].append(_answer(side, process, "seconds", work))
                logger.info("turn %d of %d, %s: %.1f s", turn + 1, num_turns, side, sum(seconds[side][-1]))
    finally:
        for process in sides.values():
            process.kill()
            process.wait()
    return seconds


def _answer(side: str, process: "subprocess.Popen[str]", key: str, work: Path) -> Any:
    """What the side says under `key`; libraries that write to stdout are passed over."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(f'{{"{key}"'):
            return json.loads(line)[key]
    raise RuntimeError(f"{side} ended:\n{(work / f'{side}.log').read_text()[-3000:]}")


def samples_per_second(seconds: list[list[float]], batch_size: int) -> list[float]:
    """Of each turn; the very first iteration is warm-up."""
    counted = [seconds[0][1:] or seconds[0], *seconds[1:]]
    return [batch_size * len(turn) / sum(turn) for turn in counted]


@torch.no_grad()
def evaluation_points(
    settings: dict[str, Any], folder: Path, root: Path, num_prompts: int
) -> tuple[list[dict[str, float]], Array, Array]:
    """Of the SFT model and each saved policy: figures, and score and KL of every prompt's reply [points, prompts].

    The same random numbers draw the replies of all.
    """
    params = AlignParams.model_validate(settings["align"])
    tokenizer = load_tokenizer(settings["sft"])
    prompts = load_prompts(root / "artifacts/data/prompts/val.jsonl", tokenizer, params.rollout.max_prompt_tokens)
    ids = [prompt.ids for prompt in draw(prompts, num_prompts, params.seed)]
    scorer = RewardScorer.load(Path(settings["reward"]), torch.device("cpu"))
    worker = RolloutWorker(Policy(_model(settings["sft"]), None), scorer, tokenizer, params, Builtin())
    points, scores, kls = [], [], []
    for iteration in range(0, settings["num_iterations"] + 1, settings["iterations_per_turn"]):
        policy = _model(folder / f"iteration-{iteration}") if iteration else worker.policy.model
        policy.generation_config = worker.policy.model.generation_config
        rollout = worker.roll_out(policy, ids, params.seed)
        points.append({"iteration": iteration, **rollout.summary()})
        scores.append(rollout.scores.double().numpy())
        kls.append(rollout.kl.sum(1).double().numpy())
    return points, np.array(scores), np.array(kls)


def _model(path: str | Path) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


def gain_at(kl: Array, scores: Array, kls: Array) -> Array:
    """Reward above the SFT model's at each `kl`: d (a - b log d) with d = sqrt(KL) (Gao, Schulman, Hilton 2022).

    Fitted to the mean scores and KLs of the policies (rows 1 and on; row 0 is the SFT model).
    """
    reached = np.sqrt(np.maximum(kls[1:].mean(1), 1e-3))
    gains = scores[1:].mean(1) - scores[0].mean()
    coefficients, *_ = np.linalg.lstsq(_basis(reached), gains, rcond=None)
    return np.asarray(_basis(np.sqrt(kl)) @ coefficients)


def _basis(distance: Array) -> Array:
    return np.stack([distance, -distance * np.log(distance)], 1)


def compare(sides: dict[str, tuple[Array, Array]], seed: int) -> list[dict[str, float]]:
    """Gains at equal KL, as far as all sides came, and ours minus TRL's with 95 % intervals over the prompts."""
    furthest = min(kls[1:].mean(1).max() for _, kls in sides.values())
    grid = np.arange(0.5, furthest, 0.5)
    num_prompts = sides["trl"][0].shape[1]
    generator = np.random.default_rng(seed)
    picks = generator.integers(num_prompts, size=(BOOTSTRAP_SAMPLES, num_prompts))
    gains = {side: gain_at(grid, *arrays) for side, arrays in sides.items()}
    resampled = {
        side: np.array([gain_at(grid, scores[:, pick], kls[:, pick]) for pick in picks])
        for side, (scores, kls) in sides.items()
    }
    rows = []
    for i, kl in enumerate(grid):
        row = {"kl": float(kl), **{side: float(gain[i]) for side, gain in gains.items()}}
        for side in SIDES[1:]:
            low, high = np.quantile(resampled[side][:, i] - resampled["trl"][:, i], [0.025, 0.975])
            row |= {
                f"{side}_minus_trl": row[side] - row["trl"],
                f"{side}_minus_trl_ci_low": float(low),
                f"{side}_minus_trl_ci_high": float(high),
            }
        rows.append(row)
    return rows


def table(result: dict[str, Any]) -> str:
    lines = [
        "| | samples/s (median of turns) | times TRL, turn by turn: median (min to max) |",
        "|---|---:|---:|",
    ]
    for side in SIDES:
        ratios = result["times_trl"][side]
        lines.append(
            f"| {side} | {statistics.median(result['samples_per_second'][side]):.1f} "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )
    lines += [
        "",
        "Reward on validation prompts above the SFT model's, at equal KL:",
        "",
        "| KL, nats a reply | trl | separate | minus TRL's | shared | minus TRL's |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for row in result["gain_at_kl"]:
        cells = [f"{row['kl']}", f"{row['trl']:.3f}"]
        for side in SIDES[1:]:
            difference = f"{side}_minus_trl"
            cells += [
                f"{row[side]:.3f}",
                f"{row[difference]:+.3f} ({row[difference + '_ci_low']:+.3f} to {row[difference + '_ci_high']:+.3f})",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trl-python", required=True, help="of an environment with requirements.txt")
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--iterations-per-turn", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--validation-prompts", type=int, default=800)
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    root = HERE.parents[1]
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        settings = make_settings(root, options.turns, options.iterations_per_turn, options.threads)
        (work / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        assert read_settings(str(work / "settings.json")) == settings
        commands = {
            side: [options.trl_python, str(HERE / "run_trl.py"), str(work / "settings.json"), str(work / side)]
            if side == "trl"
            else [sys.executable, str(HERE / "run_groundup.py"), str(work / "settings.json"), str(work / side), side]
            for side in SIDES
        }
        seconds = take_turns(commands, options.turns, options.threads, work)
        evaluated = {
            side: evaluation_points(settings, work / side, root, options.validation_prompts) for side in SIDES
        }
    speeds = {side: samples_per_second(seconds[side], settings["batch_size"]) for side in SIDES}
    result = {
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "settings": {
            key: value for key, value in settings.items() if key not in ("prompts", "align", "sft", "reward")
        },
        "samples_per_second": speeds,
        "times_trl": {
            side: [ours / trl for ours, trl in zip(speeds[side], speeds["trl"], strict=True)] for side in SIDES
        },
        "points": {side: points for side, (points, _, _) in evaluated.items()},
        "gain_at_kl": compare({side: (scores, kls) for side, (_, scores, kls) in evaluated.items()}, settings["seed"]),
    }
    (options.out / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (options.out / "result.md").write_text(table(result), encoding="utf-8")
    logger.info("\n%s", table(result))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
