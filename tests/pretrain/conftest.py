"""Inputs of pretraining."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from groundup.core.formats.jsonl import write_jsonl
from groundup.core.formats.shards import write_shards
from groundup.runner.steps import FinishedSteps
from tests.conftest import SENTENCES


@pytest.fixture
def inputs(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> dict[str, Path]:
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    for split, repeats in (("train", 8), ("val", 1)):
        write_jsonl(tmp_path / f"text/{split}.jsonl", ({"text": text, "source": "a"} for text in SENTENCES * repeats))
    steps = FinishedSteps(tmp_path / "steps")
    write_shards(tiny_tokenizer, tmp_path / "text/train.jsonl", tmp_path / "shards", 10**6, steps)
    return {"tokenizer": tmp_path / "tokenizer", "shards": tmp_path / "shards", "text": tmp_path / "text"}
