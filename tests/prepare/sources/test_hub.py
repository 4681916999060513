import json
import time
from pathlib import Path
from typing import Any

import pytest

from groundup.core.formats.records import Text
from groundup.prepare.sources.hub import check_hub, read_hub
from groundup.prepare.sources.rows import BadRow
from groundup.runner.params.prepare import HubSource

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def source(dataset: str, **changes: Any) -> HubSource:
    values = {
        "kind": "hub",
        "name": "hub",
        "dataset": dataset,
        "config": None,
        "split": "train",
        "revision": COMMIT,
        "yields": "text",
        "text_column": "story",
        "max_rows": None,
        "licence": "CC0-1.0",
    }
    return HubSource.model_validate(values | changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset folder: data/owner/stories/train.jsonl."""
    path = tmp_path / "data/owner/stories/train.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps({"id": i, "story": f"story {i}"}) + "\n" for i in range(5)))
    return tmp_path


def test_a_local_folder_is_streamed(folder: Path) -> None:
    stories = source("owner/stories", max_rows=3, revision="local")
    check_hub(stories, folder / "data")
    rows = list(read_hub(stories, folder / "data", folder / "cache", 1000))
    assert rows == [Text(f"hub/{i}", "hub", f"story {i}") for i in range(3)]


def test_a_column_that_is_not_there(folder: Path) -> None:
    rows = list(read_hub(source("owner/stories", text_column="text"), folder / "data", folder / "cache", 1000))
    assert rows == [
        BadRow(
            "owner/stories", i + 1, "missing_column", "no column 'text', only id, story", f"id: {i}, story: story {i}"
        )
        for i in range(5)
    ]


def test_a_damaged_file_of_a_dataset_is_named_with_the_place(folder: Path) -> None:
    with (folder / "data/owner/stories/train.jsonl").open("a") as file:
        file.write('{"id": 5, "story": \n')
    with pytest.raises(ValueError, match=r"source hub: owner/stories cannot be read after row \d+"):
        list(read_hub(source("owner/stories"), folder / "data", folder / "cache", 1000))


def test_a_split_that_is_not_there(folder: Path) -> None:
    with pytest.raises(ValueError, match="split validation"):
        list(read_hub(source("owner/stories", split="validation"), folder / "data", folder / "cache", 1000))


def test_offline_it_fails_at_once_and_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    import huggingface_hub  # noqa: F401  (its import is not what is timed)

    start = time.monotonic()
    with pytest.raises(ValueError, match="owner/other at 0123456789ab cannot be reached") as error:
        check_hub(source("owner/other"), tmp_path)
    assert time.monotonic() - start < 5
    assert "unset HF_HUB_OFFLINE" in str(error.value)
    assert "copy that folder to data/owner/other" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"revision": "main"}, "'main' of owner/other can move; pin the 40 digits"),
        ({"dataset": "../outside"}, "must be a hub name or a folder inside data/"),
        ({"dataset": "/outside"}, "must be a hub name or a folder inside data/"),
    ],
)
def test_what_cannot_be_pinned_is_refused(tmp_path: Path, changes: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match="source hub") as error:
        check_hub(source("owner/other").model_copy(update=changes), tmp_path)
    assert words in str(error.value)
