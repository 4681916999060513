"""Best of n: the estimate against all subsets, the KL against the distribution, pools that repeat."""

from itertools import combinations, product
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.core.model.generation import Sampler
from groundup.core.model.llama import save_model
from groundup.core.model.scoring import RewardScorer
from groundup.core.rollout.best_of_n import best_of_n_kl, best_of_n_values, nearest_n, sample_pool
from groundup.core.rollout.engine import Builtin, Source

EOS, PAD = 1, 2


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_values_are_the_mean_over_all_subsets(n: int) -> None:
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(4, 6)), rng.normal(size=(4, 6))
    expected = [
        np.mean([row_values[max(subset, key=row_rewards.__getitem__)] for subset in combinations(range(6), n)])
        for row_rewards, row_values in zip(rewards, values, strict=True)
    ]
    assert best_of_n_values(rewards, values, n) == pytest.approx(np.array(expected))


def test_replies_of_equal_reward_are_drawn_evenly() -> None:
    rewards, values = np.array([[1.0, 1.0, 0.0]]), np.array([[4.0, 8.0, 0.0]])
    assert best_of_n_values(rewards, values, 3) == pytest.approx([6.0])
    # Subsets of two: both winners (6), the first (4), the second (8).
    assert best_of_n_values(rewards, values, 2) == pytest.approx([6.0])


def test_best_of_one_is_the_mean_and_best_of_all_the_best() -> None:
    rewards = np.array([[0.0, 2.0, 1.0], [5.0, 3.0, 4.0]])
    assert best_of_n_values(rewards, rewards, 1) == pytest.approx([1.0, 4.0])
    assert best_of_n_values(rewards, rewards, 3) == pytest.approx([2.0, 5.0])


@pytest.mark.parametrize("n", [0, 4])
def test_n_beyond_the_pool_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match=rf"best of {n} needs a pool of at least {n} replies a prompt, got 3"):
        best_of_n_values(np.zeros((1, 3)), np.zeros((1, 3)), n)


def exact_kl(probabilities: list[float], n: int) -> float:
    """By enumeration; the outcomes are ordered by reward."""
    chosen = np.zeros(len(probabilities))
    for draws in product(range(len(probabilities)), repeat=n):
        chosen[max(draws)] += np.prod([probabilities[i] for i in draws])
    return float(sum(p * log(p / q) for p, q in zip(chosen, probabilities, strict=True)))


@pytest.mark.parametrize("n", [1, 2, 4])
def test_kl_bound_holds_and_is_close_while_replies_differ(n: int) -> None:
    assert exact_kl([0.5, 0.3, 0.2], n) <= best_of_n_kl(n) + 1e-12
    assert exact_kl([0.05] * 20, n) == pytest.approx(best_of_n_kl(n), abs=0.1)


def test_kl_on_literals() -> None:
    assert best_of_n_kl(1) == 0
    assert best_of_n_kl(4) == pytest.approx(1.3862943611 - 0.75)


def test_nearest_n_inverts_the_kl() -> None:
    assert [nearest_n(best_of_n_kl(n), 64) for n in (1, 2, 7, 64)] == [1, 2, 7, 64]
    assert nearest_n(50.0, 16) == 16
    assert nearest_n(-1.0, 16) == 1


@pytest.fixture
def scorer(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> RewardScorer:
    save_model(tiny_model, tiny_tokenizer, tmp_path / "sft", "# SFT model\n")
    torch.manual_seed(1)
    return RewardScorer(AutoModelForSequenceClassification.from_pretrained(tmp_path / "sft", num_labels=1))


def test_a_pool_holds_scored_replies_of_every_prompt(tiny_model: LlamaForCausalLM, scorer: RewardScorer) -> None:
    prompts = [[7, 8, 9], [20, 30]]
    sampler = Sampler(EOS, PAD, max_new_tokens=5, temperature=1.0, batch_size=4)
    engine = Builtin()
    engine.push(Source.whole(tiny_model))
    pool = sample_pool(engine, scorer, prompts, 3, sampler, seed=5, places=range(len(prompts)))
    repeated = [prompts[0]] * 3 + [prompts[1]] * 3
    replies = sampler.sample(tiny_model, repeated, seed=5)
    assert pool.tokens == [replies.tokens[:3], replies.tokens[3:]]
    last = repeated[5] + pool.tokens[1][2] + ([] if replies.ended[5] else [EOS])
    assert pool.scores[1, 2] == pytest.approx(scorer.score([last])[0].item(), abs=1e-5)
