"""Writes the report: report.md, report.html (one page that needs nothing else), a PNG a curve, all replies."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from groundup.core.formats.jsonl import write_jsonl
from groundup.core.training.cost import read_cost
from groundup.evaluate.gates import Gate
from groundup.evaluate.measures.decoding import Decoded
from groundup.evaluate.measures.overoptimization import Study
from groundup.evaluate.pairwise.tournament import Standings
from groundup.evaluate.probes.measure import Values
from groundup.evaluate.replies import ModelReplies, Prompt
from groundup.evaluate.report.cards import read_cards
from groundup.evaluate.report.curves import data_uri, draw_panels
from groundup.evaluate.report.decoding import (
    COLUMNS,
    FILE,
    decoding_hint,
    decoding_rows,
    decoding_sentences,
    write_decoding,
)
from groundup.evaluate.report.gold import gold_method, gold_sentences
from groundup.evaluate.report.lineage import lineage_rows, picture, total_flops
from groundup.evaluate.report.overoptimization import draw_studies
from groundup.evaluate.report.sentences import MODELS, headline
from groundup.evaluate.report.table import score_table, tiles, win_bars
from groundup.evaluate.report.tasks import Measured, task_method, task_table
from groundup.evaluate.report.values import gate_sentence, rating_tables, write_values
from groundup.runner.params.evaluate import EvaluateParams

STAGES = {
    "prepare": "Data",
    "tokenizer": "Tokenizer",
    "pretrain": "Pretraining",
    "sft": "Supervised fine-tuning",
    "reward": "Reward model",
    "align": "Alignment",
    "evaluate": "Evaluation",
}
OVEROPTIMIZATION = "overoptimization.png"
MARKDOWN_SYMBOLS = "\\`*_{}[]<>#|~"


@dataclass(frozen=True)
class ReportInputs:
    metrics: Mapping[str, Any]
    measured: Measured
    num_documents_in_split: int
    prompts: list[Prompt]
    replies: Mapping[str, ModelReplies]  # by model
    curves: Mapping[str, Path]  # by stage
    reports: Mapping[str, Path]  # by stage
    ancestry: Mapping[str, Sequence[str]]  # the stages, and what each reads from
    made: Mapping[str, str]  # by stage, what it made in words
    weights: Mapping[str, str]  # by stage, the fingerprint of the model that it made
    no_judge: str | None  # why there are no gold figures
    overoptimization: Study | None
    decoded_prompts: list[Prompt]
    decoded: Mapping[str, Decoded]  # by method
    standings: list[Standings]  # by judge
    values: Mapping[str, Values]  # of the probes, by model
    gates: list[Gate]
    params: EvaluateParams


def write_report(inputs: ReportInputs, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    pictures = draw_panels(inputs.curves)
    for panel, png in pictures:
        (out / panel.file_name).write_bytes(png)
    cards = read_cards(inputs.reports, STAGES)
    for card in cards:
        for name, png in card.pictures.items():
            (out / name).write_bytes(png)
    study = None
    if inputs.overoptimization is not None:
        png = draw_studies({"": inputs.overoptimization})
        (out / OVEROPTIMIZATION).write_bytes(png)
        study = {"file": OVEROPTIMIZATION, "uri": data_uri(png)}
    stages = {panel.stage: STAGES.get(panel.stage, panel.stage) for panel, _ in pictures}
    context = {
        "models": MODELS,
        "sentences": _sentences(inputs),
        "tiles": tiles(inputs.metrics, inputs.gates),
        "win_bars": win_bars(inputs.metrics),
        "overoptimization": study,
        "task_table": task_table(inputs.metrics, inputs.measured),
        "groups": score_table(inputs.metrics),
        "lineage": _lineage(inputs),
        "decoding": {
            "hint": decoding_hint(inputs.metrics, inputs.params.decoding),
            "columns": COLUMNS,
            "rows": decoding_rows(inputs.metrics),
        },
        "curves": [
            {
                "stage": title,
                "panels": [
                    {"title": panel.title, "file": panel.file_name, "uri": data_uri(png)}
                    for panel, png in pictures
                    if panel.stage == stage
                ],
            }
            for stage, title in stages.items()
        ],
        "ratings": rating_tables(inputs.standings),
        "gates": inputs.gates,
        "samples": _samples(inputs),
        "cards": cards,
        "method": _method(inputs),
    }
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["plain"] = plain
    for name in ("report.md", "report.html"):
        page = environment.get_template(f"{name}.j2").render(context)
        (out / name).write_text(page, encoding="utf-8", newline="\n")
    write_decoding(out / FILE, inputs.metrics, inputs.decoded_prompts, inputs.decoded)
    write_values(inputs.metrics, inputs.values, inputs.standings, inputs.gates, out)
    write_jsonl(out / "replies.jsonl", [_reply_row(inputs, i) for i in range(len(inputs.prompts))])


def plain(text: str) -> str:
    """Text on one line that Markdown shows as it is."""
    return "".join("\\" + char if char in MARKDOWN_SYMBOLS else char for char in " ".join(text.split()))


def _sentences(inputs: ReportInputs) -> list[str]:
    won, *others = headline(inputs.metrics, list(inputs.measured.tasks))
    return [
        won,
        *gold_sentences(inputs.metrics, inputs.no_judge, inputs.overoptimization),
        *others,
        *decoding_sentences(inputs.metrics),
        gate_sentence(inputs.gates),
    ]


def _lineage(inputs: ReportInputs) -> dict[str, Any]:
    costs = {stage: cost for stage, path in inputs.reports.items() if (cost := read_cost(path))}
    return {
        "rows": lineage_rows(inputs.ancestry, STAGES, inputs.made, costs, inputs.weights),
        "picture": picture(inputs.ancestry),
        "flops": total_flops(costs),
    }


def _reply_row(inputs: ReportInputs, i: int) -> dict[str, Any]:
    prompt = inputs.prompts[i]
    replies = {
        model: {"text": replies["texts"][i], "reward": replies["rewards"][i], "ended": replies["ended"][i]}
        for model, replies in inputs.replies.items()
    }
    return {"conversation_id": prompt.conversation_id, "messages": prompt.messages, **replies}


def _samples(inputs: ReportInputs) -> list[dict[str, Any]]:
    count = min(inputs.params.num_samples, len(inputs.prompts))
    drawn = random.Random(inputs.params.seed).sample(range(len(inputs.prompts)), count)
    rows = [_reply_row(inputs, i) for i in sorted(drawn)]
    return [
        {
            "topic": " ".join(m["content"] for m in row["messages"] if m["role"] == "system"),
            "turns": [m for m in row["messages"] if m["role"] != "system"],
            "replies": [{"model": title, **row[model]} for model, title in MODELS.items()],
        }
        for row in rows
    ]


def _method(inputs: ReportInputs) -> list[str]:
    params, metrics = inputs.params, inputs.metrics
    return [
        f"Bits per byte: {metrics['num_documents']} of the {inputs.num_documents_in_split} documents of the test "
        "split, drawn at random. Every UTF-8 byte and the end of each document counts, each document is scored alone, "
        "and one longer than the context in windows that overlap by a quarter.",
        "Choice: the reply with the highest log-likelihood per token, end-of-turn included, is the model's answer.",
        *task_method(inputs.measured, params.contamination_ngram),
        f"Replies: one sample for each of {metrics['num_prompts']} test prompts, temperature {params.temperature}, "
        f"at most {params.max_new_tokens} tokens, seed {params.seed}, the same random numbers for every model. "
        "A reply that did not end is scored as if it had.",
        "Reward and plain win rates are judged by the reward model that alignment optimised: they show that it "
        "worked, not that people would agree.",
        *([] if inputs.no_judge is not None else [gold_method(metrics)]),
        "Values: small probe sets written for this project; docs/values.md says what each one measures and what it "
        "does not. Shares of items, with Wilson's interval.",
        "Ratings: one Bradley-Terry model of all comparisons, on Elo's scale (400 points are odds of ten to one), the "
        "SFT model at 1000. Iterations are align's evaluation points, on validation prompts.",
        "KL to SFT: the log-probability of the reply under the model minus that under the SFT model, in nats, on the "
        "model's own replies. Distinct-2: distinct bigrams of tokens over all bigrams of all replies.",
        f"Intervals: 95 %, percentile bootstrap with {params.bootstrap_samples} resamples of conversations, since "
        "prompts of one conversation are not independent. They do not cover the chance of training with other seeds.",
    ]
