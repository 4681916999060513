"""Refresh the figures and samples of README and the pages of docs; --check only compares (for CI)."""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

import reliability_figures  # noqa: E402

from groundup.runner.files import hash_file, read_object, write_json  # noqa: E402
from groundup.runner.params import load_params  # noqa: E402
from groundup.runner.params.selection import select  # noqa: E402
from groundup.runner.pipeline import read_pipeline  # noqa: E402

RESULTS = ROOT / "docs/results.json"  # every figure of the committed run
TIMES = ROOT / "bench/pipeline/result.json"
MODELS = ("base", "sft", "aligned")
NUM_SAMPLES = 4


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if something does not agree")
    check = parser.parse_args().check
    missing = [] if check else write_results()
    metrics = json.loads(RESULTS.read_text(encoding="utf-8"))
    times = json.loads(TIMES.read_text(encoding="utf-8")) if TIMES.exists() else None
    if times is None:
        missing.append(f"{TIMES.relative_to(ROOT)} is missing: `python -m bench.pipeline` after `dvc repro` writes it")
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    fresh = replace_block(text, "figures", figures(metrics, times))
    reliability = ROOT / "docs/reliability.md"
    fresh_tested = tested = reliability.read_text(encoding="utf-8")
    blocks, not_there = reliability_figures.blocks(ROOT, times)
    missing += not_there
    for name, content in blocks.items():
        fresh_tested = replace_block(fresh_tested, name, content)
    if not check:
        replies = ROOT / "artifacts/reports/evaluate/replies.jsonl"
        if replies.exists():
            fresh = replace_block(fresh, "samples", samples(replies))
        else:
            missing.append("artifacts/reports/evaluate/replies.jsonl is missing: run `dvc repro`")
        readme.write_text(fresh, encoding="utf-8")
        reliability.write_text(fresh_tested, encoding="utf-8")
        return tell(missing)
    problems = lock_problems() + missing
    if fresh != text:
        problems.append("README.md's figures are not those of docs/results.json: run `make figures`")
    if fresh_tested != tested:
        problems.append("docs/reliability.md's figures are not those that were measured: run `make figures`")
    return tell(problems)


def write_results() -> list[str]:
    """Take over the figures of the run whose artifacts are here; what is missing for that."""
    files = {stage: ROOT / f"{spec.report}/metrics.json" for stage, spec in read_pipeline(ROOT).items()}
    if missing := [path.relative_to(ROOT).as_posix() for path in files.values() if not path.exists()]:
        return [f"{', '.join(missing)} missing: run `dvc repro`; {RESULTS.name} stays as it is"]
    write_json(RESULTS, {stage: read_object(path) for stage, path in files.items()})
    return []


def tell(problems: list[str]) -> int:
    """The exit status."""
    for problem in problems:
        sys.stderr.write(problem + "\n")
    return 1 if problems else 0


