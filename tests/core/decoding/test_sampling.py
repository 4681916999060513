"""The tokens of transformers' greedy search, the shares that each filter leaves, and independent rows."""

import pytest
import torch
from transformers import LogitsProcessorList
from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

from groundup.core.decoding.assistant import Assistant
from groundup.core.decoding.sampling import choose, extend, stream
from tests.core.decoding.conftest import decoding

PROMPTS = [[7, 8, 9], [20, 30, 40, 50, 60, 70], [33, 44, 55, 66, 77]]
PROBABILITIES = [0.05, 0.5, 0.2, 0.15, 0.1]


def transformers_greedy(assistant: Assistant, prompt: list[int], penalty: float) -> list[int]:
    ids = torch.tensor([prompt])
    output = assistant.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        logits_processor=LogitsProcessorList(
            [RepetitionPenaltyLogitsProcessor(penalty, prompt_ignore_length=len(prompt))]
        ),
        do_sample=False,
        max_new_tokens=12,
        eos_token_id=assistant.tokenizer.eos_token_id,
        pad_token_id=assistant.tokenizer.pad_token_id,
    )
    return output[0, len(prompt) :].tolist()


@pytest.mark.parametrize("penalty", [1.0, 1.5])
def test_greedy_is_transformers_greedy(assistant: Assistant, penalty: float) -> None:
    replies = [list(stream(assistant, p, decoding("greedy", repetition_penalty=penalty))) for p in PROMPTS]
    assert replies == [transformers_greedy(assistant, p, penalty) for p in PROMPTS]
    hottest = decoding("sample", temperature=0.0, repetition_penalty=penalty)
    assert [list(stream(assistant, p, hottest)) for p in PROMPTS] == replies


def test_a_penalty_ends_a_loop(assistant: Assistant) -> None:
    with torch.no_grad():
        assistant.model.lm_head.weight.zero_()
    assert len(set(stream(assistant, [7], decoding("greedy")))) == 1
    # All logits are 0, which no factor changes; below 0, every token already in the reply falls behind the others.
    logits = torch.full((1, 5), -1.0)
    written = torch.tensor([[0, 1, 3]])
    assert choose(assistant.model, logits, written, torch.zeros(1), decoding("greedy", repetition_penalty=2.0)) == 2


def shares(assistant: Assistant, **settings: float) -> list[float]:
    """The share of each of five tokens over evenly spread numbers."""
    logits = torch.tensor(PROBABILITIES).log().repeat(1000, 1)
    uniforms = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    written = torch.empty(1000, 0, dtype=torch.long)
    tokens = choose(assistant.model, logits, written, uniforms, decoding("sample", **settings))
    return (torch.bincount(tokens, minlength=5) / 1000).tolist()


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"top_k": 2}, [1, 2]),
        ({"top_k": 99}, [0, 1, 2, 3, 4]),
        ({"top_p": 0.75}, [1, 2, 3]),  # the first two hold 0.7
        ({"top_p": 0.01}, [1]),
        ({"min_p": 0.25}, [1, 2, 3]),  # at least 0.125
        ({"top_k": 4, "min_p": 0.35}, [1, 2]),
    ],
)
def test_filters_leave_the_shares_of_what_they_keep(
    assistant: Assistant, settings: dict[str, float], kept: list[int]
) -> None:
    total = sum(PROBABILITIES[token] for token in kept)
    expected = [PROBABILITIES[token] / total if token in kept else 0.0 for token in range(5)]
    assert shares(assistant, **settings) == pytest.approx(expected, abs=2e-3)


def test_temperature_sharpens(assistant: Assistant) -> None:
    squares = [p**2 for p in PROBABILITIES]
    assert shares(assistant, temperature=0.5) == pytest.approx([s / sum(squares) for s in squares], abs=2e-3)


def test_suppressed_tokens_are_never_chosen(assistant: Assistant) -> None:
    assistant.model.generation_config.suppress_tokens = [1]
    assert shares(assistant)[1] == 0.0
    assert shares(assistant, top_k=1)[2] == 1.0


def test_a_row_is_what_it_is_alone_and_goes_on_where_it_stopped(assistant: Assistant) -> None:
    settings = decoding("sample", repetition_penalty=1.3, top_p=0.9)
    uniforms = torch.rand(6, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    starts = [[5], [], [9, 11, 5]]

    def long(reply: list[int]) -> bool:
        return len(reply) >= 12 or reply[-1] % 7 == 0  # so that rows leave at different times

    together = extend(assistant, PROMPTS[1], starts, [0, 0, 1, 1, 2, 2], long, uniforms, settings)
    assert len({len(reply) for reply in together}) > 1
    for row, start in enumerate([0, 0, 1, 1, 2, 2]):
        assert together[row][: len(starts[start])] == starts[start]
        alone = extend(assistant, PROMPTS[1], [starts[start]], [0], long, uniforms[row : row + 1], settings)
        assert alone == [together[row]]
        cut = len(starts[start]) + 1
        first = together[row][:cut]
        if len(together[row]) > cut:
            rest = extend(assistant, PROMPTS[1], [first], [0], long, uniforms[row : row + 1, 1:], settings)
            assert rest == [together[row]]


def test_stream_is_a_row_of_the_same_numbers(assistant: Assistant) -> None:
    settings = decoding("sample")
    uniforms = torch.rand(1, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def ended(reply: list[int]) -> bool:
        return reply[-1] == assistant.tokenizer.eos_token_id

    assert [list(stream(assistant, PROMPTS[0], settings))] == extend(
        assistant, PROMPTS[0], [[]], [0], ended, uniforms, settings
    )
    other = settings.model_copy(update={"seed": 4})
    assert list(stream(assistant, PROMPTS[0], other)) != list(stream(assistant, PROMPTS[0], settings))
