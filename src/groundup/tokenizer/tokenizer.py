"""Byte-level BPE: training, chat template, report, and the stage with its steps."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from groundup.core.formats.chat_format import (
    ASSISTANT,
    BOS,
    CHAT_TEMPLATE,
    END,
    PAD,
    SPECIAL_TOKENS,
    SYSTEM,
    USER,
    encode_text,
)
from groundup.core.formats.control_tokens import control_tokens
from groundup.core.formats.jsonl import Row, read_jsonl
from groundup.core.formats.shards import write_shards
from groundup.runner.files import write_json, write_text
from groundup.runner.params.training import ScratchTokenizerParams, TokenizerParams
from groundup.runner.steps import FinishedSteps

BPE_FILE = "bpe.json"
MEASURED = {"val": "val", "test": "heldout"}  # split -> prefix of its figures


def train_bpe(texts: Iterator[str], vocab_size: int, min_frequency: int) -> Tokenizer:
    """Byte-level BPE with GPT-2's published pre-tokenizer pattern, which GGUF and llama.cpp identify by name.

    Special tokens have the last ids, so that the merges of a smaller vocabulary are a prefix of these.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS),
        min_frequency=min_frequency,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() < vocab_size - len(SPECIAL_TOKENS):
        raise ValueError(
            f"tokenizer.scratch.vocab_size {vocab_size} is more than the text allows: with min_frequency "
            f"{min_frequency} it gives {tokenizer.get_vocab_size() + len(SPECIAL_TOKENS)}; lower it or add text"
        )
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return tokenizer


