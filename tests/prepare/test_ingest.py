"""The ingestion of a source: a clear outcome for every kind of bad data."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from groundup.prepare.clean.dedup import draw_permutations
from groundup.prepare.ingest import clean_source
from groundup.prepare.processes import Processes
from groundup.prepare.quarantine import HOPELESS
from tests.prepare.made_up import files_source, open_source, text_rows


def ingest(folder: Path, paths: str = "a.jsonl", **sections: Any) -> dict[str, Any]:
    (folder / "target").mkdir()
    reader = open_source(files_source("own", [paths], "text"), folder, **sections)
    permutations = draw_permutations(reader.params.dedup, reader.params.seed)
    with Processes(1) as processes:
        return clean_source(reader, permutations, processes, folder / "target")


def test_bad_rows_below_the_share_are_counted_and_the_rest_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = text_rows(40)
    rows[10:10] = ["{", '{"content": "x"}']
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    result = ingest(tmp_path)
    assert result["bad_rows"] == {"missing_column": 1, "not_json": 1}
    assert result["read"] == {"rows": 40, "characters": sum(len(json.loads(line)["text"]) for line in text_rows(40))}
    kept = sum(len(path.read_text().splitlines()) for path in (tmp_path / "target").glob("[jmtv]*.jsonl"))
    assert kept == 40
    samples = [json.loads(line) for line in (tmp_path / "target/quarantine.jsonl").read_text().splitlines()]
    assert [(row["line"], row["sample"]) for row in samples] == [(11, "{"), (12, '{"content": "x"}')]
    assert "2 bad rows of own dropped" in caplog.text


def test_the_file_holds_as_many_rows_of_a_reason_as_the_params_say(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join([*["junk"] * 5, *text_rows(40)]))
    assert ingest(tmp_path, quarantine_rows=2, max_bad_row_fraction=0.5)["bad_rows"] == {"not_json": 5}
    assert len((tmp_path / "target/quarantine.jsonl").read_text().splitlines()) == 2


def test_too_many_bad_rows_stop_the_stage(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join([*text_rows(40), *["junk"] * 5]))
    bad = r"(?s)source own: 5 of 45 rows read are bad.*data/a\.jsonl, line 41"
    with pytest.raises(ValueError, match=bad) as error:
        ingest(tmp_path)
    assert f"{tmp_path}/target/quarantine.jsonl holds samples" in str(error.value)


def test_a_source_without_one_good_row_is_given_up_early(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(random.Random(1).randbytes(2_000_000))
    with pytest.raises(ValueError, match=f"source own: {HOPELESS} of {HOPELESS} rows read are bad"):
        ingest(tmp_path)


def test_with_all_shares_allowed_nothing_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("junk\n" * (HOPELESS + 10) + text_rows(1)[0])
    assert ingest(tmp_path, max_bad_row_fraction=1.0)["bad_rows"] == {"not_json": HOPELESS + 10}


@pytest.mark.parametrize(("name", "content"), [("a.jsonl", ""), ("a.txt", ""), ("a.jsonl", "\n \n\n")])
def test_a_source_without_a_row_is_an_error(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=r"source own: data/\*\.\* has no rows: put data there, or remove"):
        ingest(tmp_path, "*.*")
