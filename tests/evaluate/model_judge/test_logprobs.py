from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from groundup.core.model.likelihood import Stretch
from groundup.core.model.llama import load_causal_lm
from groundup.evaluate.model_judge import logprobs
from groundup.evaluate.model_judge.logprobs import in_batches, share_prompts
from tests.evaluate.model_judge.folders import opened, save
from tests.families import family_model

ASKED = [
    Stretch([1, 2, 3, 4], 2),
    Stretch([5, 6], 1),
    Stretch([1, 2, 3, 4], 2),
    Stretch([7, 8, 9], 1),
    Stretch([5, 7], 1),
]


@pytest.fixture
def folder(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    save(tmp_path / "model", tiny_tokenizer)
    return tmp_path / "model"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[int, int]]]:
    """Of each forward pass, the tokens of each row's prompt and its number of replies."""
    passes: list[list[tuple[int, int]]] = []
    compute = logprobs.logprobs

    def counting(model: Any, batch: Any) -> Any:
        passes.append([(len(row.prompt), len(row.replies)) for row in batch])
        return compute(model, batch)

    monkeypatch.setattr(logprobs, "logprobs", counting)
    return passes


def test_what_is_kept_costs_no_forward_pass_and_loads_no_model(
    folder: Path, tmp_path: Path, read: list[list[tuple[int, int]]]
) -> None:
    first = opened(folder, tmp_path / "kept.jsonl")
    found = first.of(ASKED)
    # The same stretch once, and two replies to [5] in one row; at most 3 replies in a pass.
    assert read == [[(2, 1), (2, 1)], [(1, 2)]]
    assert first.num_read == (2 + 1) + 2 + 1
    assert [len(values) for values in found] == [2, 1, 2, 1, 1]
    again = opened(folder, tmp_path / "kept.jsonl")
    for before, after in zip(found, again.of(ASKED), strict=True):
        np.testing.assert_array_equal(before, after)
    assert (len(read), again.num_read) == (2, 0)
    assert again.model is None
    again.of([Stretch([1, 2, 3, 4], 1)])  # the same tokens, another question
    assert read[2:] == [[(3, 1)]]


def test_another_model_answers_for_itself(folder: Path, tmp_path: Path, read: list[list[tuple[int, int]]]) -> None:
    opened(folder, tmp_path / "kept.jsonl").of(ASKED)
    (folder / "note.txt").write_text("another", encoding="utf-8")
    opened(folder, tmp_path / "kept.jsonl").of(ASKED)
    assert read[2:] == read[:2]


def test_a_line_that_a_killed_process_left_is_computed_again(
    folder: Path, tmp_path: Path, read: list[list[tuple[int, int]]], caplog: pytest.LogCaptureFixture
) -> None:
    kept = tmp_path / "kept.jsonl"
    found = opened(folder, kept).of(ASKED)
    kept.write_text(kept.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    again = opened(folder, kept).of(ASKED)
    assert "cannot be read" in caplog.text
    assert len(read) == 3
    for before, after in zip(found, again, strict=True):
        np.testing.assert_allclose(before, after, atol=2e-5)
    assert all(line.endswith("}") for line in kept.read_text(encoding="utf-8").splitlines()[-1:])
    opened(folder, kept).of(ASKED)
    assert len(read) == 3


def test_a_log_probability_that_is_no_number_is_an_error_and_not_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logprobs, "logprobs", lambda model, batch: [[float("nan")] for _ in batch])
    with pytest.raises(ValueError, match=r"\(evaluate.model_judge\) gives a reply a log-probability that is NaN"):
        opened(folder, tmp_path / "kept.jsonl").of([Stretch([5, 6], 1)])
    monkeypatch.undo()
    (found,) = opened(folder, tmp_path / "kept.jsonl").of([Stretch([5, 6], 1)])
    assert np.isfinite(found).all()


def test_replies_that_share_a_pass_score_as_each_alone(folder: Path, tmp_path: Path) -> None:
    prompt = [9, 8, 7, 6, 5]
    asked = [Stretch([*prompt, *reply], len(reply)) for reply in ([1, 2, 3], [4], [1, 2], [3, 3, 3, 3])]
    asked += [Stretch([9, 8, 7, 1], 1)]
    together = opened(folder, tmp_path / "kept.jsonl").of(asked)
    model = load_causal_lm(folder, torch.device("cpu")).requires_grad_(False)
    for stretch, found in zip(asked, together, strict=True):
        scores = model(torch.tensor([stretch.ids])).logits[0].log_softmax(-1)
        places = range(len(stretch.ids) - stretch.num_scored, len(stretch.ids))
        np.testing.assert_allclose(found, [float(scores[i - 1, stretch.ids[i]]) for i in places], atol=2e-5)


@pytest.mark.parametrize(
    ("family", "rows"),
    [
        ("gpt2", [(3, 3)]),
        ("qwen3", [(3, 3)]),
        ("gemma3", [(3, 1), (3, 1), (3, 1)]),
        ("mistral", [(3, 1), (3, 1), (3, 1)]),
    ],
)
def test_a_prompt_is_read_once_but_by_families_with_windows(
    family: str,
    rows: list[tuple[int, int]],
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    read: list[list[tuple[int, int]]],
) -> None:
    model = family_model(family, len(tiny_tokenizer)).eval().requires_grad_(False)
    model.save_pretrained(tmp_path / family)
    tiny_tokenizer.save_pretrained(tmp_path / family)
    asked = [Stretch([9, 8, 7, *reply], len(reply)) for reply in ([1, 2, 3], [4], [1, 2])]
    found = opened(tmp_path / family, tmp_path / "kept.jsonl").of(asked)
    assert read == [rows]
    for stretch, values in zip(asked, found, strict=True):
        scores = model(torch.tensor([stretch.ids])).logits[0].log_softmax(-1)
        np.testing.assert_allclose(
            values, [float(scores[i - 1, stretch.ids[i]]) for i in range(3, len(stretch.ids))], atol=2e-5
        )


def test_rows_hold_one_prompt_each_and_a_pass_no_more_replies_than_fit() -> None:
    asked = {f"{i}": Stretch([1, 2, i], 1) for i in range(5)} | {"long": Stretch([1, 2, 3, 4, 5], 1)}
    rows = share_prompts(asked, 2)
    assert [(row.prompt, row.replies, names) for row, names in rows] == [
        ([1, 2, 3, 4], [[5]], ["long"]),
        ([1, 2], [[0], [1]], ["0", "1"]),
        ([1, 2], [[2], [3]], ["2", "3"]),
        ([1, 2], [[4]], ["4"]),
    ]
    assert [[names for _, names in batch] for batch in in_batches(rows, 3)] == [
        [["long"], ["0", "1"]],
        [["2", "3"], ["4"]],
    ]
