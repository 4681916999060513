"""Against the most likely of all replies, found by enumeration."""

import pytest
import torch

from groundup.core.decoding.assistant import Assistant
from groundup.core.decoding.beam import beam_search
from groundup.core.decoding.reply import reply_to_prompt
from groundup.core.decoding.sampling import stream
from tests.core.decoding.conftest import decoding

PROMPTS = [[7, 8, 9], [20, 30, 40, 50, 60, 70], [33, 44, 55, 66, 77]]


@pytest.fixture(autouse=True)
def sure_of_itself(assistant: Assistant) -> None:
    """A random model gives all tokens nearly equal probability, and beams are too narrow for that many."""
    with torch.no_grad():
        assistant.model.model.norm.weight.mul_(8)


def likeliest(assistant: Assistant, prompt: list[int]) -> tuple[list[int], float]:
    """Of all replies of two tokens, and of those that end at once."""
    eos = assistant.tokenizer.eos_token_id
    with torch.no_grad():
        first = assistant.model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
        ids = torch.tensor([[*prompt, token] for token in range(len(first))])
        second = assistant.model(ids).logits[:, -1].log_softmax(-1)
    both = first[:, None] + second
    both[eos] = -torch.inf
    token, following = divmod(int(both.argmax()), len(first))
    if first[eos] >= both.max():
        return [eos], first[eos].item()
    return [token, following], both.max().item()


@pytest.mark.parametrize("prompt", PROMPTS)
def test_wide_beams_find_the_likeliest_reply(assistant: Assistant, prompt: list[int]) -> None:
    tokens, log_prob = likeliest(assistant, prompt)
    found = reply_to_prompt(assistant, prompt, decoding("beam", num_beams=48, max_new_tokens=2))
    assert found.token_ids == tokens
    assert found.log_prob == pytest.approx(log_prob, abs=1e-4)
    assert found.num_generated <= 96


def test_the_likeliest_reply_may_end_at_once(assistant: Assistant) -> None:
    """No reward for length: an almost certain end-of-turn beats every longer reply."""
    eos = assistant.tokenizer.eos_token_id
    bias = torch.zeros(assistant.model.config.vocab_size)
    bias[eos] = 100.0
    assistant.model.lm_head.bias = torch.nn.Parameter(bias)
    assert beam_search(assistant, PROMPTS[0], decoding("beam"))[0] == [eos]


def test_one_beam_is_greedy_and_more_find_at_least_its_log_probability(assistant: Assistant) -> None:
    better = 0
    for prompt in PROMPTS:
        greedy = reply_to_prompt(assistant, prompt, decoding("greedy"))
        one, spent = beam_search(assistant, prompt, decoding("beam", num_beams=1))
        assert one == greedy.token_ids
        assert spent == len(one)
        beam = reply_to_prompt(assistant, prompt, decoding("beam", num_beams=8))
        assert beam.log_prob >= greedy.log_prob
        better += beam.log_prob > greedy.log_prob
    assert better > 0


def test_a_penalty_does_not_count_the_prompt(assistant: Assistant) -> None:
    penalised = decoding("greedy", repetition_penalty=5.0)
    for prompt in PROMPTS:
        repeated = [*prompt, *stream(assistant, prompt, decoding("greedy"))]  # all that it would like to say
        expected = list(stream(assistant, repeated, penalised))
        assert beam_search(assistant, repeated, decoding("beam", num_beams=1, repetition_penalty=5.0))[0] == expected


def test_suppressed_tokens_take_no_probability(assistant: Assistant) -> None:
    tokens = beam_search(assistant, PROMPTS[0], decoding("beam"))[0]
    assistant.model.generation_config.suppress_tokens = tokens[:1]
    found = reply_to_prompt(assistant, PROMPTS[0], decoding("beam"))
    assert not set(tokens[:1]) & set(found.token_ids)
    with torch.no_grad():
        logits = assistant.model(torch.tensor([[*PROMPTS[0], *found.token_ids]])).logits[0, 2:-1]
    logits[:, tokens[0]] = -torch.inf
    expected = logits.log_softmax(-1).gather(1, torch.tensor(found.token_ids)[:, None]).sum()
    assert found.log_prob == pytest.approx(expected.item(), abs=1e-4)
