"""Best of n and tree of thoughts: spend a budget of tokens on replies that the reward model compares."""

import re
from collections.abc import Callable, Sequence

from groundup.core.decoding.assistant import Assistant
from groundup.core.decoding.sampling import draw_uniforms, extend, generator
from groundup.core.decoding.settings import Decoding
from groundup.core.model.generation import ended_chats
from groundup.core.model.scoring import RewardScorer

THOUGHT_END = re.compile(r"[.!?;:,][\"')\]]*$")  # matches a token that ends a clause or sentence


class Search:
    """The remaining budget, and sampling and valuing of replies to one prompt."""

    def __init__(self, assistant: Assistant, scorer: RewardScorer, prompt: Sequence[int], decoding: Decoding) -> None:
        self.assistant = assistant
        self.scorer = scorer
        self.prompt = prompt
        self.decoding = decoding
        self.left = decoding.budget_tokens
        self.generator = generator(decoding)

    @property
    def spent(self) -> int:
        return self.decoding.budget_tokens - self.left

    def is_whole(self, reply: list[int]) -> bool:
        """Ended with end-of-turn, or of full length."""
        return self.has_ended(reply) or len(reply) == self.decoding.max_new_tokens

    def has_ended(self, reply: list[int]) -> bool:
        return bool(reply) and reply[-1] == self.assistant.tokenizer.eos_token_id

    def ends_thought(self, reply: list[int]) -> bool:
        return self.is_whole(reply) or THOUGHT_END.search(self.assistant.tokenizer.decode(reply[-1:])) is not None

    def sample(
        self,
        states: Sequence[list[int]],
        num_samples: int,
        budget: int,
        most_tokens: int,
        stops: Callable[[list[int]], bool],
    ) -> list[list[int]]:
        """At most `num_samples` replies that continue the states in turn, within a budget of tokens.

        Each batch is as large as the budget surely allows, until it is too small for one more reply.
        """
        grown: list[list[int]] = []
        budget = min(budget, self.left)
        while count := min(num_samples - len(grown), budget // most_tokens):
            starts = sorted(i % len(states) for i in range(count))
            uniforms = draw_uniforms(count, most_tokens, self.generator)
            new = extend(self.assistant, self.prompt, states[: starts[-1] + 1], starts, stops, uniforms, self.decoding)
            spent = sum(len(reply) - len(states[start]) for reply, start in zip(new, starts, strict=True))
            self.left -= spent
            budget -= spent
            grown += new
        return grown

    def values(self, replies: Sequence[list[int]]) -> list[float]:
        """Values of whole or partial replies: the reward model's mean score minus its weighted uncertainty."""
        ended = [self.has_ended(reply) for reply in replies]
        prompts = [self.prompt] * len(replies)
        mean, std = self.scorer.score(ended_chats(prompts, replies, ended, self.assistant.tokenizer.eos_token_id))
        return (mean - self.decoding.pessimism * std).tolist()

    def best(self, replies: Sequence[list[int]], values: Sequence[float]) -> list[int]:
        """The best of the replies that ended with end-of-turn, else of all; the first one of equals."""
        return max(zip(replies, values, strict=True), key=lambda pair: (self.has_ended(pair[0]), pair[1]))[0]


def best_of_n(search: Search) -> list[int]:
    decoding = search.decoding
    replies = search.sample([[]], decoding.n, search.left, decoding.max_new_tokens, search.is_whole)
    return search.best(replies, search.values(replies))


def tree_of_thoughts(search: Search) -> list[int]:
    """Breadth-first search over partial replies (Yao et al. 2023, arXiv:2305.10601).

    At every level each kept reply grows by a thought (a clause or sentence of limited length) in several ways; the
    reward model values the results, and the best are kept. The last level completes them. Every level may spend an
    equal share of the remaining budget, but must leave enough for one whole reply.
    """
    decoding = search.decoding
    thought_tokens = -(-decoding.max_new_tokens // decoding.depth)
    states: list[list[int]] = [[]]
    whole: dict[tuple[int, ...], float] = {}
    for levels_left in range(decoding.depth, 0, -1):
        longest = decoding.max_new_tokens - min(len(state) for state in states)
        if levels_left == 1:
            grown = search.sample(states, decoding.n, search.left, longest, search.is_whole)
        else:
            share = min(search.left // levels_left, search.left - decoding.max_new_tokens)
            grown = search.sample(states, decoding.n, share, min(thought_tokens, longest), search.ends_thought)
        unique = [list(reply) for reply in dict.fromkeys(map(tuple, grown))]
        valued = list(zip(unique, search.values(unique), strict=True))
        whole |= {tuple(reply): value for reply, value in valued if search.is_whole(reply)}
        partial = [(reply, value) for reply, value in valued if not search.is_whole(reply)]
        if valued:  # a share too small for a thought leaves the states unchanged
            partial.sort(key=lambda pair: pair[1], reverse=True)
            states = [reply for reply, _ in partial[: decoding.keep]] or [[]]
    return search.best([list(reply) for reply in whole], list(whole.values()))
