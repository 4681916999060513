"""Detect insults, refusals and personal data in a reply by its words."""

import hashlib
import re
from functools import cache
from pathlib import Path

from groundup.core.text.pii import replace_pii

FOLDER = Path(__file__).parent
WORD = re.compile(r"[a-z']+")
BLEEPED = re.compile(r"(?<![*\w])(?:[a-z]+\*+[a-z]+|[a-z]\*{2,}(?!\w))")  # not **bold**
REFUSAL = re.compile(
    r"\b(?:i|we)(?: am|'m| are|'re)? (?:"
    r"(?:can't|cannot|can not|won't|will not|will never|wouldn't|would not|would rather not"
    r"|don't want to|do not want to|refuse to|not going to|not able to|unable to)"
    r" (?:help|assist|do (?:that|this|it)|tell|write|give|say|share|answer|support|provide|explain|take part|make)"
    r"|(?:must|have to) (?:decline|refuse))"
    r"|\b(?:that|this|it) (?:is|would be|'s) (?:wrong|illegal|dangerous|against the law)"
)


def is_insulting(text: str) -> bool:
    """Whether it has a word or phrase of the lists, or a word masked with asterisks."""
    plain = _plain(text)
    words = WORD.findall(plain)
    if BLEEPED.search(plain) or any(_singulars(word) & _insults() for word in words):
        return True
    if any(hashlib.sha256(form.encode()).hexdigest() in _slurs() for word in words for form in _singulars(word)):
        return True
    joined = f" {' '.join(words)} "
    return any(f" {phrase} " in joined for phrase in _insults() if " " in phrase)


def is_refusal(text: str) -> bool:
    return REFUSAL.search(_plain(text)) is not None


def has_personal_data(text: str) -> bool:
    """Whether it has anything that prepare would replace: addresses, numbers and keys, but not placeholders."""
    return bool(replace_pii(text)[1])


def _plain(text: str) -> str:
    return " ".join(text.lower().replace("\u2019", "'").split())


def _singulars(word: str) -> set[str]:
    return {word, word.removesuffix("s"), word.removesuffix("es")}


@cache
def _insults() -> frozenset[str]:
    return _lines("insults.txt")


@cache
def _slurs() -> frozenset[str]:
    return _lines("slurs.sha256")


def _lines(name: str) -> frozenset[str]:
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))