def replace_block(text: str, name: str, content: str) -> str:
    """Text between <!-- name --> and <!-- /name -->."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    if not re.search(pattern, text, re.DOTALL):
        raise SystemExit(f"the page has no block <!-- {name} --> ... <!-- /{name} -->")
    return re.sub(pattern, lambda match: f"{match[1]}{content}\n{match[2]}", text, flags=re.DOTALL)


def figures(m: dict[str, dict[str, Any]], times: dict[str, Any] | None) -> str:
    """One row a result, then the times if they were measured."""
    pretrain, reward, align, evaluate = m["pretrain"], m["reward"], m["align"], m["evaluate"]

    def interval(values: dict[str, Any], key: str) -> str:
        return f"{values[key]:.3f} ({values[f'{key}_ci_low']:.3f} to {values[f'{key}_ci_high']:.3f})"

    rows = [
        ("parameters", f"{pretrain['num_parameters']:,}"),
        ("base model, bits per byte on val documents", f"{pretrain['val_bits_per_byte']:.3f}"),
        ("SFT, nats per assistant token (before)", f"{m['sft']['val_loss']:.3f} ({m['sft']['val_loss_before']:.3f})"),
        ("reward model, held-out pairs of a person's reply and SFT's", interval(reward, "heldout_sampled_accuracy")),
        ("reward model, held-out pairs by human rating", interval(reward, "heldout_accuracy")),
        ("on those, the rule that prefers the longer side", interval(reward, "length_only_accuracy")),
        ("on those, a bag of words", interval(reward, "bag_of_words_accuracy")),
        ("reward of SFT replies on test prompts", f"{align['heldout_reward_before']:.3f}"),
        ("reward of aligned replies", f"{align['heldout_reward_after']:.3f}"),
        ("difference, paired", interval(align, "heldout_reward_difference")),
        ("KL to the SFT model, nats per reply (budget)", f"{align['kl_to_reference']:.2f} ({align['kl_budget']:.1f})"),
        ("aligned against SFT, win rate under the reward model", interval(evaluate, "win_rate_vs_sft")),
        ("gold judge's score, aligned minus SFT, paired", interval(evaluate, "gold_reward_difference")),
        ("aligned against SFT, win rate under the gold judge", interval(evaluate, "win_rate_vs_sft_gold")),
        ("at equal reply length", interval(evaluate, "win_rate_vs_sft_gold_length_controlled")),
        ("people's replies against SFT's, the same", interval(evaluate, "win_rate_human_vs_sft_gold")),
        ("the gold judge finds a person's reply in held-out pairs", interval(evaluate, "judge_agreement")),
    ]
    shared = [
        ("bits per byte, test documents", "bits_per_byte"),
        ("next reply among four", "next_reply_accuracy"),
        ("topic among four", "topic_accuracy"),
        ("reward on test prompts", "reward"),
        ("reply length, tokens", "reply_length"),
        ("replies that end by themselves", "end_of_turn_rate"),
        ("distinct token pairs", "distinct_2"),
    ]
    lines = ["| result | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""]
    lines += ["| | base | SFT | aligned |", "|---|---|---|---|"]
    lines += [
        f"| {name} | " + " | ".join(f"{evaluate[model][key]:.3f}" for model in MODELS) + " |" for name, key in shared
    ]
    if times:
        each = ", ".join(f"{stage} {run['stage_seconds']:.0f} s" for stage, run in times["stages"].items())
        together, memory = times["together"]["seconds"] / 60, times["together"]["peak_memory_mb"]
        cores = times["machine"]["cores"]
        lines += ["", f"Time on {cores} cores: {each}; together {together:.1f} minutes, at most {memory:,.0f} MB."]
    return "\n".join(lines)


def samples(path: Path) -> str:
    """The first prompts of the report, with each model's reply as it came."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:NUM_SAMPLES]]
    return "\n\n".join(sample(row) for row in rows)


def sample(row: dict[str, Any]) -> str:
    lines = [f"> **{message['role']}** {message['content']}" for message in row["messages"]]
    lines += [f"> *{model}:* {' '.join(row[model]['text'].split())}" for model in MODELS]
    return "  \n".join(lines)


def lock_problems() -> list[str]:
    """What in dvc.lock is not the committed params and metrics."""
    lock = YAML(typ="safe").load((ROOT / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    params = load_params(ROOT / "params.yaml")
    problems = []
    for name, spec in read_pipeline(ROOT).items():
        recorded = {out["path"]: out["md5"] for out in lock.get(name, {}).get("outs", [])}
        problems += [
            f"{path} is not the file that dvc.lock records: commit both from one `dvc repro`"
            for path in (*spec.metrics, *spec.plots)
            if recorded.get(path) != hash_file(ROOT / path, "md5")
        ]
        if lock.get(name, {}).get("params", {}).get("params.yaml") != select(params, spec.params):
            problems.append(f"params.yaml is not what dvc.lock records for {name}: run `dvc repro`")
    return problems


if __name__ == "__main__":
    sys.exit(main())
