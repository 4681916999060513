from collections import Counter

import pytest

from groundup.core.formats.records import Article
from groundup.prepare.outputs.encyclopedia import KINDS, PHRASINGS, Question, ask, questions

TOMATO = Article(
    "wiki/Tomato",
    "wiki",
    "Tomato (plant)",
    "Edible berry",
    "Biology",
    "The tomato is a plant. Its fruit is eaten. It came from the Andes.",
)


@pytest.mark.parametrize(
    ("kind", "in_question", "answer"),
    [
        ("about", "Tomato", "The tomato is a plant. Its fruit is eaten."),
        ("describe", "Tomato", "Edible berry"),
        ("topic", "The tomato is a plant.", "Biology"),
        ("entity", "The ___ is a plant. Its fruit is eaten.", "Tomato"),
        ("continue", "The tomato is a plant.", "Its fruit is eaten. It came from the Andes."),
    ],
)
def test_every_kind_of_question(kind: str, in_question: str, answer: str) -> None:
    asked = ask(TOMATO, kind, seed=1, max_characters=45)
    assert asked is not None
    assert in_question in asked.question
    assert "(plant)" not in asked.question
    assert asked.answer == answer


def test_a_question_without_an_answer_is_not_asked() -> None:
    bare = Article("wiki/Bare", "wiki", "Bare", "", None, "Only one sentence.")
    assert [kind for kind in KINDS if ask(bare, kind, 1, 100)] == ["about", "entity"]


def articles(count: int) -> list[Article]:
    return [Article(f"wiki/{i}", "wiki", f"Thing {i}", "thing", "Arts", "It is one. It is two.") for i in range(count)]


def test_all_kinds_and_phrasings_occur_about_equally_often() -> None:
    asked = [question for article in articles(1000) for question in questions(article, 1, 1, 100)]
    counts = Counter(question.kind for question in asked)
    assert set(counts) == set(KINDS)
    assert min(counts.values()) > 150
    beginnings = Counter(question.question.split("{")[0][:9] for question in asked if question.kind == "describe")
    assert len(beginnings) == len(PHRASINGS["describe"])


def test_questions_about_one_article_differ_in_kind() -> None:
    asked = questions(TOMATO, 9, seed=1, max_characters=100)
    assert sorted(question.kind for question in asked) == sorted(KINDS)
    assert questions(TOMATO, 0, seed=1, max_characters=100) == []


def test_messages() -> None:
    assert Question("about", "Q?", "A.").messages() == [
        {"role": "user", "content": "Q?"},
        {"role": "assistant", "content": "A."},
    ]
