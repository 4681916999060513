"""Byte-level BPE: training, chat template, report, and the stage with its steps."""

import json
from collections.abc import Iterator
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
from groundup.core.formats.jsonl import read_jsonl
from groundup.core.formats.shards import write_shards
from groundup.runner.files import write_json, write_text
from groundup.runner.params.training import ScratchTokenizerParams, TokenizerParams
from groundup.runner.steps import FinishedSteps

BPE_FILE = "bpe.json"


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
    heldout = [row for split in ("val", "test") for row in read_jsonl(text / f"{split}.jsonl", ("text", "source"))]
    if not any(row["text"].strip() for row in heldout):
        raise ValueError(
            f"{text}: val.jsonl and test.jsonl hold no document to measure the tokenizer on; raise "
            "prepare.splits.val and prepare.splits.test or add text, then run prepare again"
        )
    summary = describe(fast, tokenizer, heldout, curve_sizes)
    write_json(target / "report.json", summary)
    write_text(target / "report.md", _markdown(summary))
    if summary["num_round_trip_failures"]:
        raise ValueError(
            f"tokenizer: {summary['num_round_trip_failures']} of {len(heldout)} held-out documents do not decode to "
            "themselves; a byte-level tokenizer must, so look for a normalizer or decoder that changes text"
        )
    return summary


def describe(
    fast: PreTrainedTokenizerFast, tokenizer: Tokenizer, heldout: list[dict[str, Any]], curve_sizes: list[int]
) -> dict[str, Any]:
    """Bytes per token by domain, words per token, unused tokens, failed round trips, the vocab-size curve."""
    used: set[int] = set()
    num_bytes: dict[str, int] = {}
    num_tokens: dict[str, int] = {}
    num_words = failures = 0
    for row in heldout:
        ids = encode_text(fast, row["text"])
        failures += fast.decode(ids) != row["text"]
        used.update(ids)
        source = row["source"]
        num_bytes[source] = num_bytes.get(source, 0) + len(row["text"].encode())
        num_tokens[source] = num_tokens.get(source, 0) + len(ids)
        num_words += len(row["text"].split())
    texts = [row["text"] for row in heldout]
    total_bytes, total_tokens = sum(num_bytes.values()), sum(num_tokens.values())
    curve = [
        {"vocab_size": size, "bytes_per_token": round(total_bytes / _count(truncated_bpe(tokenizer, size), texts), 4)}
        for size in curve_sizes
    ]
    return {
        "vocab_size": len(fast),
        "num_heldout_documents": len(heldout),
        "num_round_trip_failures": failures,
        "bytes_per_token": round(total_bytes / total_tokens, 4),
        "bytes_per_token_by_domain": {
            name: round(num_bytes[name] / num_tokens[name], 4) for name in sorted(num_bytes)
        },
        "words_per_token": round(num_words / total_tokens, 4),
        "num_unused_tokens": len(fast) - len(SPECIAL_TOKENS) - len(used),
        "vocab_size_curve": curve,
        "longest_tokens": sorted(
            (fast.decode([i]) for i in range(len(fast) - len(SPECIAL_TOKENS))), key=lambda token: (-len(token), token)
        )[:20],
    }


def _count(tokenizer: Tokenizer, texts: list[str]) -> int:
    return sum(len(encoding.ids) for encoding in tokenizer.encode_batch_fast(texts))


def _markdown(summary: dict[str, Any]) -> str:
    domains = "\n".join(f"| {name} | {value:.3f} |" for name, value in summary["bytes_per_token_by_domain"].items())
    curve = "\n".join(
        f"| {point['vocab_size']} | {point['bytes_per_token']:.3f} |" for point in summary["vocab_size_curve"]
    )
    longest = ", ".join(f"`{token}`" for token in summary["longest_tokens"])
    return f"""# Tokenizer

Byte-level BPE, {summary["vocab_size"]} tokens, special tokens included. Figures are on
{summary["num_heldout_documents"]} held-out documents (val and test);
{summary["num_round_trip_failures"]} of them fail to decode to themselves.

- bytes per token: {summary["bytes_per_token"]:.3f}
- words per token: {summary["words_per_token"]:.3f}
- tokens that never occur in held-out text: {summary["num_unused_tokens"]}

| domain | bytes per token |
|---|---|
{domains}

## Vocabulary size

| vocabulary | bytes per token |
|---|---|
{curve}

Longest tokens: {longest}
"""
