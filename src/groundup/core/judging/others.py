"""Other conversations at the same point, whose mean a score is relative to: a reply that fits everywhere fits none."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from groundup.core.judging.judge import Chat
from groundup.core.judging.statistics import Floats
from groundup.core.judging.words import QUESTION

LATEST = 4  # exchanges from which on a conversation counts as equally far
NUM_KINDS = 2 * LATEST + 2

Others = dict[int, list[Chat]]  # by kind_of


def kind_of(conversation: Chat) -> int:
    """At which point it is: how many turns long, and whether the last message is a question."""
    turns = [message["content"] for message in conversation if message["role"] != "system"]
    is_question = bool(turns) and QUESTION in turns[-1]
    return 2 * min((1 + len(turns)) // 2, LATEST) + is_question


def draw_others(conversations: Sequence[Chat], num_others: int, seed: int) -> Others:
    """num_others of each kind, or of any kind where it has too few."""
    rng = np.random.default_rng(seed)
    kinds = list(map(kind_of, conversations))
    others = {}
    for kind in range(NUM_KINDS):
        same = [conversation for conversation, its in zip(conversations, kinds, strict=True) if its == kind]
        pool = same if len(same) >= num_others else conversations
        others[kind] = [pool[i] for i in rng.permutation(len(pool))[:num_others]]
    return others


def mean_elsewhere(log_probs: Floats, counted: NDArray[np.bool_]) -> Floats:
    """[T] of a reply's tokens in K other conversations, both [K, T]; counted: the words not copied from there.

    A token is compared with where its word is not copied either, if there is such a place.
    """
    counted = counted | ~counted.any(axis=0)
    return np.asarray((log_probs * counted).sum(axis=0) / counted.sum(axis=0))
