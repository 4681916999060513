"""People's replies beside replies of like length from elsewhere: what a judge learns from, or is tested on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from groundup.core.judging.judge import Agreement, Chat
from groundup.core.judging.statistics import Floats, cluster_bootstrap, wins
from groundup.core.judging.words import lower_words
from groundup.runner.params.judge import JudgeParams

NEAR = 30  # a wrong reply is one of the NEAR next shorter or longer ones


@dataclass(frozen=True)
class ReplyPair:
    """A conversation with the given reply, and the same one with a reply from elsewhere."""

    given: Chat
    wrong: Chat
    conversation_id: str


def reply_pairs(rows: Sequence[dict[str, Any]], params: JudgeParams) -> list[ReplyPair]:
    """Every assistant turn among the first `max_turns`, with a reply of similar length from another conversation."""
    rng = np.random.default_rng(params.seed)
    replies = [
        (row["id"], row["messages"][: place + 1])
        for row in rows
        for place, message in enumerate(row["messages"])
        if message["role"] == "assistant"
        and lower_words(message["content"])
        and _num_turns(row, place) <= params.max_turns
    ]
    shuffled = rng.permutation(len(replies))
    order = sorted(shuffled, key=lambda i: len(lower_words(replies[i][1][-1]["content"])))
    pairs = []
    for place, i in enumerate(order):
        conversation_id, chat = replies[i]
        others = [
            replies[j][1][-1]
            for j in order[max(0, place - NEAR) : place + NEAR + 1]
            if replies[j][0] != conversation_id and replies[j][1][-1]["content"] != chat[-1]["content"]
        ]
        if others:
            wrong = others[rng.integers(len(others))]
            pairs.append(ReplyPair(chat, [*chat[:-1], wrong], conversation_id))
    return pairs


def agreement(held_out: Floats, pairs: Sequence[ReplyPair], params: JudgeParams) -> Agreement:
    """held_out [N]: how much higher each given reply scores, by a judge fitted without its conversation."""
    right = wins(held_out, np.zeros(len(pairs)))
    conversations = [[pair.conversation_id] for pair in pairs]
    low, high = cluster_bootstrap(right, conversations, params.bootstrap_samples, params.seed)
    return Agreement(float(right.mean()), low, high, len(pairs), len({pair.conversation_id for pair in pairs}))


def _num_turns(row: dict[str, Any], place: int) -> int:
    return sum(message["role"] != "system" for message in row["messages"][: place + 1])
