"""python -m bench.open.seeds NAME, after `dvc repro`: README.md beside this file."""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

from bench.finish import check_setting, finish
from bench.open.__main__ import HERE, add_name, open_params
from bench.results import ROOT, row, run_command, write_result
from groundup.align.align import align
from groundup.core.judging.judge import Judge
from groundup.core.model.check import shared_tokenizer
from groundup.core.model.context import context_length
from groundup.core.model.llama import load_causal_lm
from groundup.core.model.scoring import RewardScorer
from groundup.core.rollout.engine import Builtin
from groundup.core.rollout.prompts import Prompt
from groundup.core.rollout.style import human_style_rates, style_rates
from groundup.core.training.runtime import set_up
from groundup.evaluate.gold import (
    WIN_RATE,
    Absent,
    Contest,
    all_gold_metrics,
    gold_metrics,
    load_gold_judge,
    moved_win_rate,
)
from groundup.evaluate.held_out import load_test_set
from groundup.evaluate.intervals import Metrics
from groundup.evaluate.measures.overoptimization import FILE, read_points
from groundup.evaluate.replies import ModelReplies, fit_prompts, reply_to_prompts, style_changes
from groundup.runner.checkpoints import Checkpoints
from groundup.runner.device import resolve_device
from groundup.runner.files import file_digests, read_object
from groundup.runner.launch.settings import read_launch
from groundup.runner.params import Params
from groundup.runner.params.evaluate import EvaluateParams

ARTIFACTS = ROOT / "artifacts"
WORK = ROOT / ".open-seeds"  # keeps finished policies
SHOWN = {  # figure -> title
    "win_rate_vs_sft_gold": "wins against SFT",
    "win_rate_vs_sft_gold_moved": "moved elsewhere",
    "kl_to_sft": "KL, nats",
    "reply_length_change": "change of length",
    "greeting_rate": "greet",
    "question_rate": "ask",
    "echo_rate": "echo",
    "kept_iteration": "kept iteration",
}


class Policy(NamedTuple):
    model: Path
    report: Path
    kept_iteration: int


def policies(params: Params, num_seeds: int, device: str) -> list[Policy]:
    """One for each seed, from the same SFT and reward model: the first is the pipeline's own, if it is there."""
    models = {name: file_digests(ARTIFACTS / name) for name in ("sft", "reward")}
    settings = {
        name: section.model_dump(mode="json")
        for name, section in (("align", params.align), ("runtime", params.runtime))
    }
    check_setting(WORK, models | settings)
    own, found = ARTIFACTS / "reports/align", []
    if own.exists():
        found.append(Policy(ARTIFACTS / "aligned", own, read_object(own / "metrics.json")["kept_iteration"]))
    for number in range(len(found), num_seeds):
        folder = WORK / f"seed-{number}"

        def compute(checkpoints: Checkpoints, folder: Path = folder, number: int = number) -> dict[str, Any]:
            return align(
                sft=ARTIFACTS / "sft",
                reward=ARTIFACTS / "reward",
                prompts=ARTIFACTS / "data/prompts",
                monitor=ARTIFACTS / "data/monitor",
                out=folder / "out",
                report=folder / "report",
                params=params.align.model_copy(update={"seed": params.align.seed + number}),
                runtime=params.runtime,
                device=device,
                checkpoints=checkpoints,
                log=lambda step, **values: None,  # the points in the report say more
            )

        kept = finish(folder, compute)["kept_iteration"]
        found.append(Policy(folder / "out", folder / "report", kept))
    return found


