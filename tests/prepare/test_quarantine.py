import json
from pathlib import Path
from typing import Any

import pytest

from groundup.prepare.quarantine import Quarantine
from groundup.prepare.sources.rows import BadRow

NUM_SAMPLES = 3


def bad(line: int, reason: str = "not_json", sample: str = "junk") -> BadRow:
    return BadRow("data/a.jsonl", line, reason, f"problem {line}", sample)


@pytest.fixture
def quarantine(tmp_path: Path) -> Quarantine:
    return Quarantine("own", tmp_path / "q.jsonl", 0.25, NUM_SAMPLES)


def samples(quarantine: Quarantine) -> list[dict[str, Any]]:
    return [json.loads(line) for line in quarantine.path.read_text(encoding="utf-8").splitlines()]


def test_a_sample_is_shortened_and_holds_no_personal_data(quarantine: Quarantine) -> None:
    quarantine.add(bad(7, sample='{"text": "mail jane.doe@example.org\n' + "x" * 1000))
    (row,) = samples(quarantine)
    assert row == {
        "source": "own",
        "file": "data/a.jsonl",
        "line": 7,
        "reason": "not_json",
        "sample": ('{"text": "mail [EMAIL] / ' + "x" * 1000)[:157] + "...",
    }


def test_personal_data_at_the_cut_of_the_sample_is_replaced_as_a_whole(quarantine: Quarantine) -> None:
    quarantine.add(bad(1, sample="x" * 150 + " jane.doe@example.org"))
    assert "jane" not in str(samples(quarantine))


@pytest.mark.parametrize(
    ("sample", "kept"),
    [
        ('{"messages": [{"role": "bot", "name": "Ada"}]}', '{"messages": [{"role": "bot", "name": [NAME]}]}'),
        ('[{"name":"A \\"x\\" da", "content": "b"}]', '[{"name":[NAME], "content": "b"}]'),
        ("messages: [{'sender': 'Ada', 'text': 3}]", "messages: [{'sender': [NAME], 'text': 3}]"),
        ("{'name': \"O'Ada\"}", "{'name': [NAME]}"),
        ('{"sender": 4711, "text": 3}', '{"sender": [NAME], "text": 3}'),
        ('{"name": "Ada, and the sample ends', '{"name": [NAME]'),
        ('{"text": "my name is \'x\'"}', '{"text": "my name is \'x\'"}'),
    ],
)
def test_samples_and_problems_do_not_name_the_speakers(quarantine: Quarantine, sample: str, kept: str) -> None:
    quarantine.add(BadRow("data/a.jsonl", 1, "wrong_type", f"got {sample}", sample))
    assert samples(quarantine)[0]["sample"] == kept
    with pytest.raises(ValueError, match="source own") as error:
        quarantine.check(0)
    assert f"line 1: got {kept}" in str(error.value)


def test_all_are_counted_and_the_first_of_each_reason_kept(quarantine: Quarantine) -> None:
    for line in range(1, 3 * NUM_SAMPLES):
        quarantine.add(bad(line))
    quarantine.add(bad(999, reason="turns"))
    assert [row["line"] for row in samples(quarantine)] == [*range(1, NUM_SAMPLES + 1), 999]
    assert quarantine.to_json() == {"not_json": 3 * NUM_SAMPLES - 1, "turns": 1}


def test_more_than_the_share_is_an_error_with_place_and_remedy(quarantine: Quarantine) -> None:
    quarantine.add(bad(2))
    quarantine.check(3)
    quarantine.add(bad(5, reason="turns"))
    quarantine.check(6)
    with pytest.raises(ValueError, match="source own: 2 of 7 rows") as error:
        quarantine.check(5)
    assert str(error.value).split("\n") == [
        "source own: 2 of 7 rows read are bad, more than prepare.max_bad_row_fraction (0.25) allows:",
        "  1 not_json, the first: data/a.jsonl, line 2: problem 2",
        "  1 turns, the first: data/a.jsonl, line 5: problem 5",
        f"Correct or remove them ({quarantine.path} holds samples), or raise the share in params.yaml.",
    ]


def test_the_error_is_short_and_holds_no_personal_data(quarantine: Quarantine) -> None:
    for reason, problem in (
        ("missing_column", "no column 'text', only " + ", ".join(f"c{i}" for i in range(5000))),
        ("turns", "x" * 150 + " jane.doe@example.org"),
        ("wrong_type", "got {'role': 'bot', 'content': 'mail jane.doe@example.org now'}"),
    ):
        quarantine.add(BadRow("data/a.jsonl", 1, reason, problem, ""))
    with pytest.raises(ValueError, match="source own") as error:
        quarantine.check(0)
    assert "jane" not in str(error.value)
    assert "got {'role': 'bot', 'content': 'mail [EMAIL] now'}" in str(error.value)
    assert "only c0, c1, c2" in str(error.value)
    assert len(str(error.value)) < 1000