def chat_tokenizer(tokenizer: Tokenizer, context_length: int) -> PreTrainedTokenizerFast:
    """A transformers tokenizer with our special tokens and chat template."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=[SYSTEM, USER, ASSISTANT],
        model_max_length=context_length,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def truncated_bpe(tokenizer: Tokenizer, vocab_size: int) -> Tokenizer:
    """The tokenizer that training with a smaller vocabulary would give: only the first merges."""
    model = json.loads(tokenizer.to_str())["model"]
    num_merges = vocab_size - len(SPECIAL_TOKENS) - len(pre_tokenizers.ByteLevel.alphabet())
    num_tokens = vocab_size - len(SPECIAL_TOKENS)
    smaller = Tokenizer(
        models.BPE(
            vocab={token: i for token, i in model["vocab"].items() if i < num_tokens},
            merges=[tuple(merge) for merge in model["merges"][:num_merges]],
        )
    )
    smaller.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    smaller.decoder = decoders.ByteLevel()
    return smaller


def train_tokenizer(
    text: Path, out: Path, report: Path, shards: Path, params: TokenizerParams, context_length: int, work: Path
) -> dict[str, Any]:
    """Train on the train split, check and describe on held-out documents, write the train split as shards."""
    steps = FinishedSteps(work / "steps")
    steps.fill("merges", partial(save_bpe, text / "train.jsonl", params.scratch))
    tokenizer = Tokenizer.from_file(str(steps.folder("merges") / BPE_FILE))
    fast = chat_tokenizer(tokenizer, context_length)
    fast.save_pretrained(out)
    summary = steps.fill("report", partial(save_report, fast, tokenizer, text, params.scratch.curve_vocab_sizes))
    steps.copy("report", report)
    packed = write_shards(fast, text / "train.jsonl", shards, params.shard_tokens, steps)
    return {key: value for key, value in summary.items() if not isinstance(value, list)} | packed


def save_bpe(text: Path, params: ScratchTokenizerParams, target: Path) -> dict[str, int]:
    if next(read_jsonl(text), None) is None:
        raise ValueError(f"{text} is empty, so there is nothing to learn a vocabulary from; add text")
    texts = (row["text"] for row in read_jsonl(text, ("text",)))
    tokenizer = train_bpe(texts, params.vocab_size, params.min_frequency)
    tokenizer.save(str(target / BPE_FILE))
    return {"vocab_size": tokenizer.get_vocab_size()}


def save_report(
    fast: PreTrainedTokenizerFast, tokenizer: Tokenizer, text: Path, curve_sizes: list[int], target: Path
) -> dict[str, Any]:
    rows = held_out_documents(text)
    summary = describe(fast, tokenizer, rows, curve_sizes)
    write_json(target / "report.json", summary)
    write_text(target / "report.md", _markdown(summary))
    if summary["num_round_trip_failures"]:
        raise ValueError(
            f"tokenizer: {summary['num_round_trip_failures']} held-out documents do not decode to themselves; a "
            "byte-level tokenizer must, so look for a normalizer or decoder that changes text"
        )
    return summary


def held_out_documents(text: Path) -> dict[str, list[Row]]:
    """By split; ValueError if val has none."""
    rows = {split: list(read_jsonl(text / f"{split}.jsonl", ("text", "source"))) for split in MEASURED}
    if not any(row["text"].strip() for row in rows["val"]):
        raise ValueError(
            f"{text}: val.jsonl holds no document to measure the tokenizer on; raise prepare.splits.val or add text, "
            "then run prepare again"
        )
    return rows


def describe(
    fast: PreTrainedTokenizerFast, tokenizer: Tokenizer, rows: dict[str, list[Row]], curve_sizes: list[int]
) -> dict[str, Any]:
    """Figures of val and, if it has documents, of test; rows: the documents of each split.

    The vocab-size curve is on val, because a vocabulary is chosen by it.
    """
    texts = [row["text"] for row in rows["val"]]
    num_bytes = sum(len(text.encode()) for text in texts)
    summary: dict[str, Any] = {"vocab_size": len(fast), "num_round_trip_failures": 0}
    for split, prefix in MEASURED.items():
        summary[f"num_documents_{split}"] = len(rows[split])
        if any(row["text"] for row in rows[split]):
            figures, failures = compression(fast, rows[split], lambda text, ids: fast.decode(ids) == text)
            summary |= {f"{prefix}_{name}": value for name, value in figures.items()}
            summary["num_round_trip_failures"] += failures
    return summary | {
        "vocab_size_curve": [
            {
                "vocab_size": size,
                "val_bytes_per_token": round(num_bytes / _count(truncated_bpe(tokenizer, size), texts), 4),
            }
            for size in curve_sizes
        ],
        "longest_tokens": sorted(
            (fast.decode([i]) for i in range(len(fast) - len(SPECIAL_TOKENS))), key=lambda token: (-len(token), token)
        )[:20],
    }


def compression(
    fast: PreTrainedTokenizerFast, rows: list[Row], reads_back: Callable[[str, list[int]], bool]
) -> tuple[dict[str, Any], int]:
    """(bytes per token, also by domain, words per token and unused tokens; documents that fail the round trip)."""
    used: set[int] = set()
    num_bytes: dict[str, int] = {}
    num_tokens: dict[str, int] = {}
    num_words = failures = 0
    for row in rows:
        ids = encode_text(fast, row["text"])
        failures += not reads_back(row["text"], ids)
        used.update(ids)
        source = row["source"]
        num_bytes[source] = num_bytes.get(source, 0) + len(row["text"].encode())
        num_tokens[source] = num_tokens.get(source, 0) + len(ids)
        num_words += len(row["text"].split())
    figures = {
        "bytes_per_token": round(sum(num_bytes.values()) / sum(num_tokens.values()), 4),
        "bytes_per_token_by_domain": {
            name: round(num_bytes[name] / num_tokens[name], 4) for name in sorted(num_bytes)
        },
        "words_per_token": round(num_words / sum(num_tokens.values()), 4),
        "num_unused_tokens": len(fast) - len(control_tokens(fast)) - len(used),
    }
    return figures, failures


def _count(tokenizer: Tokenizer, texts: list[str]) -> int:
    return sum(len(encoding.ids) for encoding in tokenizer.encode_batch_fast(texts))


def figures_table(summary: dict[str, Any]) -> str:
    """The figures of each measured split, as Markdown."""
    measured = [prefix for prefix in MEASURED.values() if f"{prefix}_bytes_per_token" in summary]
    splits = [split for split, prefix in MEASURED.items() if prefix in measured]
    domains = {name for prefix in measured for name in summary[f"{prefix}_bytes_per_token_by_domain"]}
    by_domain = {
        f"bytes per token, {name}": [
            _shown(summary[f"{prefix}_bytes_per_token_by_domain"].get(name)) for prefix in measured
        ]
        for name in sorted(domains)
    }
    rows = {
        "documents": [str(summary[f"num_documents_{split}"]) for split in splits],
        "bytes per token": [_shown(summary[f"{prefix}_bytes_per_token"]) for prefix in measured],
        **by_domain,
        "words per token": [_shown(summary[f"{prefix}_words_per_token"]) for prefix in measured],
        "tokens that do not occur": [str(summary[f"{prefix}_num_unused_tokens"]) for prefix in measured],
    }
    table = "\n".join(f"| {' | '.join([label, *cells])} |" for label, cells in rows.items())
    return f"| | {' | '.join(splits)} |\n|---|{'---:|' * len(splits)}\n{table}"


def _markdown(summary: dict[str, Any]) -> str:
    curve = "\n".join(
        f"| {point['vocab_size']} | {_shown(point['val_bytes_per_token'])} |" for point in summary["vocab_size_curve"]
    )
    longest = ", ".join(f"`{token}`" for token in summary["longest_tokens"])
    return f"""# Tokenizer

Byte-level BPE, {summary["vocab_size"]} tokens, special tokens included, trained on the train split.
{summary["num_round_trip_failures"]} held-out documents fail to decode to themselves.

{figures_table(summary)}

## Vocabulary size

| vocabulary | bytes per token of val documents |
|---|---|
{curve}

Longest tokens: {longest}
"""


def _shown(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.3f}"
