from pathlib import Path
from typing import Any

import pytest

from groundup.core.formats.records import Article, Conversation, Record
from groundup.prepare.sources.packages import package_problem, read_package
from groundup.prepare.sources.rows import BadRow
from groundup.runner.params.prepare import PackageSource
from tests.prepare.made_up import PackageMaker

ENTRY = {
    "messages": [[{"text": "Hi", "sender": "x"}, {"text": "there", "sender": "x"}], [{"text": "Yo", "sender": "y"}]],
    "ratings": {"witty": "7", "interesting": 8, "upbeat": 9},
    "prompt": "What if?",
    "start": "2018",
}


def source(values: dict[str, Any], **changes: Any) -> PackageSource:
    return PackageSource.model_validate(values | changes)


def read_good(source: PackageSource, seed: int) -> list[Record]:
    return [row for row in read_package(source, seed) if not isinstance(row, BadRow)]


def test_conversations_ratings_and_openings(install_package: PackageMaker) -> None:
    entries = {
        "a": ENTRY,
        "b": ENTRY | {"ratings": {"witty": 5, "upbeat": 5, "interesting": 5}, "prompt": ""},
        "c": {"messages": [], "start": "2018"},
    }
    turns = [(0, "Hi"), (0, "there"), (1, "Yo")]
    assert list(read_package(source(install_package("talk", entries)), seed=1)) == [
        Conversation("talk/a", "talk", "What if?", turns, {"interesting": 8, "upbeat": 9, "witty": 7}),
        Conversation("talk/b", "talk", None, turns, None),  # the form's default is no rating
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
def test_a_bad_entry_is_named_and_the_next_one_read(install_package: PackageMaker, entry: object, reason: str) -> None:
    rows = list(read_package(source(install_package("talk", {"a": ENTRY, "b": entry, "c": ENTRY})), seed=1))
    assert [type(row) for row in rows] == [Conversation, BadRow, Conversation]
    assert isinstance(rows[1], BadRow)
    assert (rows[1].file, rows[1].line, rows[1].reason) == ("talk/data.json", 2, reason)
    assert rows[1].sample.startswith("b: ")


def test_a_bad_article_is_named(install_package: PackageMaker) -> None:
    entries = {"Tomato": {"title": "Tomato", "extract": None, "description": "", "topic": "Plants"}, "Hoe": {}}
    rows = list(read_package(source(install_package("wiki", entries), format="encyclopedia"), seed=1))
    assert [row.reason for row in rows if isinstance(row, BadRow)] == ["wrong_type", "missing_column"]


def test_a_file_of_another_format_is_an_error(install_package: PackageMaker) -> None:
    with pytest.raises(ValueError, match=r"source talk: talk/data\.json holds a list, not an object of named entries"):
        list(read_package(source(install_package("talk", [ENTRY])), seed=1))


def test_articles_without_a_topic(install_package: PackageMaker) -> None:
    article = {"title": "Tomato", "extract": "A berry.", "description": "Edible berry", "topic": "Uncategorized"}
    found = read_package(source(install_package("wiki", {"Tomato": article}), format="encyclopedia"), seed=1)
    assert list(found) == [Article("wiki/Tomato", "wiki", "Tomato", "Edible berry", None, "A berry.")]


def test_max_documents_takes_the_same_share_whatever_the_order(install_package: PackageMaker) -> None:
    entries = {f"c{i}": ENTRY for i in range(50)}
    some = [r.id for r in read_good(source(install_package("talk", entries), max_documents=10), seed=1)]
    backwards = dict(reversed(entries.items()))
    again = [r.id for r in read_good(source(install_package("talk", backwards), max_documents=10), seed=1)]
    assert len(some) == 10
    assert some == again
    assert some != [f"talk/c{i}" for i in range(10)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"package": "not-there"}, "not-there is not installed; run `pip install not-there==1.0`"),
        ({"version": "2.0"}, "talk is 1.0, params.yaml pins 2.0; run `pip install talk==2.0`"),
        ({"path": "talk/gone.json"}, "talk 1.0 has no file talk/gone.json"),
        ({"sha256": "0" * 64}, "the file was changed; run `pip install talk==1.0 --force-reinstall --no-deps`"),
    ],
)
def test_a_package_that_does_not_fit_is_one_sentence_with_the_remedy(
    install_package: PackageMaker, changes: dict[str, str], words: str | None
) -> None:
    problem = package_problem(source(install_package("talk", {"a": ENTRY}), **changes))
    assert problem is None if words is None else words in (problem or "")


def test_a_changed_file_is_noticed(install_package: PackageMaker, tmp_path: Path) -> None:
    talk = source(install_package("talk", {"a": ENTRY}))
    (tmp_path / "site/talk/data.json").write_text("{}")
    assert "sha256" in (package_problem(talk) or "")
