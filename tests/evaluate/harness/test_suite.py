from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.evaluate.harness import suite as module
from groundup.evaluate.harness.named import NamedTasks
from groundup.evaluate.harness.suite import Suite
from groundup.runner.steps import FinishedSteps
from tests.evaluate.judging import PARAMS

DOCUMENTS = [{"text": f"The sea is warm {i}", "source": "towns"} for i in range(5)]
QUERY = [{"role": "user", "content": "Do you like music?"}]
TASKS = {
    "topic": [
        {"query": QUERY, "choices": ["yes", "no"], "gold": 0, "group_id": "a"},
        {"query": QUERY, "choices": ["yes", "no", "why", "the sea"], "gold": 1, "group_id": "b"},
        {"query": QUERY, "choices": ["yes", "no", "why", "the sea"], "gold": 2, "group_id": "c"},
    ]
}


def suite(work: Path, tokenizer: PreTrainedTokenizerFast) -> Suite:
    return Suite(DOCUMENTS, TASKS, NamedTasks([], 1), tokenizer, 128, FinishedSteps(work), PARAMS)


def test_guessing_is_right_once_in_as_many_choices_as_an_item_has(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    assert suite(tmp_path, tiny_tokenizer).chance == {"topic_chance": pytest.approx((1 / 2 + 1 / 4 + 1 / 4) / 3)}


def test_the_untrained_model_is_the_same_whatever_was_drawn_before(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(suite(tmp_path / str(seed), tiny_tokenizer).untrained_scores(tiny_model))
    assert found[0] == found[1]
    assert found[0] != suite(tmp_path / "model", tiny_tokenizer).model_scores("untrained", tiny_model)


def test_the_untrained_model_is_measured_on_fewer_items(
    tiny_model: LlamaForCausalLM,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    for name in ("text_result", "choice_result"):
        measure = getattr(module, name)

        def counted(lm: Any, task: Any, items: list[int], measure: Any = measure) -> Any:
            asked.append(len(items))
            return measure(lm, task, items)

        monkeypatch.setattr(module, name, counted)
    scored = suite(tmp_path, tiny_tokenizer)
    scored.model_scores("base", tiny_model)
    scored.untrained_scores(tiny_model)
    assert asked == [5, 3, 2, 2]
