"""How many tokens documents, chats and prompts have: counted on some of them, or as in the default run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from groundup.core.formats.jsonl import read_jsonl
from groundup.runner.base import models_folder
from groundup.runner.params import Params

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

NUM_COUNTED = 200  # rows of each kind, evenly spread over the val split


@dataclass(frozen=True)
class Lengths:
    """Mean numbers of tokens; the defaults are those of the default run."""

    document: float = 357
    example: float = 303  # per chat in SFT, over all its pieces
    rated: float = 96  # per side of a pair of rated or given replies
    relevance: float = 79  # per side of such a pair
    prompt: float = 55
    reply_share: float = 0.365  # of align.rollout.max_new_tokens, used by the average reply
    longest_side: int | None = None  # of a pair; None: reward.max_length
    bytes_per_token: float | None = None  # None: as the tokenizer stage counted it


DEFAULT = Lengths()


def counted_lengths(root: Path, params: Params) -> Lengths:
    """With the tokenizer of model.base, on the data of the last prepare; DEFAULT without a base or without data."""
    data = root / "artifacts/data"
    if params.model.base is None or not data.is_dir():
        return DEFAULT
    from groundup.core.formats.adopted import GROUNDUP, adopt_tokenizer

    template = GROUNDUP if params.model.chat_template == GROUNDUP else None
    return count_lengths(adopt_tokenizer(models_folder(root) / params.model.base, template).tokenizer, data, params)


def count_lengths(tokenizer: "PreTrainedTokenizerFast", data: Path, params: Params) -> Lengths:
    from groundup.core.formats.chat_format import encode_text, render
    from groundup.sft.chat_examples import split_chat

    texts, chats, pairs, prompts = (
        some_rows(data / f"{kind}/val.jsonl") for kind in ("text", "chats", "preferences", "prompts")
    )
    documents = [len(encode_text(tokenizer, row["text"])) for row in texts]
    examples = [
        sum(len(render(tokenizer, piece, reply_next=False)) for piece in pieces)
        for pieces, _ in (split_chat(tokenizer, row["messages"], params.sft.max_length) for row in chats)
    ]
    sides: dict[bool, list[int]] = {True: [], False: []}
    for row in pairs:
        lengths = [len(render(tokenizer, row[side], reply_next=False)) for side in ("chosen", "rejected")]
        if max(lengths) <= params.reward.max_length:
            sides[row["kind"] == "relevance"] += lengths
    asked = [len(render(tokenizer, row["messages"], reply_next=True)) for row in prompts]
    limit = params.align.rollout.max_new_tokens
    replies = [min(limit, len(encode_text(tokenizer, row["reply"])) + 1) for row in prompts if row["reply"]]
    num_bytes = sum(len(row["text"].encode("utf-8")) for row in texts)
    return Lengths(
        document=_mean(documents, DEFAULT.document),
        example=_mean(examples, DEFAULT.example),
        rated=_mean(sides[False], DEFAULT.rated),
        relevance=_mean(sides[True], DEFAULT.relevance),
        prompt=_mean([n for n in asked if n <= params.align.rollout.max_prompt_tokens], DEFAULT.prompt),
        reply_share=_mean(replies, DEFAULT.reply_share * limit) / limit,
        longest_side=max(sides[True] + sides[False], default=None),
        bytes_per_token=num_bytes / sum(documents) if sum(documents) else None,
    )


def some_rows(path: Path) -> list[dict[str, Any]]:
    rows = list(read_jsonl(path)) if path.is_file() else []
    return rows[:: max(1, len(rows) // NUM_COUNTED)]


def _mean(numbers: Sequence[float], otherwise: float) -> float:
    return mean(numbers) if numbers else otherwise
