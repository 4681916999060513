"""Other conversations, at the same point, that a score is relative to."""

from collections.abc import Sequence

import numpy as np

from groundup.core.formats.jsonl import Row
from groundup.core.judging.judge import Chat
from groundup.core.judging.pairs import reply_pairs
from groundup.core.judging.word_judge import LATEST, kind_of
from groundup.runner.params.judge import JudgeParams

NUM_OTHERS = 4

Others = dict[int, list[Chat]]  # by kind_of, the messages before a reply


def draw_others(rows: Sequence[Row], params: JudgeParams) -> Others:
    """NUM_OTHERS of each kind, or of any kind if it has too few."""
    rng = np.random.default_rng(params.seed)
    chats = [pair.given for pair in reply_pairs(rows, params)]
    others = {}
    for kind in range(2 * LATEST + 2):
        same = [chat for chat in chats if kind_of(chat) == kind]
        pool = same if len(same) >= NUM_OTHERS else chats
        others[kind] = [pool[i][:-1] for i in rng.permutation(len(pool))[:NUM_OTHERS]]
    return others
