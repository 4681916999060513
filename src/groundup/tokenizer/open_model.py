"""The stage with an open model: its own tokenizer made ready, its report, and the text packed with it."""

from functools import partial
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedTokenizerFast

from groundup.core.formats.adopted import GROUNDUP, Adopted, adopt_tokenizer
from groundup.core.formats.chat_format import document_ends, load_tokenizer
from groundup.core.formats.chat_proofs import as_read
from groundup.core.formats.control_tokens import break_up
from groundup.core.formats.origin import with_base
from groundup.core.formats.shards import write_shards
from groundup.runner.base import Base
from groundup.runner.files import write_json, write_text
from groundup.runner.params.training import TokenizerParams
from groundup.runner.steps import FinishedSteps
from groundup.tokenizer.tokenizer import MEASURED, compression, figures_table, held_out_documents

CARD = """---
library_name: transformers
---
# groundup tokenizer

The tokenizer of the open model {name}, with its end of turn, padding and chat template as groundup uses them.
"""


def publish_tokenizer(
    base: Path,
    locked: Base | None,
    chat_template: Literal["own", "groundup"],
    text: Path,
    out: Path,
    report: Path,
    shards: Path,
    params: TokenizerParams,
    context_length: int,
    work: Path,
) -> dict[str, Any]:
    """Publish the tokenizer of the model in `base`, measure it on held-out documents, write the train split as shards.

    locked: what base.lock says of that model, for the card. Nothing is learnt, so params.scratch has no effect.
    """
    steps = FinishedSteps(work / "steps")
    adopted = adopt_tokenizer(base, GROUNDUP if chat_template == GROUNDUP else None)
    adopted.tokenizer.model_max_length = context_length  # what the model is used with, in every stage
    adopted.tokenizer.save_pretrained(out)
    write_text(out / "README.md", with_base(CARD.format(name=base.name), locked))
    tokenizer = load_tokenizer(str(out))  # as all other stages read it
    summary = steps.fill("report", partial(save_report, base.name, adopted, tokenizer, text))
    steps.copy("report", report)
    packed = write_shards(tokenizer, text / "train.jsonl", shards, params.shard_tokens, steps)
    return {key: value for key, value in summary.items() if not isinstance(value, str | list)} | packed


def save_report(
    name: str, adopted: Adopted, tokenizer: PreTrainedTokenizerFast, text: Path, target: Path
) -> dict[str, Any]:
    start, end = tokenizer.convert_ids_to_tokens(list(document_ends(tokenizer)))
    summary: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "num_added_tokens": adopted.num_added,
        "chat_template": adopted.template,
        "end_of_turn": tokenizer.eos_token,
        "padding": tokenizer.pad_token,
        "document_start": start,
        "document_end": end,
        "num_round_trip_failures": 0,
    }
    failed: list[str] = []

    def reads_back(text: str, ids: list[int]) -> bool:
        """The model's own normalization aside, and control tokens that the text spells."""
        found = as_read(tokenizer, tokenizer.decode(ids))
        good = found in (as_read(tokenizer, text), as_read(tokenizer, break_up(tokenizer, text)))
        failed.extend([] if good else [text])
        return good

    for split, rows in held_out_documents(text).items():
        summary[f"num_documents_{split}"] = len(rows)
        if any(row["text"] for row in rows):
            figures, failures = compression(tokenizer, rows, reads_back)
            summary |= {f"{MEASURED[split]}_{figure}": value for figure, value in figures.items()}
            summary["num_round_trip_failures"] += failures
    write_json(target / "report.json", summary)
    write_text(target / "report.md", _markdown(name, summary))
    if failed:
        raise ValueError(
            f"tokenizer: {len(failed)} held-out documents do not decode to themselves, such as {failed[0][:80]!a}: "
            f"{name} cannot write some of their characters. Clean them out of the sources, or choose a model whose "
            "tokenizer falls back to bytes"
        )
    return summary


def _markdown(name: str, summary: dict[str, Any]) -> str:
    return f"""# Tokenizer

The tokenizer of {name}, {summary["vocab_size"]} tokens, {summary["num_added_tokens"]} of them added.
{summary["num_round_trip_failures"]} held-out documents fail to decode to themselves.

- chat template: {summary["chat_template"]}
- end of turn: `{summary["end_of_turn"]}`
- padding: `{summary["padding"]}`
- a document: `{summary["document_start"]}` text `{summary["document_end"]}`

{figures_table(summary)}
"""
