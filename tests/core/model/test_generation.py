"""Sampling: exact log-probabilities, the same tokens as transformers, independence of batching."""

from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from groundup.align.tokens import Conversations, token_logprobs
from groundup.core.model.added_tokens import add_tokens
from groundup.core.model.cache import prefill_fast
from groundup.core.model.generation import (
    Replies,
    Sampler,
    counted_sums,
    distinct_2,
    distinct_2_by_segment,
    sample_tokens,
)
from groundup.core.training.adapters import add_adapter
from groundup.runner.params.training import LoraParams
from tests.core.model.variants import make_model
from tests.families import family_model

EOS, PAD = 1, 2
BF16_TOLERANCE = 0.05  # nats per token
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


def test_large_weights_give_the_same_replies(tiny_model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their products are oneDNN's, the head's too."""
    plain = sample(tiny_model)
    monkeypatch.setattr("groundup.core.model.projection.PACKED_NUMBERS", 1)
    packed = sample(tiny_model)
    assert packed.tokens == plain.tokens
    for found, expected in zip(packed.logprobs, plain.logprobs, strict=True):
        assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("targets", ["all-linear", ["lm_head", "q_proj"]])
def test_a_head_with_an_adapter_or_rows_of_added_tokens_is_read_with_them(
    targets: Any, tied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = family_model("llama-tied" if tied else "llama-untied")
    add_tokens(model, 72, [70, 71])
    adapted = add_adapter(model, LoraParams(rank=2, alpha=4.0, dropout=0.0, target_modules=targets))
    with torch.no_grad():
        for weight in adapted.eval().parameters():
            weight.add_(torch.full_like(weight, 0.1) if weight.requires_grad else 0.0)
    prompts = [[7, 8, 70], [20, 71], [5]]
    plain = sample(model, prompts)
    monkeypatch.setattr("groundup.core.model.projection.PACKED_NUMBERS", 1)
    packed = sample(model, prompts)
    assert packed.tokens == plain.tokens
    for found, expected in zip(packed.logprobs, plain.logprobs, strict=True):
        assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("packed_numbers", [1, 2**18])
def test_logprobs_in_bf16_are_those_of_the_training_pass(
    tiny_model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch, packed_numbers: int
) -> None:
    """Within the rounding of logits to 8 bits, so PPO takes them as they are: its ratio starts near 1.

    Of SmolLM2-135M they differ by 0.05 nats (standard deviation of 230 tokens, mean 0.00, most 0.17); in fp32 by 1e-5.
    """
    monkeypatch.setattr("groundup.core.model.projection.PACKED_NUMBERS", packed_numbers)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        replies = sample(tiny_model)
        conversations = Conversations(PROMPTS, replies.tokens)
        [(rows, batch)] = conversations.batches(range(len(PROMPTS)), len(PROMPTS), tiny_model.device)
        trained = token_logprobs(tiny_model, batch, temperature=1.0)[0]
    assert trained.dtype == torch.float32
    for row, logprobs in zip(rows, trained.tolist(), strict=True):
        recorded = replies.logprobs[row]
        assert recorded == pytest.approx(logprobs[: len(recorded)], abs=BF16_TOLERANCE)


def test_keys_are_cached_in_the_precision_of_attention(tiny_model: LlamaForCausalLM) -> None:
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        cache, hidden = prefill_fast(tiny_model.model, PROMPTS, 1)
    assert {x.dtype for x in (*cache.keys, *cache.values)} == {torch.bfloat16}
    assert hidden.dtype == torch.float32


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


def test_sums_by_whole_numbers_are_those_of_fp64() -> None:
    shares = torch.rand(3, 700, generator=torch.Generator().manual_seed(0)).softmax(-1)
    shares[0, 100:200] = 0
    found = counted_sums(shares)
    torch.testing.assert_close(found, shares.cumsum(-1, dtype=torch.float64), rtol=0, atol=700 * 2.0**-53)
    assert bool((found.diff() >= 0).all())
    shares[1, 5] = torch.nan
    assert counted_sums(shares).isnan().nonzero().tolist() == [[1, 5]]


def test_sampled_frequencies_are_the_probabilities(tiny_model: LlamaForCausalLM) -> None:
    replies = sample(tiny_model, prompts=[[7, 8, 9]] * 4000, max_new_tokens=1, batch_size=1000)
    counts = torch.bincount(torch.tensor(replies.tokens)[:, 0], minlength=tiny_model.config.vocab_size)
    probabilities = tiny_model(torch.tensor([[7, 8, 9]])).logits[0, -1].softmax(-1)
    error = (counts / 4000 - probabilities).abs()
    assert bool((error < 5 * (probabilities / 4000).sqrt() + 1e-3).all())


def test_distinct_2_counts_bigrams_within_replies() -> None:
    assert distinct_2([[1, 2, 1, 2], [2, 1]], 6) == 2 / 4  # (1,2) (2,1) (1,2) and (2,1): two kinds of four
    assert distinct_2([[1, 2, 3]], 3) == 1
    assert distinct_2([[1], []], 9) == 0


def test_distinct_2_is_that_of_so_many_tokens_however_many_there_are() -> None:
    same = [[1, 2, 3]] * 50
    assert distinct_2(same, 6) == distinct_2(same[:4], 6) == 0.5
    assert distinct_2_by_segment(same, 6) == [0.5] * 25
    # 12 | 34 is cut, and of the third segment only a token is there, which is left out.
    assert distinct_2_by_segment([[1, 2, 1, 2], [5, 6, 7, 8], [9]], 4) == [2 / 3, 1.0]
    assert distinct_2_by_segment([[1, 2, 1, 2, 1, 2]], 3) == [1.0, 1.0]  # 12 21 and 21 12
    assert distinct_2_by_segment([[1, 1, 1], [1, 1]], 500) == [1 / 3]  # fewer than a segment


def test_distinct_2_of_longer_replies_of_the_same_kind_is_the_same() -> None:
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randint(0, 40, (60, 100), generator=generator).tolist()
    short, long = (distinct_2([reply[:length] for reply in drawn], 500) for length in (20, 100))
    assert long == pytest.approx(short, abs=0.03)
    whole = [distinct_2([reply[:length] for reply in drawn], 60 * length) for length in (20, 100)]
    assert whole[1] < whole[0] - 0.2  # over all tokens the longer replies look far less diverse
