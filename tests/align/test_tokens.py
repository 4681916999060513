"""Replies as tensors: the figures of a token do not depend on its batch."""

from dataclasses import replace

import pytest
import torch
from transformers import LlamaForCausalLM

from groundup.align.policy import ValueModel
from groundup.align.tokens import Conversations, token_logprobs, token_values

CONVERSATIONS = Conversations([[7, 8, 9], [5], [20, 30, 40, 50]], [[11, 1], [12, 13, 14, 1], [15]])
CPU = torch.device("cpu")


def test_batches_go_by_length_and_lose_nothing() -> None:
    rows = [rows for rows, _ in CONVERSATIONS.batches([2, 0, 1], batch_size=2, device=CPU)]
    assert rows == [[2, 0], [1]]


def test_collation_literal() -> None:
    ((_, batch),) = CONVERSATIONS.batches([0, 1], batch_size=2, device=CPU)
    assert batch.ids.tolist() == [7, 8, 9, 11, 1, 5, 12, 13, 14, 1]
    assert batch.attention.positions.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    assert batch.before.tolist() == [2, 3, 5, 6, 7, 8]
    assert batch.targets.tolist() == [11, 1, 12, 13, 14, 1]
    assert batch.mask.tolist() == [[True, True, False, False], [True] * 4]
    assert batch.by_reply(torch.arange(6.0)).tolist() == [[0, 1, 0, 0], [2, 3, 4, 5]]


def test_logprobs_and_entropy_equal_the_loop(tiny_model: LlamaForCausalLM) -> None:
    ((rows, batch),) = CONVERSATIONS.batches(range(3), batch_size=3, device=CPU)
    logprobs, entropy = token_logprobs(tiny_model, batch, temperature=0.7)
    for row, i in enumerate(rows):
        prompt, reply = CONVERSATIONS.prompts[i], CONVERSATIONS.replies[i]
        logits = tiny_model(torch.tensor([[*prompt, *reply]])).logits[0] / 0.7
        for t, token in enumerate(reply):
            distribution = logits[len(prompt) + t - 1].softmax(-1)
            assert logprobs[row, t].item() == pytest.approx(distribution[token].log().item(), abs=1e-4)
            expected = -(distribution * distribution.log()).sum().item()
            assert entropy[row, t].item() == pytest.approx(expected, abs=1e-4)
        assert not logprobs[row, len(reply) :].any()


def test_suppressed_tokens_leave_entropy_and_gradients_finite(tiny_model: LlamaForCausalLM) -> None:
    tiny_model.generation_config.suppress_tokens = [0, 2, 3]
    ((_, batch),) = CONVERSATIONS.batches(range(3), batch_size=3, device=CPU)
    logprobs, entropy = token_logprobs(tiny_model, batch, temperature=1.0)
    (logprobs.sum() + entropy.sum()).backward()
    assert all(bool(p.grad.isfinite().all()) for p in tiny_model.parameters() if p.grad is not None)


def test_gradients_equal_those_of_the_stock_forward_pass(tiny_model: LlamaForCausalLM) -> None:
    ((rows, batch),) = CONVERSATIONS.batches(range(3), batch_size=3, device=CPU)
    token_logprobs(tiny_model, batch, temperature=1.0)[0].sum().backward()
    ours = {name: p.grad.clone() for name, p in tiny_model.named_parameters()}
    tiny_model.zero_grad()
    for i in rows:
        prompt, reply = CONVERSATIONS.prompts[i], CONVERSATIONS.replies[i]
        logits = tiny_model(torch.tensor([[*prompt, *reply]])).logits[0, len(prompt) - 1 : -1]
        logits.log_softmax(-1).gather(1, torch.tensor(reply)[:, None]).sum().backward()
    for name, parameter in tiny_model.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, atol=1e-4, rtol=1e-4, msg=name)


def test_values_are_those_before_the_token(tiny_model: LlamaForCausalLM) -> None:
    value_model = ValueModel(tiny_model)
    torch.nn.init.normal_(value_model.head.linear.weight)
    ((rows, batch),) = CONVERSATIONS.batches(range(3), batch_size=3, device=CPU)
    values = token_values(value_model, batch)
    for row, i in enumerate(rows):
        prompt, reply = CONVERSATIONS.prompts[i], CONVERSATIONS.replies[i]
        for t in range(len(reply)):
            hidden = value_model.trunk(torch.tensor([[*prompt, *reply[:t]]])).last_hidden_state[0, -1:]
            assert values[row, t].item() == pytest.approx(value_model.head(hidden).item(), abs=1e-4)


def test_a_batch_has_the_features_of_its_rows() -> None:
    features = torch.arange(3 * 4 * 2.0).view(3, 4, 2)
    conversations = replace(CONVERSATIONS, features=features)
    ((_, batch),) = conversations.batches([2, 0], batch_size=2, device=CPU)
    assert batch.features.tolist() == [*features[2, :1].tolist(), *features[0, :2].tolist()]
