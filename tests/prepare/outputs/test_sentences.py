import pytest

from groundup.prepare.outputs.sentences import first_sentences, hide_name, split_sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        (
            "J. R. R. Tolkien wrote. He was born in St. Mary's.",
            ["J. R. R. Tolkien wrote.", "He was born in St. Mary's."],
        ),
        ("It is 6.5 km long (4.0 mi). Next.", ["It is 6.5 km long (4.0 mi).", "Next."]),
        ('He said "no." Then he left.', ['He said "no."', "Then he left."]),
        ("the U.S. Congress met, e.g. in May.", ["the U.S. Congress met, e.g. in May."]),
        ("One line\nAnother line. ", ["One line", "Another line."]),
        ("", []),
    ],
)
def test_split_sentences(text: str, expected: list[str]) -> None:
    assert split_sentences(text) == expected


def test_first_sentences_fit() -> None:
    sentences = ["A short one.", "Another one.", "Last."]
    assert first_sentences(sentences, 25) == "A short one. Another one."
    assert first_sentences(sentences, 24) == "A short one."
    assert first_sentences(sentences, 9) == "A short ..."
    assert first_sentences([], 9) == ""


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("Tomato", "The tomato is a berry; tomatoes are red.", "The ___ is a berry; ___ are red."),
        ("Robert Hooke", "Robert Hooke was a polymath. Hooke saw cells.", "___ was a polymath. ___ saw cells."),
        ("Hoe", "A hoe is a hand tool, as the shoe knows.", "A ___ is a hand tool, as the shoe knows."),
        ("C++", "C++ is a language.", "___ is a language."),
    ],
)
def test_hide_name(name: str, text: str, expected: str) -> None:
    assert hide_name(name, text) == expected
