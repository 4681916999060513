import ftfy
import pytest

from groundup.core.formats.records import Article, Conversation, Prompt, Record, Text, body
from groundup.core.text.words import ngram_hashes, word_hashes
from groundup.prepare.clean.cleaning import (
    Cleaner,
    clean_document,
    clean_line,
    repair,
    repeated_line_fraction,
    repeated_ngram_fraction,
)
from groundup.prepare.ledger import Ledger
from tests.prepare.made_up import files_source, make_params

PARAMS = make_params(
    [files_source("own", ["*"], "text")],
    clean={"min_language_probability": 0.3, "min_language_characters": 40, "min_characters": 10},
).clean


@pytest.fixture
def cleaner() -> Cleaner:
    return Cleaner(PARAMS, Ledger(1))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("sch\u00c3\u00b6n", "sch\u00f6n"),
        ("cafe\u0301", "caf\u00e9"),
        ("&lt;b&gt; fish &amp; chips", "<b> fish & chips"),
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("zero\u200bwidth\ufeff and\x00 null\x07", "zerowidth and null"),
        ("\u202eright to left", "right to left"),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f468\u200d\U0001f469\u200d\U0001f467"),
        ("lone \ud83d surrogate", "lone \ufffd surrogate"),
        ("a &amp; b\n<b>\na &amp; b\nsch\u00c3\u00b6n", "a & b\n<b>\na &amp; b\nsch\u00f6n"),
        ("plain ASCII: 100% as it was, isn't it?\n\tyes", "plain ASCII: 100% as it was, isn't it?\n\tyes"),
    ],
)
def test_repair(raw: str, expected: str) -> None:
    assert repair(raw) == expected


@pytest.mark.parametrize(
    "text", ["a & b\n<i>\n\n&lt;\u00e9\n", "\u201cdid\u201d\nx\n&gt;\u2026", "1 < 2\u00bd\n&amp;"]
)
def test_lines_by_themselves_are_repaired_as_ftfy_repairs_them_together(text: str) -> None:
    assert repair(text) == ftfy.fix_text(text)


def test_lines_and_documents_keep_what_they_should() -> None:
    assert clean_line("  one\n two \t three ") == "one two three"
    assert clean_document("\n\na  \n    indented\n\n\n\nb\n") == "a\n    indented\n\nb"


def test_messages_of_one_speaker_become_one_turn_and_speakers_are_renumbered(cleaner: Cleaner) -> None:
    turns = [(4, "  "), (7, "hi"), (4, ""), (7, "you?"), (4, "fine\n thanks"), (7, "me@home.org")]
    cleaned = cleaner.clean(Conversation("i", "s", " Topic? ", turns, None))
    assert cleaned == Conversation("i", "s", "Topic?", [(0, "hi you?"), (1, "fine thanks"), (0, "[EMAIL]")], None)


def test_names_follow_the_numbers_of_their_speakers(cleaner: Cleaner) -> None:
    turns = [(0, " "), (1, "hi"), (0, "\u200b"), (2, "hello"), (1, "bye")]
    cleaned = cleaner.clean(Conversation("i", "s", None, turns, None, ["Silent", "Ada", "Ben"]))
    assert cleaned == Conversation("i", "s", None, [(0, "hi"), (1, "hello"), (0, "bye")], None, ["Ada", "Ben"])


def test_personal_data_is_reported_with_the_cleaned_text(cleaner: Cleaner) -> None:
    cleaner.clean(Text("i", "s", "a@b.org and c@d.org"))
    assert cleaner.pii == Ledger(1, {"s": {"email": 2}}, {"s": {"email": ["[EMAIL] and [EMAIL]"]}})


def reason_to_drop(cleaner: Cleaner, record: Record) -> str | None:
    return cleaner.reason_to_drop(record, ngram_hashes(word_hashes(body(record)), PARAMS.repeated_ngram_words))


ENGLISH = "The river runs through the old town and then to the sea."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (ENGLISH, None),
        ("", "empty"),
        ("short", "too_short"),
        ("Hola, hoy hace mucho calor en la ciudad y todos quieren ir a la playa.", "language"),
        ("yes\nyes\nyes\nno way", None),
        ("yes yes\nyes yes\nyes yes\nyes yes", "repeated_lines"),
        ("ha " * 30, "repeated_ngrams"),
        ("Bonjour tout le monde", None),  # too short to tell the language
    ],
)
def test_reason_to_drop(cleaner: Cleaner, text: str, reason: str | None) -> None:
    assert reason_to_drop(cleaner, cleaner.clean(Text("i", "s", text))) == reason


def test_short_prompts_are_kept_and_empty_messages_are_not(cleaner: Cleaner) -> None:
    def prompt(*contents: str) -> Prompt:
        return Prompt("i", "s", [{"role": "user", "content": content} for content in contents])

    assert reason_to_drop(cleaner, prompt("Hi")) is None
    assert reason_to_drop(cleaner, prompt("Hi", "")) == "empty_message"


def test_an_article_is_judged_by_its_extract(cleaner: Cleaner) -> None:
    article = Article("i", "s", "A long enough title", "description", None, "x")
    assert reason_to_drop(cleaner, article) == "too_short"


def test_repetition_by_hand() -> None:
    assert repeated_line_fraction("a\nb\n\na\na") == 0.5
    assert repeated_ngram_fraction(ngram_hashes(word_hashes("a b c a b c"), 3)) == 0.25  # abc bca cab abc
    assert repeated_ngram_fraction(ngram_hashes(word_hashes("a b"), 3)) == 0.0
