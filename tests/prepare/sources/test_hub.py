import json
import time
from pathlib import Path
from typing import Any

import pytest

from groundup.core.formats.records import Text
from groundup.prepare.sources.reader import Reader
from groundup.prepare.sources.rows import BadRow
from tests.prepare.made_up import hub_source, open_source


def opened(data_dir: Path, dataset: str, **changes: Any) -> Reader[Any]:
    return open_source(hub_source(dataset) | changes, data_dir)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """data/ with a dataset: owner/stories/train.jsonl."""
    path = tmp_path / "owner/stories/train.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps({"id": i, "story": f"story {i}"}) + "\n" for i in range(5)))
    return tmp_path


def test_a_local_folder_is_streamed(folder: Path) -> None:
    stories = opened(folder, "owner/stories", max_rows=3, revision="local")
    stories.check()
    assert list(stories.read()) == [Text(f"hub/{i}", "hub", f"story {i}") for i in range(3)]


def test_a_column_that_is_not_there(folder: Path) -> None:
    assert list(opened(folder, "owner/stories", text_column="text").read()) == [
        BadRow(
            "owner/stories", i + 1, "missing_column", "no column 'text', only id, story", f"id: {i}, story: story {i}"
        )
        for i in range(5)
    ]


def test_a_damaged_file_of_a_dataset_is_named_with_the_place(folder: Path) -> None:
    with (folder / "owner/stories/train.jsonl").open("a") as file:
        file.write('{"id": 5, "story": \n')
    with pytest.raises(ValueError, match=r"source hub: owner/stories cannot be read after row \d+"):
        list(opened(folder, "owner/stories").read())


def test_a_split_that_is_not_there(folder: Path) -> None:
    with pytest.raises(ValueError, match="split validation"):
        list(opened(folder, "owner/stories", split="validation").read())


def test_offline_it_fails_at_once_and_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    import huggingface_hub  # noqa: F401  (its import is not what is timed)

    start = time.monotonic()
    with pytest.raises(ValueError, match="owner/other at 012345670123 cannot be reached") as error:
        opened(tmp_path, "owner/other").check()
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
        opened(tmp_path, **({"dataset": "owner/other"} | changes)).check()
    assert words in str(error.value)
