"""Best of n: sample n replies and keep the one with the highest reward. The baseline of alignment, without training.

The value of every n follows from one pool of N >= n replies per prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, log

import numpy as np

from groundup.core.judging.statistics import Floats
from groundup.core.model.branches import Branches
from groundup.core.model.generation import Sampler, ended_chats
from groundup.core.model.scoring import RewardScorer
from groundup.core.rollout.engine import RolloutEngine


@dataclass(frozen=True)
class ReplyPool:
    """N replies of one model to each of P prompts, in the order of the prompts."""

    tokens: list[list[list[int]]]  # [P][N]; ends with end-of-turn if the reply ended
    scores: Floats  # [P, N] of the reward model


def sample_pool(
    engine: RolloutEngine,
    scorer: RewardScorer,
    prompts: Sequence[Sequence[int]],
    num_replies: int,
    sampler: Sampler,
    seed: int,
    places: Sequence[int],
) -> ReplyPool:
    """`num_replies` to each prompt at `places`, as they would be drawn for all prompts, of the engine's weights.

    An unfinished reply is scored with an end-of-turn token added, as in PPO.
    """
    repeated = [prompt for prompt in prompts for _ in range(num_replies)]
    chosen = [place * num_replies + i for place in places for i in range(num_replies)]
    replies = engine.generate(repeated, seed, sampler, chosen)
    tails = ended_chats([[]] * len(chosen), replies.tokens, replies.ended, sampler.eos_token_id)
    starts = range(0, len(chosen), num_replies)
    chats = [
        Branches(list(prompts[place]), tails[start : start + num_replies])
        for place, start in zip(places, starts, strict=True)
    ]
    return ReplyPool(
        tokens=[replies.tokens[start : start + num_replies] for start in starts],
        scores=scorer.score_replies(chats)[0].double().numpy().reshape(len(places), num_replies),
    )


def best_of_n_values(rewards: Floats, values: Floats, n: int) -> Floats:
    """Expected value [P] of the best of n replies: `rewards` choose and `values` evaluate, [P, N] each.

    Unbiased for every n <= N: the mean over all subsets of n of the N replies (Nakano et al. 2021, arXiv:2112.09332,
    appendix I). Replies of equal reward share the mean of their values.
    """
    num_replies = rewards.shape[1]
    if not 1 <= n <= num_replies:
        raise ValueError(f"best of {n} needs a pool of at least {n} replies a prompt, got {num_replies}")
    total = comb(num_replies, n)
    # The reply of rank i (from 0, worst first) is the best of a subset if the other n - 1 are among the i below it.
    weights = np.array([comb(rank, n - 1) / total for rank in range(num_replies)])
    expected = np.empty(len(rewards))
    for row, (row_rewards, row_values) in enumerate(zip(rewards, values, strict=True)):
        order = np.argsort(row_rewards, kind="stable")
        _, group = np.unique(row_rewards[order], return_inverse=True)
        group_means = np.bincount(group, row_values[order]) / np.bincount(group)
        expected[row] = weights @ group_means[group]
    return expected


def best_of_n_kl(n: float) -> float:
    """KL to the sampling model, in nats per reply: log n - (n - 1) / n.

    An upper bound, tight while the n replies differ, and far too high once one reply has more than 1 / n of the
    probability (Beirami et al. 2024, arXiv:2401.01879).
    """
    return log(n) - (n - 1) / n


def nearest_n(kl: float, largest: int) -> int:
    """The n <= `largest` whose KL bound is nearest to `kl`."""
    return min(range(1, largest + 1), key=lambda n: abs(best_of_n_kl(n) - kl))
