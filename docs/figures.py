"""Refresh the figures and samples of README and the pages of docs; --check only compares (for CI)."""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

import memory_figures  # noqa: E402
import open_figures  # noqa: E402
import pipeline_picture  # noqa: E402
import reliability_figures  # noqa: E402
from open_figures import aligned_rows, interval  # noqa: E402
from reliability_figures import table  # noqa: E402

from bench.results import run_figures  # noqa: E402
from groundup.runner.files import hash_file, read_object, write_json  # noqa: E402
from groundup.runner.params import load_params  # noqa: E402
from groundup.runner.params.selection import select  # noqa: E402
from groundup.runner.pipeline import read_pipeline  # noqa: E402

RESULTS = ROOT / "docs/results.json"  # every figure of the committed run, and some of its replies
TIMES = ROOT / "bench/pipeline/result.json"
NUM_SAMPLES = 1
BLOCK = re.compile(r"(<!-- (\S+) -->\n).*?(<!-- /\2 -->)", re.DOTALL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if something does not agree")
    check = parser.parse_args().check
    problems = lock_problems() if check else write_results()
    contents, missing = blocks()
    problems += missing
    pages = {page: page.read_text(encoding="utf-8") for page in (ROOT / "README.md", *ROOT.glob("docs/*.md"))}
    fresh = {page: filled(text, contents) for page, text in pages.items()}
    found = {name for text in pages.values() for _, name, _ in BLOCK.findall(text)}
    problems += [f"no page has a block <!-- {name} --> ... <!-- /{name} -->" for name in contents.keys() - found]
    problems += [f"nothing fills <!-- {name} -->" for name in found - contents.keys() if not (ROOT / name).is_file()]
    fresh[ROOT / "docs/images/pipeline.svg"] = pipeline_picture.draw(read_pipeline(ROOT))
    for path, text in fresh.items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if check:
            name = path.relative_to(ROOT).as_posix()
            problems.append(f"{name} does not show the committed results: run `make figures`")
        else:
            path.write_text(text, encoding="utf-8")
    for problem in problems:
        sys.stderr.write(problem + "\n")
    return 1 if problems else 0


def blocks() -> tuple[dict[str, str], list[str]]:
    """The text of each block by its name, and what is missing for the others."""
    results, times = read_object(RESULTS), read_object(TIMES)
    reliability, missing = reliability_figures.blocks(ROOT, times)
    options = read_object(ROOT / "bench/model_options.json")["options"]
    contents = {
        "figures": figures(results),
        "samples": "\n\n".join(map(open_figures.sample, results["samples"])),
        "times": summary(results["pretrain"], times),
        "model-options": model_options(options),
        "open-memory": memory_figures.memory_by_size(ROOT),
        "cluster-plan": memory_figures.cluster_plan(ROOT),
    }
    return contents | reliability | open_figures.blocks(ROOT), missing


def filled(page: str, contents: dict[str, str]) -> str:
    """The page with its blocks <!-- name --> ... <!-- /name --> refreshed; one named after a file holds it."""

    def fill(match: re.Match[str]) -> str:
        start, name, end = match.groups()
        if name in contents:
            return f"{start}{contents[name]}\n{end}"
        path = ROOT / name
        return f"{start}{path.read_text(encoding='utf-8')}{end}" if path.is_file() else match[0]

    return BLOCK.sub(fill, page)


def write_results() -> list[str]:
    """Take over the figures of the run whose artifacts are here; what is missing for that."""
    try:
        write_json(RESULTS, run_figures(ROOT, NUM_SAMPLES))
    except ValueError as error:
        return [f"{error}; {RESULTS.name} stays as it is"]
    return []


def figures(m: dict[str, dict[str, Any]]) -> str:
    """One row a result, each with what to compare it with."""
    reward, align, evaluate = m["reward"], m["align"], m["evaluate"]
    base, sft, ngram, untrained = (evaluate[name] for name in ("base", "sft", "ngram", "untrained"))

    def elo(values: dict[str, Any], key: str) -> str:
        return f"{values[key]:.0f} ({values[f'{key}_ci_low']:.0f} to {values[f'{key}_ci_high']:.0f})"

    rows = [
        ("base model, bits per byte of test documents", interval(base, "bits_per_byte"),
         f"5-grams {ngram['bits_per_byte']:.3f}, untrained {untrained['bits_per_byte']:.3f}"),
        ("SFT model, nats per assistant token of val chats", f"{m['sft']['val_loss']:.3f}",
         f"base model {m['sft']['val_loss_before']:.3f}"),
        ("SFT model, topic of a text among four", interval(sft, "topic_accuracy"),
         f"5-grams {ngram['topic_accuracy']:.3f}, chance {sft['topic_chance']:.2f}"),
        ("SFT model, next reply among four", interval(sft, "next_reply_accuracy"),
         f"chance {sft['next_reply_chance']:.2f}"),
        ("reward model, a person's reply against another person's from elsewhere",
         interval(reward, "heldout_relevance_accuracy"),
         f"after other prompts {reward['heldout_relevance_moved_accuracy']:.3f}, words of the reply alone "
         f"{reward['heldout_relevance_bag_of_words_accuracy']:.3f}"),
        ("reward model, a person's reply against the SFT model's", interval(reward, "heldout_sampled_accuracy"),
         f"words of the reply alone {reward['heldout_sampled_bag_of_words_accuracy']:.3f}"),
        *aligned_rows(align, evaluate),
        ("rating of the aligned model by the same judge, on test and validation prompts, SFT at 1000",
         elo(evaluate, "rating_aligned_gold"),
         f"base {elo(evaluate, 'rating_base_gold')}, people {elo(evaluate, 'rating_human_gold')}"),
    ]  # fmt: skip
    return table(("result", "value", "compare with"), rows)


def summary(pretrain: dict[str, Any], times: dict[str, Any]) -> str:
    together, cores = times["together"], times["machine"]["cores"]
    return (
        f"The stages take {together['seconds'] / 60:.1f} minutes on {cores} idle CPU cores and at most "
        f"{together['peak_memory_mb']:,.0f} MB of memory; the model has {pretrain['num_parameters']:,} parameters."
    )


def model_options(options: dict[str, dict[str, float]]) -> str:
    head = ("option", "parameters", "training speed, default = 1", "rollout speed, default = 1", "val bits per byte")
    rows = [
        (
            name,
            f"{row['num_parameters']:,}",
            *(f"{row[f'{work}_relative']:.2f}" for work in ("training", "rollout")),
            f"{row['val_bits_per_byte']:.3f}",
        )
        for name, row in options.items()
    ]
    return table(head, rows)


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
