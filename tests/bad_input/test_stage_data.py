"""Data that a later stage cannot use: empty, damaged, or too long for its params."""

import pytest

from tests.bad_input.checkout import chat, preference
from tests.bad_input.conftest import Case, each_fails_clearly
from tests.bad_input.spoil import (
    Spoil,
    both,
    delete,
    edit_json,
    edit_row,
    rows,
    set_param,
    set_params,
    truncate,
    write,
)

pytestmark = pytest.mark.tried("bad input", "data")

FORCE = "`dvc checkout --force"


def data(path: str) -> str:
    return f"artifacts/data/{path}"


def one_chat(messages: list[dict[str, str]]) -> Spoil:
    return rows(data("chats/train.jsonl"), [{"id": "a", "source": "a", "messages": messages}])


def pair_without(key: str) -> Spoil:
    return rows(data("preferences/train.jsonl"), [{k: v for k, v in preference("a").items() if k != key}])


CASES = [
    Case("a vocabulary larger than the text allows", "tokenizer",
         set_params({"tokenizer.scratch.vocab_size": 4096, "tokenizer.scratch.min_frequency": 2}),
         "is more than the text allows | tokenizer.scratch.vocab_size 4096 | lower it or add text"),
    Case("no text to train a tokenizer on", "tokenizer", rows(data("text/train.jsonl"), []),
         "tokenizer has no text for train | add a source that yields text"),
    Case("no val text for the tokenizer", "tokenizer", rows(data("text/val.jsonl"), []),
         "tokenizer has no text for val | raise prepare.splits.val | `dvc repro prepare`"),
    Case("a text file cut off", "tokenizer", truncate(data("text/train.jsonl"), 0.6),
         f"is not JSON | artifacts/data/text/train.jsonl, line | {FORCE}"),
    Case("a text file missing", "tokenizer", delete(data("text/val.jsonl")),
         f"is missing | artifacts/data/text/val.jsonl | {FORCE}"),
    Case("a text file in Latin-1", "tokenizer", write(data("text/train.jsonl"), b'{"text": "\xe9"}\n'),
         f"is not UTF-8 | artifacts/data/text/train.jsonl | {FORCE}"),
    Case("a row that is a list", "sft", write(data("chats/train.jsonl"), "[1]\n"),
         f"is not an object | artifacts/data/chats/train.jsonl, line 1 | {FORCE}"),
    Case("a row without its column", "sft", rows(data("chats/train.jsonl"), [{"id": "a"}]),
         f"lacks messages | artifacts/data/chats/train.jsonl, line 1 | {FORCE}"),
    Case("no chats", "sft", rows(data("chats/train.jsonl"), []),
         "sft has no chats for train | prepare.sources in params.yaml | `dvc repro pretrain`"),
    Case("no chat that fits", "sft", set_param("sft.max_length", 5),
         "no chat is left to train on | sft cannot train on these chats | raise sft.max_length"),
    Case("no val chats", "sft", rows(data("chats/val.jsonl"), []),
         "sft has no chats for val | raise prepare.splits.val | `dvc repro pretrain`"),
    Case("no val chat that fits", "sft", rows(data("chats/val.jsonl"), [{"messages": chat("so " * 999, "yes")}]),
         "no val chat fits sft.max_length | nothing to validate on | raise prepare.splits.val"),
    Case("chats nobody answers", "sft", one_chat(chat("hello")),
         "no chat is left to train on | sft cannot train | add chats"),
    Case("an unknown role", "sft", one_chat([{"role": "bot", "content": "x"}, *chat("a", "x")[1:]]),
         "unknown role bot | a chat cannot be rendered | use system, user or assistant"),
    Case("a LoRA module that there is not", "sft",
         set_param("sft.lora", {"rank": 2, "alpha": 4.0, "dropout": 0.0, "target_modules": ["nothing"]}),
         "no layer is called nothing | lora.target_modules | use down_proj"),
    Case("no pairs", "reward", both(rows(data("preferences/train.jsonl"), []), rows(data("prompts/train.jsonl"), [])),
         "reward has no pairs of replies for train | that yields chats or preferences | `dvc repro sft`"),
    Case("no test pairs", "reward", both(
        rows(data("preferences/test.jsonl"), []), rows(data("prompts/test.jsonl"), [])
    ), "reward has no pairs of replies for test | raise prepare.splits.test | `dvc repro sft`"),
    Case("no test pairs but sampled ones, which are left out", "reward", both(
        rows(data("preferences/test.jsonl"), []), set_param("reward.sampled.weight", 0.0)
    ), "no pair of test can be used | reward: | raise reward.sampled.weight"),
    Case("no pair that fits", "reward", set_param("reward.max_length", 4),
         "none of 8 preference pairs fits reward.max_length 4 | train.jsonl | raise it"),
    Case("a pair without its margin", "reward", pair_without("margin"),
         f"lacks margin | artifacts/data/preferences/train.jsonl, line 1 | {FORCE}"),
    Case("a pair without its kind", "reward", pair_without("kind"),
         f"lacks kind | artifacts/data/preferences/train.jsonl, line 1 | {FORCE}"),
    Case("a pair of an unknown kind", "reward",
         rows(data("preferences/val.jsonl"), [preference("a") | {"kind": "guess"}]),
         f"kind 'guess' is not one of rating, given | artifacts/data/preferences/val.jsonl, line 1 | {FORCE}"),
    Case("relevance pairs alone, which are left out", "reward", both(
        rows(data("preferences/train.jsonl"), [preference("a") | {"kind": "relevance"}] * 8),
        set_params({"reward.relevance_weight": 0.0, "reward.sampled.weight": 0.0}),
    ), "all training pairs are relevance pairs | reward.relevance_weight is 0 | raise it"),
    Case("no prompt short enough", "align", set_param("align.rollout.max_prompt_tokens", 2),
         "none of its 8 prompts has at most 2 tokens | train.jsonl | raise align.rollout.max_prompt_tokens"),
    Case("no prompts", "align", rows(data("prompts/val.jsonl"), []),
         "align has no prompts for val | raise prepare.splits.val | `dvc repro reward`"),
    Case("a context that the model lacks", "align", edit_json("artifacts/sft/config.json", max_position_embeddings=32),
         "above the SFT model's context of 32 tokens | + align.rollout.max_new_tokens | lower one of them"),
    Case("no test prompts", "evaluate", rows(data("prompts/test.jsonl"), []),
         "evaluate has no prompts for test | raise prepare.splits.test | `dvc repro align`"),
    Case("no test documents", "evaluate", rows(data("text/test.jsonl"), []),
         "evaluate has no text for test | raise prepare.splits.test | `dvc repro align`"),
    Case("an item whose gold is no choice", "evaluate",
         edit_row(data("evaluation/topic.jsonl"), gold=7),
         "gold 7 is not one of the 2 choices | evaluation task topic cannot be scored:\n  item 0 | "
         "`dvc repro -f prepare`"),
    Case("evaluation points of other prompts", "evaluate",
         edit_row("artifacts/reports/align/evaluation_points.jsonl", prompt=7),
         "the same prompts at every iteration | evaluation_points.jsonl | `dvc repro align`"),
    Case("no evaluation points", "evaluate", delete("artifacts/reports/align/evaluation_points.jsonl"),
         "do not exist | artifacts/reports/align/evaluation_points.jsonl | `dvc repro evaluate`"),
]  # fmt: skip

test_it_is_said_and_nothing_is_lost = each_fails_clearly(CASES)
