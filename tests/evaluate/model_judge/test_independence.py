"""Which judge is called independent of which models."""

import copy
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from groundup.evaluate.model_judge.folder import ModelFolder
from groundup.evaluate.model_judge.independence import SHARED, independence
from groundup.runner.base import Base
from groundup.runner.files import digest_path, hash_file
from groundup.tokenizer.tokenizer import chat_tokenizer, train_bpe
from tests.conftest import SENTENCES
from tests.evaluate.model_judge.folders import judge_params, save


@pytest.fixture
def judge(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> ModelFolder:
    save(tmp_path / "judge", tiny_tokenizer)
    return ModelFolder.check(tmp_path / "judge", judge_params(digest_path(tmp_path / "judge")))


def base(digest: str) -> Base:
    return Base(
        name="own",
        source="own",
        revision="1",
        licence="MIT",
        licence_accepted=False,
        files={"model.safetensors": digest, "config.json": "c"},
    )


@pytest.fixture
def other_tokenizer() -> PreTrainedTokenizerFast:
    return chat_tokenizer(train_bpe(iter(SENTENCES[1:]), vocab_size=290, min_frequency=1), context_length=128)


@pytest.fixture
def policy(other_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> dict[str, Path]:
    for number, name in enumerate(("base", "sft")):
        torch.manual_seed(number)
        save(tmp_path / name, other_tokenizer)
    return {name: tmp_path / name for name in ("base", "sft")}


def test_neither_weights_nor_vocabulary_in_common(
    judge: ModelFolder, policy: dict[str, Path], other_tokenizer: PreTrainedTokenizerFast
) -> None:
    assert str(independence(judge, policy, other_tokenizer, None)) == (
        "It is independent of the models it judges: they were made from random weights, and neither weights "
        "nor vocabulary are its own."
    )
    assert "made from own (base.lock)" in str(independence(judge, policy, other_tokenizer, base("0" * 64)))


def test_the_base_of_the_policy_is_no_independent_judge(
    judge: ModelFolder, policy: dict[str, Path], other_tokenizer: PreTrainedTokenizerFast
) -> None:
    """Although its vocabulary differs: a file of its weights decides."""
    found = independence(judge, policy, other_tokenizer, base(hash_file(judge.path / "model.safetensors")))
    assert str(found) == (
        "It is not independent of the models it judges: its weights are those of own, which they were made from "
        "(base.lock)."
    )


def test_a_model_of_the_run_is_no_independent_judge(judge: ModelFolder, policy: dict[str, Path]) -> None:
    models = policy | {"aligned": judge.path}
    found = independence(judge, models, judge.tokenizer, None)
    assert (found.kind, found.reason) == (SHARED, "its weights are those of the aligned model")


def test_other_weights_of_the_same_vocabulary_are_not_shown_to_be_independent(
    judge: ModelFolder, policy: dict[str, Path]
) -> None:
    """Such as the same model in another precision; the policy's tokenizer may have more tokens."""
    more = copy.deepcopy(judge.tokenizer)
    more.add_tokens(["<|more|>"])
    for tokenizer in (judge.tokenizer, more):
        found = independence(judge, policy, tokenizer, None)
        assert str(found).startswith("It is not shown to be independent of the models it judges: they were made from ")
        assert "it has the same vocabulary, so both may come from one model" in found.reason