def score(params: Params, found: list[Policy], device: str) -> dict[str, Any]:
    """Each policy under the gold judge on the test prompts of evaluate, with its controls."""
    it = params.evaluate
    torch_device = set_up(params.runtime, device, it.seed)
    judge = load_gold_judge(ARTIFACTS / "data/judge", it.gold_judge)
    if isinstance(judge, Absent):
        raise ValueError(f"there is no gold judge to compare by: {judge.reason}")
    data = ARTIFACTS / "data"
    tokenizer = shared_tokenizer({"sft": ARTIFACTS / "sft"})
    sft = load_causal_lm(ARTIFACTS / "sft", torch_device).eval()
    scorer = RewardScorer.load(ARTIFACTS / "reward", torch_device)
    rows = load_test_set(data / "text", data / "prompts", data / "evaluation", it).prompts
    prompts = fit_prompts(tokenizer, rows, context_length(sft, tokenizer), it.max_new_tokens)
    before = reply_to_prompts(Builtin(), sft, sft, scorer, tokenizer, prompts, it)
    conversations = [prompt.conversation_id for prompt in prompts]
    runs, said = [], []
    for number, policy in enumerate(found):
        aligned = load_causal_lm(policy.model, torch_device).eval()
        after = reply_to_prompts(Builtin(), aligned, sft, scorer, tokenizer, prompts, it)
        del aligned  # before the next one is loaded
        said.append(after)
        points = read_points(policy.report / FILE)
        runs.append(
            {
                "seed": params.align.seed + number,
                "kept_iteration": policy.kept_iteration,
                "kl_to_sft": sum(after["kl"]) / len(prompts),
                **all_gold_metrics(judge, prompts, before, after, points, it),
                **style_changes(before, after, conversations, it),
                **style_rates(prompts, after["texts"]),
            }
        )
    return {
        "num_prompts": len(prompts),
        "sft": style_rates(prompts, before["texts"]),
        "people": human_style_rates(prompts),
        "runs": runs,
        "all": together(judge, prompts, before, said, it),
    }


def together(
    judge: Judge, prompts: list[Prompt], before: ModelReplies, said: list[ModelReplies], it: EvaluateParams
) -> Metrics:
    """The replies of all policies as those of one player. The interval is over conversations and judges, not seeds."""
    judge = judge.centred_on([prompt.messages for prompt in prompts])
    num = len(said)
    sft, aligned = joined([before] * num), joined(said)
    contest = Contest(prompts * num, aligned["texts"], sft["texts"])
    return {
        **gold_metrics(judge, prompts * num, sft, aligned, it),
        **moved_win_rate(WIN_RATE, judge, contest, it, within_opening=False),
        **moved_win_rate(WIN_RATE, judge, contest, it, within_opening=True),
        **style_rates(prompts * num, aligned["texts"]),
    }


def joined(said: list[ModelReplies]) -> ModelReplies:
    return ModelReplies(
        texts=[text for replies in said for text in replies["texts"]],
        tokens=[tokens for replies in said for tokens in replies["tokens"]],
        ended=[ended for replies in said for ended in replies["ended"]],
        rewards=[reward for replies in said for reward in replies["rewards"]],
        kl=[nats for replies in said for nats in replies["kl"]],
    )


def shown(value: float | int) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def table(result: dict[str, Any]) -> str:
    def cells(of: dict[str, Any]) -> list[str]:
        ends = ("", "_ci_low", "_ci_high")
        parts = [[shown(of[key + end]) for end in ends if key + end in of] for key in SHOWN]
        return [f"{it[0]} ({it[1]} to {it[2]})" if len(it) == len(ends) else "".join(it) for it in parts]

    lines = [row("seed", *SHOWN.values()), "|---|" + "---:|" * len(SHOWN)]
    lines += [row(str(run["seed"]), *cells(run)) for run in result["runs"]]
    lines += [row(name, *cells(result[of])) for name, of in (("all", "all"), ("SFT", "sft"), ("people", "people"))]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Align with more seeds, and score all of them under the gold judge.")
    add_name(parser)
    parser.add_argument("--num-seeds", type=int, default=3)
    arguments = parser.parse_args()
    params, device = open_params(), resolve_device(read_launch(ROOT))
    if params.evaluate.judge == "model":
        raise ValueError(
            "evaluate.judge is model, but the fitted gold judge scores the policies here: set it to builtin"
        )
    result = score(params, policies(params, arguments.num_seeds, device), device)
    write_result(HERE / arguments.name / "seeds", result, table(result))


if __name__ == "__main__":
    run_command(main)
