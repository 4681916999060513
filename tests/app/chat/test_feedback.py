"""Thumbs become preference pairs that prepare reads."""

import json
from pathlib import Path
from typing import Any

import pytest

from groundup.app.chat.feedback import SOURCE, import_feedback
from groundup.core.formats.jsonl import read_jsonl
from groundup.core.formats.records import Preference
from groundup.prepare.sources.rows import to_record

HELLO = [{"role": "user", "content": "Hello"}]


def thumb(reply: str, rating: str, beside: str | None = None, messages: Any = HELLO) -> dict[str, Any]:
    return {"messages": messages, "reply": reply, "rating": rating, "beside": beside}


def imported(tmp_path: Path, thumbs: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """(chosen, rejected) of all rows, in order."""
    log = tmp_path / "feedback.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in thumbs), encoding="utf-8")
    import_feedback(log, tmp_path / "out.jsonl")
    path = tmp_path / "out.jsonl"
    return sorted((row["chosen"], row["rejected"]) for row in read_jsonl(path)) if path.exists() else []


@pytest.mark.parametrize(
    ("thumbs", "expected"),
    [
        ([thumb("a", "up", "b")], [("a", "b")]),
        ([thumb("a", "down", "b")], [("b", "a")]),
        ([thumb("a", "up", "b"), thumb("b", "down", "a")], [("a", "b")]),
        ([thumb("a", "up", "b"), thumb("b", "up", "a")], []),
        ([thumb("a", "up"), thumb("b", "down")], [("a", "b")]),
        ([thumb("a", "up"), thumb("b", "up"), thumb("c", "down")], [("a", "c"), ("b", "c")]),
        ([thumb("a", "up", "b"), thumb("c", "up")], [("a", "b")]),
        ([thumb("a", "up"), thumb("a", "down"), thumb("b", "up")], [("b", "a")]),
        ([thumb("a", "up", "b"), thumb("a", "none", "b")], []),
        ([thumb("a", "up"), thumb("b", "down", messages=[{"role": "user", "content": "Bye"}])], []),
        ([thumb(" a\n", "up"), thumb("a", "down", "b")], [("b", "a")]),
        ([thumb("a", "up", "a")], []),
    ],
)
def test_what_is_preferred(tmp_path: Path, thumbs: list[dict[str, Any]], expected: list[tuple[str, str]]) -> None:
    assert imported(tmp_path, thumbs) == expected


def test_a_second_import_changes_nothing_and_new_thumbs_change_their_pair(tmp_path: Path) -> None:
    bye = [{"role": "user", "content": "Bye"}]
    assert imported(tmp_path, [thumb("a", "up", "b"), thumb("x", "up", "y", bye)]) == [("a", "b"), ("x", "y")]
    before = (tmp_path / "out.jsonl").read_bytes()
    imported(tmp_path, [thumb("a", "up", "b"), thumb("x", "up", "y", bye)])
    assert (tmp_path / "out.jsonl").read_bytes() == before
    assert imported(tmp_path, [thumb("b", "up", "a")]) == [("b", "a"), ("x", "y")]  # the log began again
    assert imported(tmp_path, [thumb("b", "none", "a")]) == [("x", "y")]


def test_rows_are_preferences_of_a_files_source(tmp_path: Path) -> None:
    prompt = [{"role": "system", "content": "Music"}, *HELLO, {"role": "assistant", "content": "Hi"}, *HELLO]
    imported(tmp_path, [thumb("good", "up", "bad", prompt)])
    (row,) = read_jsonl(tmp_path / "out.jsonl")
    record = to_record("feedback", "preferences", row, "text")
    assert isinstance(record, Preference)
    assert record.prompt == prompt
    assert (record.chosen, record.rejected) == (
        [{"role": "assistant", "content": "good"}],
        [{"role": "assistant", "content": "bad"}],
    )
    assert 'paths: ["feedback/preferences.jsonl"]' in SOURCE


def test_what_cannot_be_used_is_told_and_the_rest_is_taken(tmp_path: Path) -> None:
    log = tmp_path / "feedback.jsonl"
    odd_turns = [*HELLO, *HELLO]
    lines = [json.dumps(thumb("a", "up", "b")), "{cut off", "[]", json.dumps(thumb("a", "great"))]
    lines += [json.dumps(thumb("a", "up", "b", odd_turns)), json.dumps(thumb("alone", "up"))]
    log.write_text("\n".join(lines), encoding="utf-8")
    result = import_feedback(log, tmp_path / "out.jsonl")
    assert (result.num_prompts, result.num_ratings, result.num_pairs, result.num_rows) == (2, 3, 1, 1)
    assert result.num_unpaired == 2
    assert [f"line {number}" in problem for number, problem in zip((2, 3, 4), result.problems, strict=False)] == [
        True
    ] * 3
    assert "must take turns" in result.problems[3]
    assert len(result.problems) == 4


def test_without_feedback_the_remedy_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give thumbs on the page of `groundup serve` first"):
        import_feedback(tmp_path / "none.jsonl", tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()
