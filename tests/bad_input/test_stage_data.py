"""Data that a later stage cannot use: empty, damaged, or too long for its params."""

from typing import Any

import pytest

from tests.bad_input.checkout import chat, evaluation_point, preference
from tests.bad_input.conftest import Case, Checkout, case_id, check_failure
from tests.bad_input.spoil import both, delete, edit_json, rows, set_param, truncate, write

FORCE = "`dvc checkout --force"


def data(path: str) -> str:
    return f"artifacts/data/{path}"


CASES = [
    Case(
        "a vocabulary larger than the text allows",
        "tokenizer",
        both(set_param("tokenizer.vocab_size", 4096), set_param("tokenizer.min_frequency", 2)),
        "is more than the text allows",
        "tokenizer.vocab_size 4096",
        "lower vocab_size or add text",
    ),
    Case(
        "no text to train a tokenizer on",
        "tokenizer",
        rows(data("text/train.jsonl"), []),
        "is empty",
        "artifacts/data/text/train.jsonl",
        "add text",
    ),
    Case(
        "no held-out text for the tokenizer",
        "tokenizer",
        both(rows(data("text/val.jsonl"), []), rows(data("text/test.jsonl"), [])),
        "hold no document to measure the tokenizer on",
        "val.jsonl and test.jsonl",
        "raise prepare.splits.val",
    ),
    Case(
        "a text file cut off",
        "tokenizer",
        truncate(data("text/train.jsonl"), 0.6),
        "is not JSON",
        "artifacts/data/text/train.jsonl, line",
        FORCE,
    ),
    Case(
        "a text file missing",
        "tokenizer",
        delete(data("text/val.jsonl")),
        "is missing",
        "artifacts/data/text/val.jsonl",
        FORCE,
    ),
    Case(
        "a text file in Latin-1",
        "tokenizer",
        write(data("text/train.jsonl"), b'{"text": "\xe9"}\n'),
        "is not UTF-8",
        "artifacts/data/text/train.jsonl",
        FORCE,
    ),
    Case(
        "a row that is a list",
        "sft",
        write(data("chats/train.jsonl"), "[1]\n"),
        "is not an object",
        "artifacts/data/chats/train.jsonl, line 1",
        FORCE,
    ),
    Case(
        "a row without its column",
        "sft",
        rows(data("chats/train.jsonl"), [{"id": "a"}]),
        "lacks messages",
        "artifacts/data/chats/train.jsonl, line 1",
        FORCE,
    ),
    Case(
        "no chats",
        "sft",
        rows(data("chats/train.jsonl"), []),
        "no chat is left to train on",
        "sft cannot train on these chats",
        "add chats or raise sft.max_length",
    ),
    Case(
        "no chat that fits",
        "sft",
        set_param("sft.max_length", 5),
        "no chat is left to train on",
        "sft cannot train on these chats",
        "raise sft.max_length",
    ),
    Case(
        "no val chats",
        "sft",
        rows(data("chats/val.jsonl"), []),
        "nothing to validate on",
        "sft: no val chat",
        "raise prepare.splits.val",
    ),
    Case(
        "chats nobody answers",
        "sft",
        rows(data("chats/train.jsonl"), [{"id": "a", "source": "a", "messages": chat("hello")}]),
        "no chat is left to train on",
        "sft cannot train",
        "add chats",
    ),
    Case(
        "an unknown role",
        "sft",
        rows(
            data("chats/train.jsonl"),
            [
                {
                    "id": "a",
                    "source": "a",
                    "messages": [{"role": "bot", "content": "x"}, {"role": "assistant", "content": "x"}],
                }
            ],
        ),
        "unknown role bot",
        "a chat cannot be rendered",
        "use system, user or assistant",
    ),
    Case(
        "a LoRA module that there is not",
        "sft",
        set_param("sft.lora", {"rank": 2, "alpha": 4.0, "dropout": 0.0, "target_modules": ["nothing"]}),
        "no layer is called nothing",
        "lora.target_modules",
        "use down_proj",
    ),
    Case(
        "no pairs",
        "reward",
        rows(data("preferences/train.jsonl"), []),
        "none of 0 preference pairs",
        "train.jsonl",
        "min_rating_gap",
    ),
    Case(
        "no test pairs",
        "reward",
        rows(data("preferences/test.jsonl"), []),
        "none of 0 preference pairs",
        "test.jsonl",
        "min_rating_gap",
    ),
    Case(
        "no pair that fits",
        "reward",
        set_param("reward.max_length", 4),
        "none of 8 preference pairs fits reward.max_length 4",
        "train.jsonl",
        "raise it",
    ),
    Case(
        "a pair without its margin",
        "reward",
        rows(data("preferences/train.jsonl"), [{k: v for k, v in preference("a").items() if k != "margin"}]),
        "lacks margin",
        "artifacts/data/preferences/train.jsonl, line 1",
        FORCE,
    ),
    Case(
        "a pair without its kind",
        "reward",
        rows(data("preferences/train.jsonl"), [{k: v for k, v in preference("a").items() if k != "kind"}]),
        "lacks kind",
        "artifacts/data/preferences/train.jsonl, line 1",
        FORCE,
    ),
    Case(
        "a pair of an unknown kind",
        "reward",
        rows(data("preferences/val.jsonl"), [preference("a") | {"kind": "guess"}]),
        "kind 'guess' is none of rating, given, relevance",
        "artifacts/data/preferences/val.jsonl, line 1",
        FORCE,
    ),
    Case(
        "relevance pairs alone, which are left out",
        "reward",
        both(
            rows(data("preferences/train.jsonl"), [preference("a") | {"kind": "relevance"}] * 8),
            set_param("reward.relevance_weight", 0.0),
            set_param("reward.sampled.weight", 0.0),
        ),
        "no training pairs but relevance pairs",
        "reward.relevance_weight is 0",
        "raise it",
    ),
    Case(
        "no prompt short enough",
        "align",
        set_param("align.rollout.max_prompt_tokens", 2),
        "none of its 8 prompts has at most 2 tokens",
        "train.jsonl",
        "raise align.rollout.max_prompt_tokens",
    ),
    Case(
        "no prompts", "align", rows(data("prompts/val.jsonl"), []), "none of its 0 prompts", "val.jsonl", "add chats"
    ),
    Case(
        "a context that the model lacks",
        "align",
        edit_json("artifacts/sft/config.json", max_position_embeddings=32),
        "above the SFT model's context of 32 tokens",
        "align.rollout.max_prompt_tokens + align.rollout.max_new_tokens",
        "lower one of them",
    ),
    Case(
        "no test prompts",
        "evaluate",
        rows(data("prompts/test.jsonl"), []),
        "is empty",
        "artifacts/data/prompts/test.jsonl",
        "raise prepare.splits.test",
    ),
    Case(
        "no test documents",
        "evaluate",
        rows(data("text/test.jsonl"), []),
        "is empty",
        "artifacts/data/text/test.jsonl",
        "raise prepare.splits.test",
    ),
    Case(
        "a task without items",
        "evaluate",
        rows(data("evaluation/topic.jsonl"), []),
        "no items",
        "evaluation task topic",
        "Correct its file",
    ),
    Case(
        "an item whose gold is no choice",
        "evaluate",
        rows(
            data("evaluation/topic.jsonl"), [{"query": chat("a"), "choices": ["a", "b"], "gold": 7, "group_id": "g"}]
        ),
        "gold 7 is not one of the 2 choices",
        "evaluation task topic cannot be scored:\n  item 0",
        "Correct its file",
    ),
    Case(
        "evaluation points of other prompts",
        "evaluate",
        rows(
            "artifacts/reports/align/evaluation_points.jsonl",
            [{**evaluation_point(0), "prompt": 7}, evaluation_point(1)],
        ),
        "the same prompts at every iteration",
        "evaluation_points.jsonl",
        "`dvc repro align`",
    ),
    Case(
        "a curve with conflict markers",
        "evaluate",
        write("metrics/sft.csv", "step,loss\n<<<<<<< HEAD\n1,2\n"),
        "'<<<<<<< HEAD'",
        "metrics/sft.csv, line 2",
        "delete the file, then `dvc repro`",
    ),
    Case(
        "a curve of words",
        "evaluate",
        write("metrics/sft.csv", "step,loss\n1,high\n"),
        "'1,high'",
        "metrics/sft.csv, line 2",
        "`dvc repro` writes it again",
    ),
    Case(
        "a curve missing",
        "evaluate",
        delete("metrics/sft.csv"),
        "do not exist",
        "metrics/sft.csv",
        "`dvc repro evaluate`",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_it_is_said_and_nothing_is_lost(
    case: Case, checkout: Checkout, monkeypatch: pytest.MonkeyPatch, record_property: Any
) -> None:
    record_property("bad_input", "data")
    check_failure(case, checkout, monkeypatch)
