"""The batch gives the same replies as one at a time, whatever else joins and leaves."""

import random

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.app.serve.batch import Batch, Generation, Token
from groundup.app.serve.plan import sampling
from groundup.core.decoding import Decoding
from groundup.core.model.generation import Sampler, next_token_logprobs
from tests.core.model.variants import variant_model

PLAIN = sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, repetition_penalty=1.0)
GREEDY = sampling(temperature=0.0, top_k=0, top_p=1.0, min_p=0.0, repetition_penalty=1.0)
FILTERED = sampling(temperature=0.8, top_k=20, top_p=0.9, min_p=0.02, repetition_penalty=1.3)
LENGTH = 24


def generation(prompt: list[int], seed: int, settings: Decoding = PLAIN, num_top: int = 0) -> Generation:
    uniforms = torch.rand(LENGTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Generation(tuple(prompt), settings, LENGTH, num_top, uniforms)


def prompts(num: int, seed: int = 0) -> list[list[int]]:
    drawn = random.Random(seed)
    return [[drawn.randrange(200) for _ in range(drawn.randint(1, 60))] for _ in range(num)]


def run(batch: Batch, arrivals: dict[int, list[Generation]]) -> dict[Generation, list[Token]]:
    """The tokens of all replies; `arrivals` says in which step each one joins the queue."""
    made: dict[Generation, list[Token]] = {g: [] for generations in arrivals.values() for g in generations}
    step = 0
    while step <= max(arrivals) or batch.waiting or batch.running:
        batch.waiting.extend(arrivals.get(step, []))
        batch.drop_cancelled()
        for one, event in batch.step(batch.next_to_join()):
            assert isinstance(event, Token)
            made[one].append(event)
        assert len(batch.running) <= batch.slots.num_slots
        step += 1
    return made


@pytest.fixture
def batch(random_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> Batch:
    return Batch(random_model, tiny_tokenizer.eos_token_id, num_slots=4)


@pytest.fixture
def linear_batch(tiny_tokenizer: PreTrainedTokenizerFast) -> Batch:
    """Of a model that only transformers can run."""
    return Batch(variant_model(tiny_tokenizer, 0.3), tiny_tokenizer.eos_token_id, num_slots=4)


@pytest.mark.parametrize("kind", ["batch", "linear_batch"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_replies_are_those_of_the_sampler(
    request: pytest.FixtureRequest, tiny_tokenizer: PreTrainedTokenizerFast, kind: str, temperature: float
) -> None:
    batch = request.getfixturevalue(kind)
    many = prompts(11)
    expected = Sampler.of(tiny_tokenizer, LENGTH, temperature, batch_size=3).sample(batch.model, many, seed=5)
    uniforms = torch.rand(11, LENGTH, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    settings = GREEDY if temperature == 0 else PLAIN
    generations = [Generation(tuple(prompt), settings, LENGTH, 0, uniforms[i]) for i, prompt in enumerate(many)]
    made = run(batch, {0: generations[:6], 3: generations[6:7], 9: generations[7:]})
    assert [[token.id for token in made[g]] for g in generations] == expected.tokens
    assert [made[g][-1].finish_reason == "stop" for g in generations] == expected.ended
    for g, logprobs in zip(generations, expected.logprobs, strict=True):
        torch.testing.assert_close(torch.tensor([token.logprob for token in made[g]]), torch.tensor(logprobs))


def test_batch_mates_do_not_change_a_reply(batch: Batch) -> None:
    """Only the seed decides, for every kind of sampling and every set of replies in the batch."""
    many = prompts(12, seed=1)
    kinds = (PLAIN, GREEDY, FILTERED)
    alone = [run(batch, {0: [generation(prompt, i, kinds[i % 3])]}) for i, prompt in enumerate(many)]
    together = [generation(prompt, i, kinds[i % 3]) for i, prompt in enumerate(many)]
    made = run(batch, {0: together[:5], 1: together[5:6], 7: together[6:]})
    for one, mate in zip(alone, together, strict=True):
        assert [token.id for token in next(iter(one.values()))] == [token.id for token in made[mate]]


@torch.no_grad()
@pytest.mark.parametrize("kind", ["batch", "linear_batch"])
def test_a_longer_reply_moves_whole_into_the_place_of_a_shorter_one(request: pytest.FixtureRequest, kind: str) -> None:
    slots = request.getfixturevalue(kind).slots
    short, middle, long = ([*range(length)] for length in (3, 9, 40))
    slots.join([short, middle, long], [0, 1, 2])
    slots.remove(0)
    moved = slots.step(torch.tensor([7, 8]))
    slots.clear()
    slots.join([long, middle], [0, 1])
    torch.testing.assert_close(moved, slots.step(torch.tensor([7, 8])))


def test_replies_to_one_prompt_share_its_computation(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = []
    embed = batch.model.model.embed_tokens
    handle = embed.register_forward_hook(lambda module, args, output: lengths.append(len(args[0])))
    prompt = prompts(1)[0]
    generations = [generation(prompt, seed) for seed in range(3)]
    made = run(batch, {0: generations})
    handle.remove()
    assert lengths[0] == len(prompt)
    assert lengths[1] == 3
    assert len({tuple(token.id for token in tokens) for tokens in made.values()}) == 3


def test_forward_passes_are_shared(batch: Batch) -> None:
    passes = []
    handle = batch.model.lm_head.register_forward_hook(lambda module, args, output: passes.append(len(args[0])))
    made = run(batch, {0: [generation(prompt, i) for i, prompt in enumerate(prompts(4))]})
    handle.remove()
    assert max(map(len, made.values())) == len(passes)
    assert sum(passes) == sum(map(len, made.values()))


def test_a_cancelled_reply_frees_its_slot_for_who_waits(batch: Batch) -> None:
    generations = [generation(prompt, i) for i, prompt in enumerate(prompts(6))]
    batch.waiting.extend(generations)
    list(batch.step(batch.next_to_join()))
    assert batch.running == generations[:4]
    generations[1].cancelled = generations[4].cancelled = True
    batch.drop_cancelled()
    assert batch.num_free == 1
    list(batch.step(batch.next_to_join()))
    assert set(batch.running) == {generations[i] for i in (0, 2, 3, 5)}
    expected = run(Batch(batch.model, batch.eos_token_id, 1), {0: [generation(generations[3].prompt, 3)]})
    while generations[3] in batch.running:
        list(batch.step([]))
    assert generations[3].tokens == [token.id for token in next(iter(expected.values()))]


def test_long_prompts_join_one_after_the_other(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groundup.app.serve.batch.PREFILL_TOKENS", 30)
    lengths = (50, 10, 10, 10)
    batch.waiting.extend(generation([1] * length, i) for i, length in enumerate(lengths))
    joined = []
    while batch.waiting:
        joined.append([len(one.prompt) for one in batch.next_to_join()])
    assert joined == [[50], [10, 10, 10]]


def test_likeliest_tokens_are_those_of_the_model(batch: Batch) -> None:
    prompt = prompts(1)[0]
    one = generation(prompt, 0, FILTERED, num_top=3)
    made = run(batch, {0: [one, generation([5, 6], 1)]})[one]
    with torch.no_grad():
        logits = batch.model(torch.tensor([prompt])).logits[0, -1]
    expected = next_token_logprobs(batch.model, logits, 1.0).topk(3)
    assert [token for token, _ in made[0].top] == expected.indices.tolist()
    torch.testing.assert_close(torch.tensor([value for _, value in made[0].top]), expected.values)
    assert made[0].logprob == pytest.approx(float(next_token_logprobs(batch.model, logits, 1.0)[made[0].id]), abs=1e-5)


def test_a_reply_to_the_last_place_of_the_context(batch: Batch) -> None:
    context = batch.model.config.max_position_embeddings
    full, short = generation([3] * (context - LENGTH), 0), generation([4], 1)
    made = run(batch, {0: [full, short]})
    assert len(made[full]) == LENGTH
    alone = generation([4], 1)
    assert [t.id for t in made[short]] == [t.id for t in run(batch, {0: [alone]})[alone]]
