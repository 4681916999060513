"""Scores equal those of the stock model, whatever the batch."""

import pytest
import torch
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from groundup.core.model.branches import Branches
from groundup.core.model.scoring import RewardScorer, token_batches

CHATS = [[7, 8, 9, 11, 1], [5, 1], [20, 30, 40, 50, 60, 70, 1], [3, 9, 1]]


@pytest.fixture
def reward_model(tiny_model: LlamaForCausalLM) -> LlamaForSequenceClassification:
    torch.manual_seed(0)
    config = type(tiny_model.config)(**tiny_model.config.to_dict() | {"num_labels": 1, "pad_token_id": 2})
    model = LlamaForSequenceClassification(config)
    torch.nn.init.normal_(model.score.weight)
    return model.eval()


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_scores_equal_the_stock_forward_pass(reward_model: LlamaForSequenceClassification, batch_size: int) -> None:
    mean, std = RewardScorer(reward_model, batch_size).score(CHATS)
    expected = torch.cat([reward_model(torch.tensor([chat])).logits[:, 0] for chat in CHATS])
    torch.testing.assert_close(mean, expected, atol=1e-4, rtol=1e-4)
    assert not std.any()


def test_one_pass_gives_the_scores_and_the_hidden_states_before_them(
    reward_model: LlamaForSequenceClassification,
) -> None:
    scorer = RewardScorer(reward_model, batch_size=3)
    hidden = scorer.hidden(CHATS, [3, 1, 7, 2])
    for chat, num_last, states in zip(CHATS, [3, 1, 7, 2], hidden, strict=True):
        whole = reward_model.model(torch.tensor([chat])).last_hidden_state[0]
        torch.testing.assert_close(states, whole[-num_last:], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scorer.read(hidden)[0], scorer.score(CHATS)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_replies_to_one_conversation_score_as_whole_chats(
    reward_model: LlamaForSequenceClassification, batch_size: int
) -> None:
    chats = [[7, 8, 9, 11, 1], [7, 8, 9, 12, 13, 1], [7, 8, 1], [5, 1], [20, 30, 40, 1], [20, 30, 41, 1]]
    scorer = RewardScorer(reward_model, batch_size)
    items = [Branches.of(chats[:3]), Branches.of(chats[3:4]), Branches.of(chats[4:])]
    assert sum(item.num_tokens for item in items) == 10 + 2 + 6  # of 24
    torch.testing.assert_close(scorer.score_replies(items)[0], scorer.score(chats)[0], atol=1e-5, rtol=1e-5)


def test_a_batch_is_bounded_in_items_and_in_tokens() -> None:
    assert token_batches([5, 3, 4, 1], batch_size=3) == [[3, 1, 2], [0]]
    assert token_batches([3000, 1000, 90, 9000, 7], batch_size=16) == [[4, 2, 1], [0], [3]]
    assert token_batches([], batch_size=16) == []


def test_scores_are_not_rounded_under_autocast(reward_model: LlamaForSequenceClassification) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        rounded, _ = RewardScorer(reward_model).score(CHATS)
    exact, _ = RewardScorer(reward_model).score(CHATS)
    torch.testing.assert_close(rounded, exact, atol=0.1, rtol=0.1)
    assert not rounded.equal(exact)
    assert not rounded.equal(rounded.bfloat16().float())


def test_no_chats_no_scores(reward_model: LlamaForSequenceClassification) -> None:
    scorer = RewardScorer(reward_model)
    assert [x.tolist() for x in (*scorer.score([]), *scorer.score_replies([]))] == [[]] * 4


def test_a_model_that_has_diverged_is_named(reward_model: LlamaForSequenceClassification) -> None:
    torch.nn.init.constant_(reward_model.score.weight, float("nan"))
    with pytest.raises(ValueError, match="4 of 4 chats as NaN"):
        RewardScorer(reward_model).score(CHATS)
