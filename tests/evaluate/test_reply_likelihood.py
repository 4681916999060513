import pytest
import torch
from transformers import LlamaForCausalLM

from groundup.core.model.branches import Branches
from groundup.core.model.likelihood import Stretch, own_distribution, stretch_nats
from groundup.evaluate.reply_likelihood import branch_scores


@pytest.mark.parametrize("head_rows", [1, 4, 1024])
def test_replies_that_share_a_prompt_score_as_if_each_stood_alone(
    head_rows: int, tiny_model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("groundup.evaluate.reply_likelihood.HEAD_ROWS", head_rows)
    items = [
        Branches([5, 9, 11], [[20, 21, 22], [23], [24, 25]]),
        Branches([7], [[30, 31, 32, 33, 34, 35, 36], [37, 38]]),
        Branches([12, 13, 14, 15, 16, 17], [[40, 41]]),
    ]
    alone = [
        [stretch_nats(tiny_model, [Stretch(i.prompt + r, len(r))], 1, own_distribution)[0] for r in i.replies]
        for i in items
    ]
    together = branch_scores(tiny_model, items, batch_size=2)
    for expected, actual in zip(alone, together, strict=True):
        assert [score.nats for score in actual] == pytest.approx(expected, abs=1e-4)


def test_greedy_is_a_reply_of_likeliest_tokens_alone(tiny_model: LlamaForCausalLM) -> None:
    def likeliest(ids: list[int]) -> int:
        return int(tiny_model(torch.tensor([ids])).logits[0, -1].argmax())

    prompt = [5, 9, 11]
    first = likeliest(prompt)
    second = likeliest([*prompt, first])
    replies = [[first, second], [first, second + 1], [first + 1, second], [first]]
    (scores,) = branch_scores(tiny_model, [Branches(prompt, replies)], batch_size=1)
    assert [score.greedy for score in scores] == [True, False, False, True]
