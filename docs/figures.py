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
NUM_SAMPLES = 2


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
    write_json(RESULTS, {stage: without_gold(read_object(path)) for stage, path in files.items()})
    return []


def without_gold(figures: dict[str, Any]) -> dict[str, Any]:
    """The gold judge is being replaced: its figures are in the report of a run, with a warning, not in the docs."""
    return {
        key: without_gold(value) if isinstance(value, dict) else value
        for key, value in figures.items()
        if "gold" not in key and not key.startswith(("rating", "judge_"))
    }


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
    """One row a result, each with what to compare it with; then the times if they were measured."""
    reward, align, evaluate = m["reward"], m["align"], m["evaluate"]
    base, sft, ngram, untrained = (evaluate[name] for name in ("base", "sft", "ngram", "untrained"))

    def interval(values: dict[str, Any], key: str) -> str:
        return f"{values[key]:.3f} ({values[f'{key}_ci_low']:.3f} to {values[f'{key}_ci_high']:.3f})"

    rows = [
        ("base model, bits per byte of test documents", interval(base, "bits_per_byte"),
         f"5-grams {ngram['bits_per_byte']:.3f}, untrained {untrained['bits_per_byte']:.3f}"),
        ("SFT model, nats per assistant token of val chats", f"{m['sft']['val_loss']:.3f}",
         f"base model {m['sft']['val_loss_before']:.3f}"),
        ("SFT model, topic of a text among four", interval(sft, "topic_accuracy"),
         f"5-grams {ngram['topic_accuracy']:.3f}, chance {sft['topic_chance']:.2f}"),
        ("SFT model, next reply among four", interval(sft, "next_reply_accuracy"),
         f"chance {sft['next_reply_chance']:.2f}"),
        ("reward model, a person's reply against the SFT model's", interval(reward, "heldout_sampled_accuracy"),
         "chance 0.50"),
        ("reward model, the reply given here against one from elsewhere",
         interval(reward, "heldout_relevance_accuracy"), "chance 0.50"),
        ("reward of aligned replies to test prompts", f"{align['heldout_reward_after']:.3f}",
         f"SFT model {align['heldout_reward_before']:.3f}"),
        ("KL of the aligned model to the SFT model, nats per reply", f"{align['kl_to_reference']:.2f}",
         f"budget {align['kl_budget']:.1f}"),
    ]  # fmt: skip
    lines = ["| result | value | compare with |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    if times:
        each = ", ".join(f"{stage} {run['stage_seconds']:.0f}" for stage, run in times["stages"].items())
        together, memory = times["together"]["seconds"] / 60, times["together"]["peak_memory_mb"]
        lines += [
            "",
            f"{m['pretrain']['num_parameters']:,} parameters. Seconds on {times['machine']['cores']} cores: {each}; "
            f"together {together:.1f} minutes, at most {memory:,.0f} MB.",
        ]
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
