"""Best of n and tree of thoughts under a reward model with a known verdict."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch

from groundup.core.decoding.assistant import Assistant
from groundup.core.decoding.sampling import draw_uniforms, extend
from groundup.core.decoding.search import Search, best_of_n, tree_of_thoughts
from tests.core.decoding.conftest import KnownScorer, decoding, no_std

PROMPT = [7, 8, 9]


def liked(ids: Sequence[int]) -> float:
    """A point for every fifth token of the vocabulary, and a little for a short chat."""
    return sum(token % 5 == 0 for token in ids[len(PROMPT) :]) - 0.01 * len(ids)


def search(assistant: Assistant, method: str, mean: Any = liked, std: Any = no_std, **changes: Any) -> Search:
    return Search(assistant, KnownScorer(mean, std), PROMPT, decoding(method, **changes))


@pytest.fixture
def ending(assistant: Assistant) -> Assistant:
    """It ends a reply with a probability of about 0.1 at each token."""
    bias = torch.zeros(assistant.model.config.vocab_size)
    bias[assistant.tokenizer.eos_token_id] = 3.3
    assistant.model.lm_head.bias = torch.nn.Parameter(bias)
    return assistant


def test_best_of_n_is_the_best_of_what_was_drawn(ending: Assistant) -> None:
    uniforms = draw_uniforms(8, 12, torch.Generator().manual_seed(3))
    eos = ending.tokenizer.eos_token_id

    def ended(reply: list[int]) -> bool:
        return reply[-1] == eos

    replies = extend(ending, PROMPT, [[]], [0] * 8, ended, uniforms, decoding("sample"))
    worth = {tuple(reply): liked([*PROMPT, *reply, eos][: len(PROMPT) + len(reply)]) for reply in replies}
    whole = [reply for reply in replies if ended(reply)]
    assert 0 < len(whole) < 8
    found = search(ending, "best_of_n", n=8)
    assert best_of_n(found) == max(whole, key=lambda reply: worth[tuple(reply)])
    assert found.spent == sum(len(reply) for reply in replies)


def test_what_did_not_end_is_taken_only_if_nothing_did(assistant: Assistant) -> None:
    assistant.model.lm_head.bias = torch.nn.Parameter(torch.zeros(assistant.model.config.vocab_size))
    assistant.model.lm_head.bias.data[assistant.tokenizer.eos_token_id] = -100.0
    for method, find in (("best_of_n", best_of_n), ("tree", tree_of_thoughts)):
        reply = find(search(assistant, method))
        assert len(reply) == 12
        assert assistant.tokenizer.eos_token_id not in reply


@pytest.mark.parametrize("budget", [12, 30, 96])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_budget_is_overdrawn_and_every_one_is_enough(ending: Assistant, budget: int, seed: int) -> None:
    for method, find in (("best_of_n", best_of_n), ("tree", tree_of_thoughts)):
        for depth in (2, 5, 12):
            found = search(ending, method, budget_tokens=budget, seed=seed, depth=depth)
            reply = find(found)
            assert found.is_whole(reply)
            # The rest of the budget might not have sufficed for another reply.
            assert budget - 12 < found.spent <= budget if method == "best_of_n" else 0 < found.spent <= budget


def test_n_limits_both(ending: Assistant) -> None:
    found = search(ending, "best_of_n", n=1, budget_tokens=1000)
    best_of_n(found)
    assert found.spent <= 12
    found = search(ending, "tree", n=2, depth=3, budget_tokens=1000)
    tree_of_thoughts(found)
    assert found.spent <= 2 * 12  # two proposals per level


def test_a_tree_of_one_level_is_best_of_n(ending: Assistant) -> None:
    for seed in range(2):
        assert tree_of_thoughts(search(ending, "tree", depth=1, seed=seed)) == best_of_n(
            search(ending, "best_of_n", seed=seed)
        )


def test_the_tree_goes_on_from_the_best_thoughts(ending: Assistant, monkeypatch: pytest.MonkeyPatch) -> None:
    levels: list[tuple[list[list[int]], list[list[int]]]] = []
    found = search(ending, "tree", keep=2, depth=3, budget_tokens=300)
    sample = found.sample

    def spied(states: Any, *rest: Any) -> list[list[int]]:
        grown = sample(states, *rest)
        levels.append((list(states), grown))
        return grown

    monkeypatch.setattr(found, "sample", spied)
    reply = tree_of_thoughts(found)
    assert levels[0][0] == [[]]
    assert len(levels) == 3
    for (_, grown), (states, following) in pairwise(levels):
        partial = {tuple(r) for r in grown if not found.is_whole(r)}
        eos = ending.tokenizer.eos_token_id
        ranked = sorted(partial, key=lambda r: liked([*PROMPT, *r, eos]), reverse=True)
        worst_kept = min(liked([*PROMPT, *state, eos]) for state in states)
        assert len(states) == 2
        assert worst_kept == pytest.approx(liked([*PROMPT, *ranked[1], eos]))
        assert all(any(r[: len(s)] == s for s in states) for r in following)
    ended = [r for _, grown in levels for r in grown if found.has_ended(r)]
    assert reply in ended
    assert liked([*PROMPT, *reply]) == max(liked([*PROMPT, *r]) for r in ended)
    assert found.spent > 150


def test_a_thought_ends_on_its_punctuation(assistant: Assistant) -> None:
    found = search(assistant, "tree")
    for text, ends in (("I like it.", True), ("Well,", True), ("the sea", False), ("town?", True), ("you!", True)):
        ids = assistant.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert found.ends_thought(ids[-3:]) == ends


def test_the_tree_finds_more_reward_for_the_same_tokens(ending: Assistant) -> None:
    """A case where part of a reply already predicts the value of the whole."""
    gains = []
    for seed in range(6):
        by_tree = tree_of_thoughts(search(ending, "tree", seed=seed, depth=4))
        by_n = best_of_n(search(ending, "best_of_n", seed=seed))
        gains.append(liked([*PROMPT, *by_tree]) - liked([*PROMPT, *by_n]))
    assert sum(gains) / len(gains) > 0.5


def test_a_pessimist_takes_off_what_the_reward_model_is_unsure_of(ending: Assistant) -> None:
    eos = ending.tokenizer.eos_token_id
    replies = [[5, 6, eos], [10, 15]]  # the second is scored as if it ended, and end-of-turn scores high
    for pessimism, values in ((0.0, [1.94, 2.94]), (0.5, [-1.06, -0.06])):
        found = search(ending, "tree", std=len, pessimism=pessimism)
        assert found.values(replies) == pytest.approx(values)
    reckless, careful = (
        liked([*PROMPT, *best_of_n(search(ending, "best_of_n", std=liked, pessimism=k, budget_tokens=600))])
        for k in (0.0, 10.0)
    )
    assert careful < reckless
