"""The examples of README.md and data/README.md, run as written."""

import gzip
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from groundup.core.formats.jsonl import read_jsonl
from tests.contract.imports import ROOT
from tests.prepare.made_up import make_params, sentence, text_rows
from tests.prepare.test_prepare import run


def documented_sources(page: str) -> dict[str, dict[str, Any]]:
    """The sources of all YAML examples of a page by name: whole files or items of the list."""
    found = []
    for block in re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL):
        if "kind:" in block:
            value = YAML(typ="safe", pure=True).load(block)
            found += value if isinstance(value, list) else value["prepare"]["sources"]
    return {source["name"]: source for source in found}


def test_every_example_is_found() -> None:
    assert list(documented_sources("README.md")) == ["notes"]
    assert list(documented_sources("data/README.md")) == ["diary", "stories"]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """The files that the examples name: diary/*.txt, letters.jsonl.gz, notes/*.md and a dataset folder."""
    rng = random.Random(1)
    for name in ("diary", "notes", "owner/name"):
        (tmp_path / "data" / name).mkdir(parents=True)
    rows = text_rows(120, seed=2)
    for season in ("spring", "autumn"):
        (tmp_path / f"data/diary/{season}.txt").write_text("\n\n".join(sentence(rng, 40) for _ in range(40)))
    (tmp_path / "data/letters.jsonl.gz").write_bytes(gzip.compress("\n".join(rows[:60]).encode()))
    (tmp_path / "data/notes/garden.md").write_text("\n\n".join(sentence(rng, 300) for _ in range(20)))
    (tmp_path / "data/owner/name/train.jsonl").write_text("\n".join(rows[60:]))
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("page", "name"), [("README.md", "notes"), ("data/README.md", "diary"), ("data/README.md", "stories")]
)
def test_an_example_of_the_readme_reaches_training(data_dir: Path, tmp_path: Path, page: str, name: str) -> None:
    params = make_params([documented_sources(page)[name]])
    metrics = run(params, data_dir, tmp_path / "out")
    rows = [row for split in ("train", "val", "test") for row in read_jsonl(tmp_path / f"out/text/{split}.jsonl")]
    assert {row["source"] for row in rows} == {name}
    assert len(rows) == metrics["num_rows_read"] > 15
    assert metrics["num_bad_rows"] == 0


@pytest.mark.parametrize("yields", ["chats", "preferences", "prompts"])
def test_a_row_of_every_kind_as_the_table_shows_it_reaches_its_stage(
    data_dir: Path, tmp_path: Path, yields: str
) -> None:
    table = (ROOT / "data/README.md").read_text(encoding="utf-8")
    (example,) = re.findall(rf"^\| {yields} \| `(.*?)`", table, flags=re.MULTILINE)
    rng = random.Random(2)
    with (data_dir / "own.jsonl").open("w") as file:
        for _ in range(60):
            words = re.sub(r'"\.\.\."|\.\.\.', lambda _: json.dumps(sentence(rng, 20)), example)
            file.write(words + "\n")
    own = {**documented_sources("README.md")["notes"], "name": "own", "paths": ["own.jsonl"], "yields": yields}
    params = make_params([documented_sources("README.md")["notes"], own])
    assert run(params, data_dir, tmp_path / "out")["num_bad_rows"] == 0
    rows = list(read_jsonl(tmp_path / f"out/{yields}/train.jsonl"))
    assert len(rows) > 10
    assert {row["source"] for row in rows} == {"own"}
