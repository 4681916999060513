"""Sampling: exact log-probabilities, the same tokens as transformers, independence of batching."""

import pytest
import torch
from transformers import LlamaForCausalLM

from groundup.core.model.generation import Replies, Sampler, distinct_2, sample_tokens
from tests.core.model.variants import make_model

EOS, PAD = 1, 2
PROMPTS = [[7, 8, 9], [20, 30, 40, 50, 60, 70], [5], [100, 101, 102, 103], [9, 9], [33, 44, 55, 66, 77]]


def sample(
    model: LlamaForCausalLM,
    prompts: list[list[int]] = PROMPTS,
    temperature: float = 1.0,
    eos: int = EOS,
    seed: int = 0,
    batch_size: int = 64,
    max_new_tokens: int = 12,
) -> Replies:
    return Sampler(eos, PAD, max_new_tokens, temperature, batch_size).sample(model, prompts, seed)


def greedy_by_transformers(model: LlamaForCausalLM, prompt: list[int], eos: int) -> list[int]:
    ids = torch.tensor([prompt])
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=12,
        eos_token_id=eos,
        pad_token_id=PAD,
    )
    return output[0, len(prompt) :].tolist()


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_logprobs_equal_those_of_one_plain_forward_pass(tiny_model: LlamaForCausalLM, temperature: float) -> None:
    replies = sample(tiny_model, temperature=temperature)
    for prompt, reply, logprobs in zip(PROMPTS, replies.tokens, replies.logprobs, strict=True):
        logits = tiny_model(torch.tensor([prompt + reply])).logits[0]
        for position, (token, logprob) in enumerate(zip(reply, logprobs, strict=True)):
            expected = (logits[len(prompt) + position - 1] / temperature).log_softmax(-1)[token]
            assert logprob == pytest.approx(expected.item(), abs=1e-4)


def test_greedy_is_transformers_greedy_token_for_token(tiny_model: LlamaForCausalLM) -> None:
    # The fourth greedy token of the first prompt is end-of-turn, so that some replies end and rows are dropped.
    eos = greedy_by_transformers(tiny_model, PROMPTS[0], EOS)[3]
    expected = [greedy_by_transformers(tiny_model, prompt, eos) for prompt in PROMPTS]
    replies = sample(tiny_model, temperature=0, eos=eos)
    assert replies.tokens == expected
    assert replies.ended == [eos in reply for reply in expected]
    assert any(replies.ended)


