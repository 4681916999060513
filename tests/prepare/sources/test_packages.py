from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundup.core.formats.records import Article, Conversation, Record
from groundup.prepare.sources.rows import BadRow
from tests.prepare.made_up import PackageMaker, open_source

ENTRY = {
    "messages": [[{"text": "Hi", "sender": "x"}, {"text": "there", "sender": "x"}], [{"text": "Yo", "sender": "y"}]],
    "ratings": {"witty": "7", "interesting": 8, "upbeat": 9},
    "prompt": "What if?",
    "start": "2018",
}


Read = Callable[..., list[Record | BadRow]]


@pytest.fixture
def read(install_package: PackageMaker, tmp_path: Path) -> Read:
    """The rows of a package of these entries."""

    def rows(entries: object, **changes: Any) -> list[Record | BadRow]:
        return list(open_source(install_package("talk", entries) | changes, tmp_path).read())

    return rows


def test_conversations_ratings_and_openings(read: Read) -> None:
    entries = {
        "a": ENTRY,
        "b": ENTRY | {"ratings": {"witty": 5, "upbeat": 5, "interesting": 5}, "prompt": ""},
        "c": {"messages": [], "start": "2018"},
    }
    turns = [(0, "Hi"), (0, "there"), (1, "Yo")]
    assert read(entries) == [
        Conversation("talk/a", "talk", "What if?", turns, {"interesting": 8, "upbeat": 9, "witty": 7}, ["x", "y"]),
        Conversation("talk/b", "talk", None, turns, None, ["x", "y"]),  # the form's default is no rating
        Conversation("talk/c", "talk", None, [], None),
    ]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (ENTRY | {"ratings": {"witty": 0, "upbeat": 5}}, "rating"),
        (ENTRY | {"ratings": {"witty": 11}}, "rating"),
        (ENTRY | {"ratings": {"witty": 7.5}}, "rating"),
        (ENTRY | {"ratings": {"witty": True}}, "rating"),
        (ENTRY | {"ratings": {"witty": "very"}}, "rating"),
        (ENTRY | {"ratings": [7, 8]}, "wrong_type"),
        (ENTRY | {"messages": [[{"text": 3, "sender": "x"}]]}, "wrong_type"),
        (ENTRY | {"messages": [[{"text": "Hi"}]]}, "missing_column"),
        (ENTRY | {"messages": ["Hi"]}, "wrong_type"),
        ({"start": "2018"}, "missing_column"),
        ("Hi", "wrong_type"),
        (None, "wrong_type"),
    ],
    ids=lambda value: str(value)[-30:],
)
def test_a_bad_entry_is_named_and_the_next_one_read(read: Read, entry: object, reason: str) -> None:
    rows = read({"a": ENTRY, "b": entry, "c": ENTRY})
    assert [type(row) for row in rows] == [Conversation, BadRow, Conversation]
    assert isinstance(rows[1], BadRow)
    assert (rows[1].file, rows[1].line, rows[1].reason) == ("talk/data.json", 2, reason)
    assert rows[1].sample.startswith("b: ")


def test_a_bad_article_is_named(read: Read) -> None:
    entries = {"Tomato": {"title": "Tomato", "extract": None, "description": "", "topic": "Plants"}, "Hoe": {}}
    rows = read(entries, format="encyclopedia")
    assert [row.reason for row in rows if isinstance(row, BadRow)] == ["wrong_type", "missing_column"]


def test_a_file_of_another_format_is_an_error(read: Read) -> None:
    with pytest.raises(ValueError, match=r"source talk: talk/data\.json holds a list, not an object of named entries"):
        read([ENTRY])


def test_articles_without_a_topic(read: Read) -> None:
    article = {"title": "Tomato", "extract": "A berry.", "description": "Edible berry", "topic": "Uncategorized"}
    assert read({"Tomato": article}, format="encyclopedia") == [
        Article("talk/Tomato", "talk", "Tomato", "Edible berry", None, "A berry.")
    ]


def test_max_documents_takes_the_same_share_whatever_the_order(read: Read) -> None:
    entries = {f"c{i}": ENTRY for i in range(50)}
    some = read(entries, max_documents=10)
    assert len(some) == 10
    assert some == read(dict(reversed(entries.items())), max_documents=10)
    assert some != read(entries)[:10]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"package": "not-there"}, "not-there is not installed; run `pip install not-there==1.0`"),
        ({"version": "2.0"}, "talk is 1.0, params.yaml pins 2.0; run `pip install talk==2.0`"),
        ({"path": "talk/gone.json"}, "talk 1.0 has no file talk/gone.json"),
        ({"sha256": "0" * 64}, "the file was changed; run `pip install talk==1.0 --force-reinstall --no-deps`"),
    ],
)
def test_a_package_that_does_not_fit_is_one_sentence_with_the_remedy(
    install_package: PackageMaker, tmp_path: Path, changes: dict[str, str], words: str
) -> None:
    talk = install_package("talk", {"a": ENTRY})
    open_source(talk, tmp_path).check()
    with pytest.raises(ValueError, match=r"^source talk: .*[^.\n]$") as error:
        open_source(talk | changes, tmp_path).check()
    assert words in str(error.value)


def test_a_changed_file_is_noticed(install_package: PackageMaker, tmp_path: Path) -> None:
    talk = open_source(install_package("talk", {"a": ENTRY}), tmp_path)
    (tmp_path / "site/talk/data.json").write_text("{}")
    with pytest.raises(ValueError, match=r"sha256 of talk/data\.json is"):
        talk.check()


def test_a_package_is_never_imported(read: Read, tmp_path: Path) -> None:
    (tmp_path / "site/talk").mkdir(parents=True)
    (tmp_path / "site/talk/__init__.py").write_text("raise RuntimeError('imported')")
    assert read({}) == []
