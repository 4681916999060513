"""Inputs of pretraining."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from groundup.core.formats.jsonl import write_jsonl
from groundup.core.formats.shards import write_shards
from groundup.runner.steps import FinishedSteps
from tests.conftest import SENTENCES


def write_inputs(folder: Path, tokenizer: PreTrainedTokenizerFast) -> dict[str, Path]:
    tokenizer.save_pretrained(folder / "tokenizer")
    for split, repeats in (("train", 8), ("val", 1)):
        write_jsonl(folder / f"text/{split}.jsonl", ({"text": text, "source": "a"} for text in SENTENCES * repeats))
    steps = FinishedSteps(folder / "steps")
    write_shards(tokenizer, folder / "text/train.jsonl", folder / "shards", 10**6, steps)
    return {"tokenizer": folder / "tokenizer", "shards": folder / "shards", "text": folder / "text"}


@pytest.fixture(scope="package")
def inputs(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_inputs(tmp_path_factory.mktemp("inputs"), tiny_tokenizer)
