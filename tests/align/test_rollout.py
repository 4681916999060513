"""Scores of replies, there and elsewhere; with a shared trunk, one pass also gives the value head its features."""

import pytest
import torch
from transformers import LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

from groundup.align.policy import Policy, SharedTrunkValue
from groundup.align.rollout import Rollout, RolloutWorker, other_prompts
from groundup.align.tokens import token_values
from groundup.core.model.scoring import RewardScorer
from groundup.core.rollout.engine import Builtin
from tests.align.conftest import align_params

PROMPTS = [[7, 8, 9], [5], [20, 30, 40, 50], [11, 12]]


@pytest.fixture
def scorer(tiny_model: LlamaForCausalLM) -> RewardScorer:
    torch.manual_seed(0)
    config = type(tiny_model.config)(**tiny_model.config.to_dict() | {"num_labels": 1})
    model = LlamaForSequenceClassification(config)
    torch.nn.init.normal_(model.score.weight)
    return RewardScorer(model.requires_grad_(False))


def roll_out(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, scorer: RewardScorer, value_trunk: str
) -> Rollout:
    worker = RolloutWorker(
        Policy(model, None), scorer, tokenizer, align_params(ppo={"value_trunk": value_trunk}), Builtin()
    )
    return worker.roll_out(model, PROMPTS, seed=0)


def test_rewards_do_not_depend_on_where_the_values_come_from(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, scorer: RewardScorer
) -> None:
    separate, shared = (roll_out(tiny_model, tiny_tokenizer, scorer, trunk) for trunk in ("separate", "shared"))
    assert separate.replies == shared.replies
    torch.testing.assert_close(separate.scores, shared.scores, atol=1e-5, rtol=1e-5)
    chats = [
        [*prompt, *reply, *([] if ended else [tiny_tokenizer.eos_token_id])]
        for prompt, reply, ended in zip(PROMPTS, shared.replies.tokens, shared.replies.ended, strict=True)
    ]
    torch.testing.assert_close(shared.scores, scorer.score(chats)[0], atol=1e-5, rtol=1e-5)
    assert separate.conversations.features is None


def test_features_are_the_reward_models_before_each_token_and_values_learn_from_them(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, scorer: RewardScorer
) -> None:
    rollout = roll_out(tiny_model, tiny_tokenizer, scorer, "shared")
    for i, (prompt, reply) in enumerate(zip(PROMPTS, rollout.replies.tokens, strict=True)):
        whole = scorer.model.model(torch.tensor([prompt + reply])).last_hidden_state[0]
        features = rollout.conversations.features[i, : len(reply)]
        torch.testing.assert_close(features, whole[len(prompt) - 1 : -1], atol=1e-4, rtol=1e-4)
    value = SharedTrunkValue(tiny_model.config.hidden_size)
    optimizer = torch.optim.Adam(value.parameters(), lr=1e-2)
    ((rows, batch),) = rollout.conversations.batches(range(4), batch_size=4, device=torch.device("cpu"))
    target = torch.randn(batch.mask.shape) * batch.mask
    errors = []
    for _ in range(100):
        error = (token_values(value, batch) - target).square().sum()
        errors.append(error.item())
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert len(rows) == 4
    assert errors[-1] < 0.1 * errors[0]
    assert all(parameter.grad is None for parameter in scorer.model.parameters())


def test_other_prompts_are_the_same_for_all_replies_to_a_prompt() -> None:
    assert other_prompts([[1], [2], [3], [4]], 3) == [
        [(2,), (3,), (4,), (1,)],
        [(3,), (4,), (1,), (2,)],
        [(4,), (1,), (2,), (3,)],
    ]
    assert other_prompts([[1], [1], [2], [2], [3], [3]], 1) == [[(2,), (2,), (3,), (3,), (1,), (1,)]]
    assert other_prompts([[1], [2], [3], [4]], 1) == [[(3,), (4,), (1,), (2,)]]


def test_with_few_prompts_there_are_fewer_others() -> None:
    assert other_prompts([[1], [2]], 4) == [[(2,), (1,)]]
    assert other_prompts([[1], [1]], 4) == []
    assert other_prompts([[1], [2]], 0) == []


@pytest.mark.parametrize("value_trunk", ["separate", "shared"])
def test_what_a_reply_scores_elsewhere_is_taken_off(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, scorer: RewardScorer, value_trunk: str
) -> None:
    params = align_params(ppo={"value_trunk": value_trunk}, rollout={"num_elsewhere": 3})
    worker = RolloutWorker(Policy(tiny_model, None), scorer, tiny_tokenizer, params, Builtin())
    rollout = worker.roll_out(tiny_model, PROMPTS, seed=0)
    replies, ended = rollout.replies.tokens, rollout.replies.ended
    end = tiny_tokenizer.eos_token_id

    def score(prompt: list[int], i: int) -> torch.Tensor:
        return scorer.score([[*prompt, *replies[i], *([] if ended[i] else [end])]])[0][0]

    for i, prompt in enumerate(PROMPTS):
        elsewhere = [score(other, i) for other in PROMPTS if other != prompt]
        torch.testing.assert_close(rollout.scores[i], score(prompt, i) - sum(elsewhere) / 3, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(worker.score(PROMPTS, replies, ended)[0], rollout.scores, atol=1e-5, rtol=1e-5)


def test_a_score_of_the_reply_alone_is_worth_nothing(
    tiny_model: LlamaForCausalLM,
    tiny_tokenizer: PreTrainedTokenizerFast,
    scorer: RewardScorer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = RolloutWorker(
        Policy(tiny_model, None), scorer, tiny_tokenizer, align_params(rollout={"num_elsewhere": 2}), Builtin()
    )
    lengths = {tuple(reply): float(len(reply)) for reply in ([9], [9, 8], [9, 8, 7], [9, 8, 7, 6])}

    def of_the_reply(chats: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        scores = [next(x for reply, x in lengths.items() if tuple(chat[-len(reply) :]) == reply) for chat in chats]
        return torch.tensor(scores), torch.zeros(len(chats))

    monkeypatch.setattr(scorer, "score", of_the_reply)
    monkeypatch.setattr(scorer, "score_replies", lambda items: of_the_reply([x for i in items for x in i.replies]))
    scores, _ = worker.score(PROMPTS, [list(reply) for reply in lengths], [True] * 4)
    assert scores.tolist() == [0.0] * 4