@pytest.mark.parametrize(
    ("position", "attention"), [("sinusoidal", "softmax"), ("rope", "linear"), ("sinusoidal", "linear")]
)
@pytest.mark.parametrize("num_kv_heads", [4, 2])
def test_other_models_say_the_same_as_in_transformers(position: str, attention: str, num_kv_heads: int) -> None:
    """One prompt at a time, and together with left padding."""
    model = make_model(position, attention, num_kv_heads)
    prompts = [[7, 8, 9], [20, 30, 40, 50, 60, 10], [5], [33, 44, 55]]
    expected = [greedy_by_transformers(model, prompt, EOS) for prompt in prompts]
    width = max(len(prompt) for prompt in prompts)
    padded = torch.tensor([[PAD] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    batch = model.generate(
        padded, attention_mask=mask, do_sample=False, max_new_tokens=12, eos_token_id=EOS, pad_token_id=PAD
    )[:, width:].tolist()
    ours = sample(model, prompts=prompts, temperature=0).tokens
    assert ours == expected
    assert [row[: len(reply)] for row, reply in zip(batch, ours, strict=True)] == ours
    sampled = sample(model, prompts=prompts)
    for prompt, reply, logprobs in zip(prompts, sampled.tokens, sampled.logprobs, strict=True):
        logits = model(torch.tensor([prompt + reply])).logits[0, len(prompt) - 1 : -1]
        alone = logits.log_softmax(-1).gather(1, torch.tensor(reply)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(logprobs), alone, atol=1e-4, rtol=1e-4)


def test_suppressed_tokens_are_those_of_the_generation_config(tiny_model: LlamaForCausalLM) -> None:
    unwanted = sample(tiny_model, temperature=0).tokens[1][0]
    tiny_model.generation_config.suppress_tokens = [unwanted]
    greedy = sample(tiny_model, temperature=0)
    assert greedy.tokens == [greedy_by_transformers(tiny_model, prompt, EOS) for prompt in PROMPTS]
    assert all(unwanted not in reply for reply in greedy.tokens + sample(tiny_model).tokens)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_neither_padding_nor_batch_size_changes_a_reply(tiny_model: LlamaForCausalLM, batch_size: int) -> None:
    together, apart = sample(tiny_model), sample(tiny_model, batch_size=batch_size)
    assert together.tokens == apart.tokens
    for row, other in zip(together.logprobs, apart.logprobs, strict=True):
        assert row == pytest.approx(other, abs=1e-4)


def test_a_prompt_alone_gets_the_reply_it_gets_in_company(tiny_model: LlamaForCausalLM) -> None:
    first = sample(tiny_model, prompts=PROMPTS[:1]).tokens[0]
    assert sample(tiny_model).tokens[0] == first


def test_the_seed_decides(tiny_model: LlamaForCausalLM) -> None:
    assert sample(tiny_model, seed=3) == sample(tiny_model, seed=3)
    assert sample(tiny_model, seed=3).tokens != sample(tiny_model, seed=4).tokens


def test_ended_replies_stop_at_end_of_turn_and_others_at_the_limit(tiny_model: LlamaForCausalLM) -> None:
    eos = sample(tiny_model).tokens[2][4]
    replies = sample(tiny_model, eos=eos)
    assert replies.ended[2]
    for reply, logprobs, ended in zip(replies.tokens, replies.logprobs, replies.ended, strict=True):
        assert len(reply) == len(logprobs)
        assert (eos in reply) == ended
        assert reply.index(eos) == len(reply) - 1 if ended else len(reply) == 12


def test_one_token_limit(tiny_model: LlamaForCausalLM) -> None:
    assert [len(reply) for reply in sample(tiny_model, max_new_tokens=1).tokens] == [1] * len(PROMPTS)


def test_no_prompts_no_replies(tiny_model: LlamaForCausalLM) -> None:
    assert sample(tiny_model, prompts=[]) == Replies([], [], [])


def test_sample_tokens_cuts_the_unit_interval_in_shares_of_probability() -> None:
    distribution = torch.tensor([0.2, 0.0, 0.5, 0.3])
    uniforms = torch.tensor([0.0, 0.19, 0.21, 0.69, 0.71, 1 - 2**-53], dtype=torch.float64)
    assert sample_tokens(distribution.expand(6, 4), uniforms).tolist() == [0, 0, 2, 2, 3, 3]


def test_sample_tokens_finds_the_token_in_any_block() -> None:
    """A vocabulary that is not a multiple of a block, and tokens without probability, including the last ones."""
    generator = torch.Generator().manual_seed(0)
    shares = torch.rand(1, 1000, generator=generator).pow(4)
    shares[:, 100:300] = shares[:, 640:704] = shares[:, 990:] = 0
    uniforms = torch.cat([torch.rand(5000, generator=generator, dtype=torch.float64), torch.tensor([0, 1 - 2**-53])])
    cumulative = shares.double().cumsum(-1)
    expected = torch.searchsorted(cumulative[0], uniforms * cumulative[0, -1], right=True)
    drawn = sample_tokens(shares.expand(len(uniforms), -1), uniforms)
    assert bool((shares[0, drawn] > 0).all())
    assert drawn[-2:].tolist() == [0, 989]
    assert int((drawn != expected).sum()) <= 2  # fp32 sums of blocks: a number may be on the other side of a border


@pytest.mark.parametrize("spoilt", [slice(None), slice(70, 71)])
def test_sample_tokens_refuses_what_is_no_distribution(spoilt: slice) -> None:
    shares = torch.ones(2, 100)
    shares[1, spoilt] = torch.nan
    with pytest.raises(ValueError, match="diverged"):
        sample_tokens(shares, torch.full((2,), 0.5, dtype=torch.float64))


def test_sampled_frequencies_are_the_probabilities(tiny_model: LlamaForCausalLM) -> None:
    replies = sample(tiny_model, prompts=[[7, 8, 9]] * 4000, max_new_tokens=1, batch_size=1000)
    counts = torch.bincount(torch.tensor(replies.tokens)[:, 0], minlength=tiny_model.config.vocab_size)
    probabilities = tiny_model(torch.tensor([[7, 8, 9]])).logits[0, -1].softmax(-1)
    error = (counts / 4000 - probabilities).abs()
    assert bool((error < 5 * (probabilities / 4000).sqrt() + 1e-3).all())


def test_distinct_2_counts_bigrams_within_replies() -> None:
    # (1,2) (2,1) (1,2) and (2,1): two kinds of four
    assert distinct_2([[1, 2, 1, 2], [2, 1]], num_tokens=100) == 2 / 4
    assert distinct_2([[1, 2, 3]], num_tokens=100) == 1
    assert distinct_2([[1], []], num_tokens=100) == 0


@pytest.mark.parametrize(("num_tokens", "share"), [(8, 3 / 5), (6, 2 / 4), (5, 2 / 3), (4, 2 / 3), (3, 1.0), (1, 0.0)])
def test_distinct_2_reads_the_first_tokens_alone(num_tokens: int, share: float) -> None:
    assert distinct_2([[1, 2, 1, 2], [2, 1], [7, 8, 9]], num_tokens) == share
