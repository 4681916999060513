"""Words as judges see them, and which words of a reply are its own."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import compress

WORD = re.compile(r"\w+|[!?]+")
QUESTION = "?"


def lower_words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def common_words(turns: Iterable[str], share: float) -> frozenset[str]:
    """Words of more than this share of the different turns: such a word counts although it was said before."""
    different = set(turns)
    counts = Counter(word for turn in different for word in set(lower_words(turn)))
    return frozenset(word for word, count in counts.items() if count / len(different) > share)


def are_own(words: Sequence[str], said: Sequence[Sequence[str]], run: int) -> list[bool]:
    """False for the words that the turns `said` have in runs of `run` (or as a whole turn)."""
    copied = {tuple(turn[i : i + run]) for turn in said for i in range(max(1, len(turn) - run + 1))}
    own = [True] * len(words)
    for i in range(max(1, len(words) - run + 1)):
        if tuple(words[i : i + run]) in copied:
            own[i : i + run] = [False] * len(words[i : i + run])
    return own


def own_words(reply: str, said: Sequence[Sequence[str]], run: int) -> list[str]:
    words = lower_words(reply)
    return list(compress(words, are_own(words, said, run)))
