"""Every family gives, by our passes and caches, the logits of transformers' forward pass of each sequence alone."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    MixtralConfig,
    OlmoeConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3MoeConfig,
)

from groundup.app.serve.slots import Slots, StockSlots, make_slots
from groundup.core.model.branches import Branches
from groundup.core.model.cache import KeyValueCache, StockCache, prefill
from groundup.core.model.forward import PackedAttention, RowAttention, hidden_states
from groundup.core.model.generation import Sampler, next_token_logprobs
from groundup.core.model.head import has_plain_head, output_logits
from groundup.core.model.likelihood import Stretch, own_distribution, stretch_nats
from groundup.core.model.verify import verify_passes
from groundup.evaluate.reply_likelihood import branch_nats
from tests.families import FAMILIES, WINDOW, family_model

CPU = torch.device("cpu")
SEQUENCES = [[7, 8, 9, 11, 1, 30, 31, 32, 33], [5], [20, 30, 40, 50, 60, 61]]
CLOSE = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return family_model(request.param)


@torch.no_grad()
def logits_alone(model: PreTrainedModel, sequence: list[int]) -> Tensor:
    """[T, V] without cache, padding or other sequences."""
    logits: Tensor = model(torch.tensor([sequence]), use_cache=False).logits[0]
    return logits


def test_windows_are_shorter_than_the_sequences() -> None:
    assert max(map(len, SEQUENCES)) > WINDOW


@torch.no_grad()
def test_logits_at_places_equal_those_of_each_sequence_alone(model: PreTrainedModel) -> None:
    ids = torch.tensor([token for sequence in SEQUENCES for token in sequence])
    expected = torch.cat([logits_alone(model, sequence) for sequence in SEQUENCES])
    layout = PackedAttention([len(sequence) for sequence in SEQUENCES], CPU)
    places = torch.tensor([15, 0, 8, 10])
    for rows in (layout, RowAttention(layout.positions[None])):
        logits = output_logits(model, hidden_states(model.base_model, ids, rows, places))
        torch.testing.assert_close(logits, expected[places], **CLOSE)


def test_gradients_reach_every_weight_as_in_transformers(model: PreTrainedModel) -> None:
    sequence = SEQUENCES[0]
    layout = PackedAttention([len(sequence)], CPU)
    ours = output_logits(
        model, hidden_states(model.base_model, torch.tensor(sequence), layout, torch.arange(len(sequence)))
    )
    theirs = model(torch.tensor([sequence]), use_cache=False).logits[0]
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    gradients = [torch.autograd.grad(x.square().mean(), weights) for x in (ours, theirs)]
    for gradient, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(gradient, reference, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_a_cache_is_right_after_padding_steps_and_selections(model: PreTrainedModel) -> None:
    texts = [list(sequence) for sequence in SEQUENCES]
    cache, hidden = prefill(model.base_model, texts, max_new_tokens=6)
    steps = [([0, 1, 2], [2, 5, 8]), ([2, 1], [9, 6]), ([1, 1], [7, 8]), *[([0, 1], [n, n + 1]) for n in (3, 40, 50)]]
    for rows, tokens in steps:
        cache.select(torch.tensor(rows))  # dropping a row changes nothing for the others
        texts = [[*texts[row], token] for row, token in zip(rows, tokens, strict=True)]
        hidden = cache.step(torch.tensor(tokens))
        expected = torch.stack([logits_alone(model, text)[-1] for text in texts])
        torch.testing.assert_close(output_logits(model, hidden), expected, **CLOSE)
    assert isinstance(cache, KeyValueCache if "Llama" in type(model).__name__ else StockCache)


@torch.no_grad()
def test_replies_join_and_leave_a_server(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groundup.app.serve.slots.FIRST_COLUMNS", 4)  # buffers grow on the way
    slots = make_slots(model.base_model, 4)
    assert isinstance(slots, Slots if "Llama" in type(model).__name__ else StockSlots)
    hidden = slots.join([SEQUENCES[1]], [0])
    texts = [list(SEQUENCES[1])]
    for turn, joining in enumerate([[SEQUENCES[0], SEQUENCES[2]], [], [SEQUENCES[2]], []]):
        if joining:
            slots.join(joining, list(range(len(joining))))
            texts += [list(sequence) for sequence in joining]
        for tokens in ([3, 4, 5, 6], [11, 12, 13, 14]):
            texts = [[*text, token] for text, token in zip(texts, tokens, strict=False)]
            hidden = slots.step(torch.tensor(tokens[: len(texts)]))
            expected = torch.stack([logits_alone(model, text)[-1] for text in texts])
            torch.testing.assert_close(output_logits(model, hidden), expected, **CLOSE)
        if turn in (1, 2):  # the longest leaves; the last takes its place
            place = max(range(len(texts)), key=lambda i: len(texts[i]))
            slots.remove(place)
            texts[place] = texts[-1]
            texts.pop()


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_sampled_tokens_have_the_log_probabilities_of_a_full_forward_pass(
    model: PreTrainedModel, temperature: float
) -> None:
    """Rows end at different steps, so that the cache is cut on the way; suppressed tokens are never drawn."""
    model.generation_config.suppress_tokens = [2, 66, 67, 68, 69]
    sampler = Sampler(eos_token_id=1, pad_token_id=2, max_new_tokens=12, temperature=temperature, batch_size=3)
    prompts = [*SEQUENCES, [9, 9, 9], [4, 3]]
    replies = sampler.sample(model, prompts, seed=3)
    for prompt, tokens, logprobs in zip(prompts, replies.tokens, replies.logprobs, strict=True):
        logits = logits_alone(model, [*prompt, *tokens])[len(prompt) - 1 : -1]
        expected = next_token_logprobs(model, logits, temperature)
        chosen = expected.gather(1, torch.tensor(tokens)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(logprobs), chosen, **CLOSE)
        assert not set(tokens) & {2, 66, 67, 68, 69}
        if temperature == 0:
            assert tokens == expected.argmax(-1).tolist()


def test_likelihoods_are_those_of_the_whole_model(model: PreTrainedModel) -> None:
    stretches = [Stretch(SEQUENCES[0], 6), Stretch(SEQUENCES[2], 5)]
    expected = [
        -sum(
            float(logits_alone(model, s.ids).log_softmax(-1)[place - 1, s.ids[place]])
            for place in range(len(s.ids) - s.num_scored, len(s.ids))
        )
        for s in stretches
    ]
    assert stretch_nats(model, stretches, 2, own_distribution) == pytest.approx(expected, rel=1e-4)
    branches = [Branches(SEQUENCES[2], [[3, 4, 5], [6], [7, 8]]), Branches([5], [[3], [4, 9]])]
    nats = branch_nats(model, branches, 2)
    for item, found in zip(branches, nats, strict=True):
        alone = [Stretch([*item.prompt, *reply], len(reply)) for reply in item.replies]
        assert found == pytest.approx(stretch_nats(model, alone, 1, own_distribution), rel=1e-4)


def test_a_sequence_beyond_the_positions_is_refused_with_a_sentence() -> None:
    model = family_model("gpt2")
    sequence = [3] * 129
    message = "a sequence of 129 tokens is longer than the 128 positions of GPT2Model: lower the max_length"
    with pytest.raises(ValueError, match=message):
        hidden_states(model.base_model, torch.tensor(sequence), PackedAttention([129], CPU), torch.tensor([0]))
    with pytest.raises(ValueError, match=message):
        stretch_nats(model, [Stretch([3] * 130, 1)], 1, own_distribution)
    cache, _ = prefill(model.base_model, [[3] * 128, [4]], 2)
    with pytest.raises(ValueError, match=message):
        cache.step(torch.tensor([5, 5]))
    cache, _ = prefill(model.base_model, [[3] * 128, [4]], 2)
    cache.select(torch.tensor([1]))  # what is left is short
    cache.step(torch.tensor([5]))


def test_every_family_is_verified(model: PreTrainedModel) -> None:
    verify_passes(model)


def test_the_passes_leave_the_random_state_and_the_model_alone(model: PreTrainedModel) -> None:
    before, modules = torch.get_rng_state(), dict(model.named_modules())
    verify_passes(model)
    assert torch.equal(torch.get_rng_state(), before)
    assert dict(model.named_modules()) == modules


def test_logits_that_are_scaled_are_scaled_here_too() -> None:
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = GraniteConfig(vocab_size=70, logits_scaling=4.0, initializer_range=0.3, **shape)
    torch.manual_seed(0)
    model = GraniteForCausalLM(config).eval()
    verify_passes(model)
    ids, layout = torch.tensor(SEQUENCES[0]), PackedAttention([9], CPU)
    with torch.no_grad():
        logits = output_logits(model, hidden_states(model.base_model, ids, layout, torch.arange(9)))
    torch.testing.assert_close(logits, logits_alone(model, SEQUENCES[0]), **CLOSE)
    assert not has_plain_head(model)
    assert has_plain_head(family_model("llama-untied"))


def looks_ahead(module: nn.Module, arguments: tuple[Tensor], output: Tensor) -> Tensor:
    return output + output.mean(1, keepdim=True)


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("qwen3", lambda model: model.model.layers[0].mlp.register_forward_hook(looks_ahead), "logits of p"),
        ("gemma3", lambda model: model.lm_head.register_forward_hook(lambda *args: args[2] * torch.nan), "not finite"),
    ],
    ids=["a layer that is not causal", "not finite"],
)
def test_a_model_that_our_passes_would_change_is_refused(
    family: str, change: Callable[[PreTrainedModel], object], message: str
) -> None:
    model = family_model(family)
    change(model)
    with pytest.raises(ValueError, match=r"cannot be used here: on a made-up input.*" + message):
        verify_passes(model)


@pytest.mark.parametrize("config", [MixtralConfig, Qwen3MoeConfig, OlmoeConfig])
def test_mixtures_of_experts_are_refused_by_name(config: type[PreTrainedConfig]) -> None:
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config(vocab_size=70, num_key_value_heads=1, **shape))
    name = type(model).__name__
    with pytest.raises(ValueError, match=f"{name} is a mixture of experts: nothing here keeps its router balanced"):
        verify_passes(model)
