"""Rollouts by servers of vLLM's protocol: the same replies as here, and no server is believed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.align.policy import Policy
from groundup.core.model.generation import Replies, Sampler
from groundup.core.model.llama import load_causal_lm, save_model
from groundup.core.rollout.engine import Builtin, RolloutEngine, Source
from groundup.core.rollout.servers import MOST_RATIO, RolloutError, Servers, open_engine
from groundup.runner.params.training import LoraParams
from tests.align.conftest import LORA
from tests.rollout_server import SERVED, ByPlace, FakeVllm, serving

PROMPTS = [[5, 6, 7], [8, 9], [11, 12, 13, 14], [20, 21]]
TIMEOUT = 20.0


@pytest.fixture
def sft(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> LlamaForCausalLM:
    save_model(tiny_model, tiny_tokenizer, tmp_path / "sft", "card")
    return load_causal_lm(tmp_path / "sft", torch.device("cpu")).eval()


@pytest.fixture
def fake(sft: LlamaForCausalLM, tmp_path: Path) -> FakeVllm:
    return FakeVllm(tmp_path / "sft")


@pytest.fixture
def url(fake: FakeVllm) -> Iterator[str]:
    with serving(fake) as address:
        yield address


@pytest.fixture
def engine(url: str, tmp_path: Path) -> Servers:
    return Servers([url], tmp_path / "weights", TIMEOUT)


@pytest.fixture
def sampler(tiny_tokenizer: PreTrainedTokenizerFast) -> Sampler:
    return Sampler.of(tiny_tokenizer, 6, 1.0, batch_size=3)


def moved(model: LlamaForCausalLM) -> LlamaForCausalLM:
    with torch.no_grad():
        model.lm_head.weight.add_(torch.randn(model.lm_head.weight.shape, generator=torch.Generator().manual_seed(1)))
    return model


def draw(engine: RolloutEngine, source: Source, sampler: Sampler, **chosen: Any) -> Replies:
    engine.push(source)
    return engine.generate(PROMPTS, 3, sampler, **chosen)


def assert_same(found: Replies, expected: Replies) -> None:
    assert (found.tokens, found.ended) == (expected.tokens, expected.ended)
    for ours, theirs in zip(found.logprobs, expected.logprobs, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)
    assert found.ratios is not None
    assert [len(row) for row in found.ratios] == [len(row) for row in found.tokens]
    assert all(ratio == pytest.approx(1, abs=1e-3) for row in found.ratios for ratio in row)


def test_without_servers_this_process_draws(tmp_path: Path) -> None:
    assert isinstance(open_engine([], tmp_path, TIMEOUT), Builtin)


def test_replies_are_those_of_the_model_here(
    engine: Servers, sft: LlamaForCausalLM, sampler: Sampler, fake: FakeVllm
) -> None:
    expected = draw(ByPlace(), Source.whole(sft), sampler)
    assert_same(draw(engine, Source(sft), sampler), expected)
    assert fake.calls == []
    part = draw(engine, Source(sft), sampler, places=[2, 0])
    assert part.tokens == [expected.tokens[2], expected.tokens[0]]
    assert engine.figures["generation_kl"] == pytest.approx(0, abs=1e-4)
    assert engine.figures["clamped_share"] == 0
    assert not {token for reply in expected.tokens for token in reply} & set(sft.generation_config.suppress_tokens)


def test_whole_models_are_pushed_once_each(
    engine: Servers, sft: LlamaForCausalLM, sampler: Sampler, fake: FakeVllm, tmp_path: Path
) -> None:
    before = draw(ByPlace(), Source.whole(sft), sampler)
    other = moved(load_causal_lm(tmp_path / "sft", torch.device("cpu")).eval())
    expected = draw(ByPlace(), Source.whole(other), sampler)
    assert expected.tokens != before.tokens
    for source, wanted in ((sft, before), (other, expected), (other, expected)):
        assert_same(draw(engine, Source.whole(source), sampler), wanted)
    assert fake.calls == ["/collective_rpc", "/reset_prefix_cache"] * 2
    assert [path.name for path in (tmp_path / "weights").iterdir()] == [Source.whole(other).version]
    with pytest.raises(RolloutError, match="the model that it was started with has been replaced"):
        engine.push(Source(sft))


def test_an_adapter_is_pushed_under_a_name_for_its_weights(
    engine: Servers, sft: LlamaForCausalLM, sampler: Sampler, fake: FakeVllm, url: str, tmp_path: Path
) -> None:
    before = draw(ByPlace(), Source.whole(sft), sampler)
    policy = Policy(sft, LoraParams(**LORA))
    versions = []
    for step in range(3):
        with torch.no_grad():
            for weight in policy.trainable().values():
                weight.add_(0.2 * step)
        source = policy.source(policy.model)
        expected = draw(ByPlace(), source, sampler)
        assert_same(draw(engine, source, sampler), expected)
        versions.append(source.version)
    assert expected.tokens != before.tokens
    assert list(fake.models) == [SERVED, versions[2]]
    with policy.reference() as reference:
        assert_same(draw(engine, policy.source(reference), sampler), before)
    # A process that was killed comes back: the server has the adapter already.
    again = Servers([url], tmp_path / "weights", TIMEOUT)
    num_calls = len(fake.calls)
    assert_same(draw(again, policy.source(policy.model), sampler), expected)
    assert len(fake.calls) == num_calls


def test_another_server_steps_in(sft: LlamaForCausalLM, sampler: Sampler, tmp_path: Path) -> None:
    expected = draw(ByPlace(), Source.whole(sft), sampler)
    first, second = FakeVllm(tmp_path / "sft"), FakeVllm(tmp_path / "sft")
    with serving(first) as stays:
        with serving(second) as goes:
            engine = Servers([stays, goes], tmp_path / "weights", TIMEOUT)
            assert_same(draw(engine, Source.whole(sft), sampler), expected)
            assert (len(first.requests), len(second.requests)) == (2, 2)
        assert_same(draw(engine, Source.whole(sft), sampler), expected)
        assert len(first.requests) == 6
    with pytest.raises(RolloutError, match=r"(?s)no server of rollouts draws a reply \(http.*start it again, or take"):
        draw(engine, Source.whole(sft), sampler)


def test_a_slow_server_is_not_waited_for_for_ever(
    url: str, fake: FakeVllm, sft: Any, sampler: Any, tmp_path: Path
) -> None:
    engine = Servers([url], tmp_path / "weights", timeout=0.2)
    fake.seconds = 1.0
    with pytest.raises(RolloutError, match=r"no server of rollouts draws a reply .*timed out"):
        draw(engine, Source(sft), sampler)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"says_it_is": "yesterday"}, "was asked for served and answers as yesterday"),
        ({"change": {"token_ids": None}}, "gives no token_ids"),
        ({"change": {"token_ids": ["a"]}}, "gives no token_ids"),
        ({"change": {"prompt_token_ids": [1]}}, "read another prompt than it was given"),
        ({"change": {"logprobs": None}}, "gives no log-probability for each token"),
        ({"change": {"logprobs": {"token_logprobs": [-1.0]}}}, "gives no log-probability for each token"),
        ({"change": {"token_ids": [9] * 7, "logprobs": {"token_logprobs": [-1.0] * 7}}}, "gives 7 tokens, 6 were"),
        ({"change": {"token_ids": [9] * 2, "logprobs": {"token_logprobs": [-1.0] * 2}}}, "stops before it"),
        ({"change": {"token_ids": [9] * 6, "logprobs": {"token_logprobs": [-0.1] * 6}}}, "a server has other weights"),
        ({"change": {"token_ids": [296] * 6, "logprobs": {"token_logprobs": [-1.0] * 6}}}, "296, which no reply may"),
        ({"change": {"token_ids": [300] * 6, "logprobs": {"token_logprobs": [-1.0] * 6}}}, "300, which no reply may"),
    ],
)
def test_what_a_server_says_is_not_believed(
    engine: Servers,
    fake: FakeVllm,
    sft: LlamaForCausalLM,
    sampler: Sampler,
    url: str,
    wrong: dict[str, Any],
    said: str,
) -> None:
    for name, value in wrong.items():
        setattr(fake, name, value)
    with pytest.raises(RolloutError, match=said) as refused:
        draw(engine, Source(sft), sampler)
    assert url in str(refused.value)


@pytest.mark.parametrize("lora", [True, False], ids=["adapter", "whole"])
def test_weights_that_did_not_arrive_are_noticed(
    engine: Servers, fake: FakeVllm, sft: LlamaForCausalLM, sampler: Sampler, lora: bool
) -> None:
    fake.takes_weights = False
    if lora:
        policy = Policy(sft, LoraParams(**LORA))
        with torch.no_grad():
            for weight in policy.trainable().values():
                weight.add_(0.4)
        source = policy.source(policy.model)
    else:
        source = Source.whole(moved(sft))
    with pytest.raises(RolloutError, match="a server has other weights, or changes the distribution"):
        draw(engine, source, sampler)


def test_what_a_server_lacks_is_named(
    engine: Servers, fake: FakeVllm, sft: LlamaForCausalLM, sampler: Sampler
) -> None:
    fake.refuses = ("/collective_rpc", "/v1/load_lora_adapter")
    with pytest.raises(RolloutError, match=r"refuses /collective_rpc \(.*start vLLM with VLLM_SERVER_DEV_MODE=1"):
        draw(engine, Source.whole(sft), sampler)
    policy = Policy(sft, LoraParams(**LORA))
    with pytest.raises(RolloutError, match=r"refuses /load_lora_adapter \(.*VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"):
        draw(engine, policy.source(policy.model), sampler)


def test_a_server_that_is_not_there_is_named_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(RolloutError, match=r"http://127\.0\.0\.1:9 does not answer .*take it out of `rollouts`"):
        Servers(["http://127.0.0.1:9"], tmp_path, 1.0)


def test_a_ratio_has_a_limit(engine: Servers, fake: FakeVllm, sft: LlamaForCausalLM, sampler: Sampler) -> None:
    """Two tokens were rarer where they were drawn, as under another precision; one by more than the limit."""
    longer = replace(sampler, max_new_tokens=24)
    drawn = draw(ByPlace(), Source.whole(sft), longer)
    place = next(i for i, reply in enumerate(drawn.tokens) if len(reply) == 24)
    there = [*drawn.logprobs[place][:-2], drawn.logprobs[place][-2] - 0.5, drawn.logprobs[place][-1] - 1.0]
    fake.change = {"token_ids": drawn.tokens[place], "logprobs": {"token_logprobs": there}}
    found = draw(engine, Source(sft), longer, places=[place])
    assert found.ratios is not None
    assert found.ratios[0] == pytest.approx([1.0] * 22 + [1.6487, MOST_RATIO], abs=1e-3)
    assert found.logprobs[0] == pytest.approx(drawn.logprobs[place], abs=1e-4)
    assert engine.figures["generation_kl"] == pytest.approx(-1.5 / 24, abs=1e-4)
    assert engine.figures["clamped_share"] == pytest.approx(1 / 24)
