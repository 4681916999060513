"""Which policies exceed a budget, and by what margin they must not come near it."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from groundup.align.budgets import Budgets, jackknife_error
from groundup.core.judging.statistics import clustered_mean
from groundup.core.rollout.answers import Answers
from groundup.core.rollout.prompts import Prompt
from tests.align.conftest import align_params

NUM = 100
YES, ASKS, GREETS = "Yes.", "Why?", "Hello."


def prompts(human_replies: Sequence[str | None]) -> list[Prompt]:
    message = {"role": "user", "content": "The sea is old and wide."}
    return [Prompt(f"c{i}", [message], [], reply) for i, reply in enumerate(human_replies)]


def answers(
    lengths: Sequence[int], kl: Sequence[float], num_words: int = 1000, ended: Sequence[bool] = (True,) * NUM
) -> Answers:
    """Replies of random words: the fewer words there are, the less distinct they are."""
    rng = random.Random(0)
    tokens = [[rng.randrange(num_words) for _ in range(length)] for length in lengths]
    zeros = torch.zeros(len(tokens))
    return Answers(tokens, list(ended[: len(tokens)]), zeros, zeros, torch.tensor(kl))


def budgets(human: Sequence[str | None] = (None,) * NUM) -> Budgets:
    made = Budgets(
        prompts(human), align_params(budgets={"kl": 8.0, "length": 0.25, "diversity": 0.2, "style": 0.1}).budgets
    )
    made.start(answers([20] * NUM, [0.0] * NUM), [YES] * NUM)
    return made


@pytest.mark.parametrize(
    ("length", "kl", "exceeded"),
    [
        (20, 8.0, []),
        (20, 8.1, ["kl"]),
        (25, 4.0, []),
        (26, 4.0, ["length"]),
        (15, 4.0, []),
        (14, 4.0, ["length"]),
        (14, 8.1, ["kl", "length"]),
    ],
)
def test_figures_without_sampling_error(length: int, kl: float, exceeded: list[str]) -> None:
    assert budgets().exceeded(answers([length] * NUM, [kl] * NUM), [YES] * NUM) == exceeded


@pytest.mark.parametrize(("spread", "exceeded"), [(0.0, []), (4.9, []), (5.1, ["kl"])])
def test_a_budget_holds_for_the_estimate_and_one_standard_error(spread: float, exceeded: list[str]) -> None:
    """Mean 7.5; with 100 replies that differ by `spread` from it, one standard error is a tenth of that."""
    kl = [7.5 + spread * (-1) ** i for i in range(NUM)]
    error = clustered_mean(kl, [f"c{i}" for i in range(NUM)])[1]
    assert error == pytest.approx(spread / 10, rel=0.01)
    assert budgets().exceeded(answers([20] * NUM, kl), [YES] * NUM) == exceeded


def test_lengths_are_compared_prompt_by_prompt() -> None:
    """SFT's own spread of lengths is no error, that of the changes is: here 0.24 +- 0 and 0.24 +- 0.04."""
    made = budgets()
    lengths = [10, 40] * (NUM // 2)
    made.start(answers(lengths, [0.0] * NUM), [YES] * NUM)
    assert made.exceeded(answers([length + 6 for length in lengths], [0.0] * NUM), [YES] * NUM) == []
    uneven = [length + (16 if i % 4 < 2 else -4) for i, length in enumerate(lengths)]
    assert made.exceeded(answers(uneven, [0.0] * NUM), [YES] * NUM) == ["length"]


def test_only_replies_that_end_have_a_length() -> None:
    """A fifth of SFT's is cut at 48 tokens: with it the mean is 25.6, and an equal length that ends is 0.22 below."""
    made, cut = budgets(), NUM // 5
    made.start(
        answers([48] * cut + [20] * (NUM - cut), [0.0] * NUM, ended=[False] * cut + [True] * (NUM - cut)), [YES] * NUM
    )
    made.params = made.params.model_copy(update={"length": 0.1})
    assert made.exceeded(answers([20] * NUM, [0.0] * NUM), [YES] * NUM) == []
    assert made.exceeded(answers([48] * cut + [15] * (NUM - cut), [0.0] * NUM), [YES] * NUM) == ["length"]


@pytest.mark.parametrize(("num_cut", "exceeded"), [(0, []), (6, []), (9, ["end_of_turn_rate"])])
def test_replies_may_not_end_less_often_by_a_margin(num_cut: int, exceeded: list[str]) -> None:
    """0.06 + 0.024 and 0.09 + 0.029, against the budget 0.1 for shares."""
    cut = answers([20] * NUM, [0.0] * NUM, ended=[False] * num_cut + [True] * (NUM - num_cut))
    assert budgets().exceeded(cut, [YES] * NUM) == exceeded


def test_replies_may_end_more_often() -> None:
    made = budgets()
    made.start(answers([20] * NUM, [0.0] * NUM, ended=[False, True] * (NUM // 2)), [YES] * NUM)
    assert made.exceeded(answers([20] * NUM, [0.0] * NUM), [YES] * NUM) == []


@pytest.mark.parametrize(("length", "exceeded"), [(20, []), (14, ["length"])])
def test_where_no_reply_ends_all_have_a_length(length: int, exceeded: list[str]) -> None:
    never = answers([length] * NUM, [0.0] * NUM, ended=[False] * NUM)
    assert budgets().exceeded(never, [YES] * NUM) == [*exceeded, "end_of_turn_rate"]


@pytest.mark.parametrize(("num_words", "exceeded"), [(1000, []), (60, []), (20, ["diversity"])])
def test_diversity(num_words: int, exceeded: list[str]) -> None:
    """Of the 475 pairs of the first 500 tokens, nearly all are distinct, then 0.94, then 0.59."""
    assert budgets().exceeded(answers([20] * NUM, [0.0] * NUM, num_words), [YES] * NUM) == exceeded


def test_diversity_does_not_depend_on_length() -> None:
    """Of all pairs of 6,000 tokens of 100 words, 0.76 are distinct; of those of 500 tokens, 0.98."""
    made = budgets()
    made.params = made.params.model_copy(update={"length": 10.0})
    assert made.exceeded(answers([60] * NUM, [0.0] * NUM, num_words=100), [YES] * NUM) == []


@pytest.mark.parametrize(
    ("num_asking_people", "num_asking", "exceeded"),
    [
        (0, 7, []),  # 0.07 + 0.026
        (0, 8, ["question_rate"]),  # 0.08 + 0.027
        (35, 35, []),
        (35, 40, []),  # 0.40 + 0.049
        (35, 41, ["question_rate"]),
        (35, 0, []),  # SFT's own
        (100, 100, []),
    ],
)
def test_a_share_may_leave_the_range_from_sft_to_people_by_a_margin(
    num_asking_people: int, num_asking: int, exceeded: list[str]
) -> None:
    human = [ASKS] * num_asking_people + [YES] * (NUM - num_asking_people)
    replies = [ASKS] * num_asking + [YES] * (NUM - num_asking)
    assert budgets(human).exceeded(answers([20] * NUM, [0.0] * NUM), replies) == exceeded


def test_a_share_may_also_be_too_low() -> None:
    made = budgets([GREETS] * NUM)
    made.start(answers([20] * NUM, [0.0] * NUM), [GREETS] * NUM)
    assert made.exceeded(answers([20] * NUM, [0.0] * NUM), [YES] * NUM) == ["greeting_rate"]


def test_with_one_conversation_nothing_is_known_about_others() -> None:
    made = Budgets([Prompt("c", [{"role": "user", "content": "Why?"}], [])] * 4, align_params().budgets)
    made.start(answers([20] * 4, [0.0] * 4), [YES] * 4)
    assert made.exceeded(answers([20] * 4, [0.0] * 4), [YES] * 4)


def test_the_state_restores_the_reference() -> None:
    made, restored = budgets(), Budgets(prompts([None] * NUM), budgets().params)
    restored.load_state(made.state())
    worse = answers([14] * NUM, [0.0] * NUM, ended=[True, False] * (NUM // 2)), [ASKS] * NUM
    assert restored.exceeded(*worse) == made.exceeded(*worse) == ["length", "question_rate", "end_of_turn_rate"]


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=40)
    clusters = [f"c{i}" for i in range(40)]
    error = jackknife_error(lambda rows: float(values[list(rows)].mean()), clusters)
    assert error == pytest.approx(clustered_mean(values.tolist(), clusters)[1], rel=1e-6)
    assert jackknife_error(lambda rows: 1.0, ["c0", "c0"]) == np.inf
