"""Split encyclopedia prose into sentences, and hide its subject."""

import re

# A full stop with a closing mark, before a capital, a digit or an opening mark.
SENTENCE_END = re.compile(r"[.!?][\"')]?\s+(?=[A-Z0-9\"'(])")
# Text before a full stop that does not end a sentence: an initial or an abbreviation.
NO_END = re.compile(r"(?:\b[A-Z]|\b(?:St|Dr|Mr|Mrs|Ms|Jr|Sr|Lt|Gen|No|vs|c|ca|e\.g|i\.e))\Z")
LONGEST_SHORT_FORM = 8  # characters before the full stop that NO_END needs to see
HIDDEN = "___"
SHORT_WORD = 3  # words of a name up to this length stay ("of", "the")


def split_sentences(text: str) -> list[str]:
    sentences = []
    for line in text.split("\n"):
        start = 0
        for end in SENTENCE_END.finditer(line):
            if NO_END.search(line[max(start, end.start() - LONGEST_SHORT_FORM) : end.start()]) is None:
                sentences.append(line[start : end.end()].strip())
                start = end.end()
        sentences.append(line[start:].strip())
    return [sentence for sentence in sentences if sentence]


def first_sentences(sentences: list[str], max_characters: int) -> str:
    """The longest run of whole sentences that fits; if even the first does not fit, it is cut at a word."""
    kept = ""
    for sentence in sentences:
        longer = f"{kept} {sentence}".strip()
        if len(longer) > max_characters:
            break
        kept = longer
    if kept or not sentences:
        return kept
    return sentences[0][:max_characters].rsplit(" ", 1)[0].rstrip(",;: ") + " ..."


def hide_name(name: str, text: str) -> str:
    """The text without the name, its longer words and their plurals."""
    words = [word for word in re.findall(r"\w+", name) if len(word) > SHORT_WORD]
    pattern = "|".join(re.escape(part) for part in (name, *words))
    text = re.sub(rf"(?<!\w)(?:{pattern})\w{{0,2}}(?!\w)", HIDDEN, text, flags=re.IGNORECASE)
    return re.sub(rf"{HIDDEN}(?:[\s,'-]+{HIDDEN})+", HIDDEN, text)
