from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from groundup.core.model.likelihood import Stretch
from groundup.evaluate.model_judge import logprobs
from tests.evaluate.model_judge.folders import opened, save

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
def rows_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of each forward pass."""
    rows: list[int] = []
    compute = logprobs.scored_logprobs

    def counting(model: Any, batch: Any) -> Any:
        rows.append(len(batch))
        return compute(model, batch)

    monkeypatch.setattr(logprobs, "scored_logprobs", counting)
    return rows


def test_what_is_kept_costs_no_forward_pass_and_loads_no_model(
    folder: Path, tmp_path: Path, rows_read: list[int]
) -> None:
    first = opened(folder, tmp_path / "kept.jsonl")
    found = first.of(ASKED)
    assert rows_read == [3, 1]  # the same stretch once
    assert [len(values) for values in found] == [2, 1, 2, 1, 1]
    again = opened(folder, tmp_path / "kept.jsonl")
    for before, after in zip(found, again.of(ASKED), strict=True):
        np.testing.assert_array_equal(before, after)
    assert rows_read == [3, 1]
    assert again.model is None
    again.of([Stretch([1, 2, 3, 4], 1)])  # the same tokens, another question
    assert rows_read == [3, 1, 1]


def test_another_model_answers_for_itself(folder: Path, tmp_path: Path, rows_read: list[int]) -> None:
    opened(folder, tmp_path / "kept.jsonl").of(ASKED)
    (folder / "note.txt").write_text("another", encoding="utf-8")
    opened(folder, tmp_path / "kept.jsonl").of(ASKED)
    assert rows_read == [3, 1, 3, 1]


def test_a_line_that_a_killed_process_left_is_computed_again(
    folder: Path, tmp_path: Path, rows_read: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    kept = tmp_path / "kept.jsonl"
    found = opened(folder, kept).of(ASKED)
    kept.write_text(kept.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    again = opened(folder, kept).of(ASKED)
    assert "cannot be read" in caplog.text
    assert rows_read == [3, 1, 1]
    for before, after in zip(found, again, strict=True):
        np.testing.assert_allclose(before, after, atol=2e-5)
    assert all(line.endswith("}") for line in kept.read_text(encoding="utf-8").splitlines()[-1:])
    opened(folder, kept).of(ASKED)
    assert rows_read == [3, 1, 1]


def test_a_log_probability_that_is_no_number_is_an_error_and_not_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logprobs, "scored_logprobs", lambda model, batch: [[float("nan")] for _ in batch])
    with pytest.raises(ValueError, match=r"\(evaluate.model_judge\) gives a reply a log-probability that is NaN"):
        opened(folder, tmp_path / "kept.jsonl").of([Stretch([5, 6], 1)])
    monkeypatch.undo()
    (found,) = opened(folder, tmp_path / "kept.jsonl").of([Stretch([5, 6], 1)])
    assert np.isfinite(found).all()


def test_a_model_that_returns_all_positions_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = opened(folder, tmp_path / "kept.jsonl")
    model = answers.folder.load(answers.device)
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda ids, use_cache, logits_to_keep: forward(ids, use_cache=use_cache))
    answers.model = model
    with pytest.raises(ValueError, match="ignores logits_to_keep"):
        answers.of([Stretch([1, 2, 3, 4], 1)])
