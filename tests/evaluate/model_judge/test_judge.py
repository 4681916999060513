"""The scores of a tiny random model against plain forward passes, one sequence at a time."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.core.judging.pairs import reply_pairs
from groundup.evaluate.model_judge.judge import ModelJudge
from tests.evaluate.judging import GOLD_PARAMS
from tests.evaluate.model_judge.folders import opened, save

CONVERSATION = [
    {"role": "system", "content": "music"},
    {"role": "user", "content": "Do you like the sea?"},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "It is warm there"},
]
ROWS = [
    {
        "id": f"c{i}",
        "messages": [
            {"role": "user", "content": ["Hello there", "the old town", "the river", "a valley"][i % 4]},
            {"role": "assistant", "content": ["How are you", "green valley", "to the sea", "well thank you"][i % 4]},
        ],
    }
    for i in range(8)
]


# At the point of CONVERSATION, the only two of their kind.
OTHERS = [
    [{"role": "user", "content": text}, {"role": "assistant", "content": "Yes"}, {"role": "user", "content": "so"}]
    for text in ("valley", "town")
]


def chat(reply: str, messages: list[dict[str, str]] = CONVERSATION) -> list[dict[str, str]]:
    return [*messages, {"role": "assistant", "content": reply}]


def judge_of(folder: Path, kept: Path) -> ModelJudge:
    return ModelJudge.of(opened(folder, kept), reply_pairs(ROWS, GOLD_PARAMS), num_others=2, params=GOLD_PARAMS)


@pytest.fixture
def model(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> LlamaForCausalLM:
    return save(tmp_path / "model", tiny_tokenizer)


@pytest.fixture
def judge(model: LlamaForCausalLM, tmp_path: Path) -> ModelJudge:
    return judge_of(tmp_path / "model", tmp_path / "kept.jsonl")


@torch.no_grad()
def plain(model: LlamaForCausalLM, prompt: list[int], reply: list[int], places: list[int]) -> float:
    """The log-probability of the reply's tokens at these places, from one unpadded forward pass."""
    logprobs = model(torch.tensor([prompt + reply])).logits[0].log_softmax(-1)
    return sum(float(logprobs[len(prompt) + i - 1, reply[i]]) for i in places)


def prompt_of(tokenizer: PreTrainedTokenizerFast, messages: list[dict[str, str]]) -> list[int]:
    ids: Any = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
    return list(ids)


def test_scores_are_log_probabilities_less_their_mean_in_other_conversations(
    judge: ModelJudge, model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    replies = ["How we flow", "well", "listen at home and flow through"]
    ids = [tiny_tokenizer(reply, add_special_tokens=False)["input_ids"] for reply in replies]
    # All but the tokens that are a space alone: every word is the reply's own.
    counted = [[i for i, token in enumerate(reply) if tiny_tokenizer.decode([token]).strip()] for reply in ids]
    given, *there = (
        np.array([plain(model, prompt_of(tiny_tokenizer, m), r, c) for r, c in zip(ids, counted, strict=True)])
        for m in (CONVERSATION, *OTHERS)
    )
    here = judge.centred_on([CONVERSATION[:1], *OTHERS, *OTHERS])
    chats = [chat(reply) for reply in replies]
    np.testing.assert_allclose(here.score(chats), given - (there[0] + there[1]) / 2, atol=2e-4)
    np.testing.assert_allclose(here.uncentred().score(chats), given, atol=2e-4)
    assert here.score_by_resample(chats).shape == (1, 3)
    # Its own conversation is no other one.
    own = [[*OTHERS[0], chats[0][-1]]]
    np.testing.assert_allclose(here.score(own), [there[0][0] - there[1][0]], atol=2e-4)
    assert judge.centred_on([CONVERSATION, CONVERSATION]) is judge


def test_a_reply_that_is_as_likely_anywhere_scores_zero(judge: ModelJudge, monkeypatch: pytest.MonkeyPatch) -> None:
    """However likely it is: that is what a constant reply lives on."""
    monkeypatch.setattr(
        "groundup.evaluate.model_judge.logprobs.logprobs",
        lambda _, batch: [[-0.5 * token for token in reply] for row in batch for reply in row.replies],
    )
    here = judge.centred_on(OTHERS)
    assert here.score([chat("How we flow"), chat("well")]) == pytest.approx([0, 0], abs=1e-6)
    assert np.ptp(here.uncentred().score([chat("How we flow"), chat("well")])) > 1


def test_tokens_of_copied_words_and_of_no_word_do_not_count(
    judge: ModelJudge, model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    """warm, like, the and sea were said before; the comma is no word. "the" is common, but in a copied run. In one of
    the others "town" was said, so its tokens are compared with the other one alone.
    """
    reply = "warm town, like the sea"
    encoded = tiny_tokenizer(reply, add_special_tokens=False, return_offsets_mapping=True)
    own = [i for i, (start, end) in enumerate(encoded["offset_mapping"]) if start < len("warm town") and end > 5]
    given, there = (
        plain(model, prompt_of(tiny_tokenizer, m), encoded["input_ids"], own) for m in (CONVERSATION, OTHERS[0])
    )
    assert "the" in judge.scorer.common
    assert judge.centred_on(OTHERS).score([chat(reply)])[0] == pytest.approx(given - there, abs=2e-4)


def test_what_was_read_ahead_is_not_read_again(judge: ModelJudge) -> None:
    here = judge.centred_on(OTHERS)
    chats = [chat(reply) for reply in ("How we flow", "well", "listen")]
    before = judge.scorer.logprobs.num_read
    here.read_ahead(chats)
    read = judge.scorer.logprobs.num_read
    assert read > before
    assert [float(here.score([each])[0]) for each in chats] == here.score(chats).tolist()
    assert judge.scorer.logprobs.num_read == read


def test_an_echo_and_silence_get_the_floor(judge: ModelJudge) -> None:
    pairs = reply_pairs(ROWS, GOLD_PARAMS)
    everything = judge.score([side for pair in pairs for side in (pair.given, pair.wrong)])
    assert judge.score([chat("It is warm there"), chat(""), chat("...")]).tolist() == [judge.floor] * 3
    assert judge.floor == everything.min()
    assert judge.uncentred().score([chat("It is warm there")])[0] == judge.plain_floor < judge.floor


def test_agreement_is_that_of_all_pairs_since_nothing_is_fitted(judge: ModelJudge) -> None:
    pairs = reply_pairs(ROWS, GOLD_PARAMS)
    given, wrong = (judge.score(chats) for chats in zip(*((p.given, p.wrong) for p in pairs), strict=True))
    assert judge.agreement.accuracy == np.mean((given > wrong) + 0.5 * (given == wrong))
    assert (judge.agreement.num_pairs, judge.agreement.num_conversations) == (8, 8)


def test_without_a_template_a_conversation_is_plain_text(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = save(tmp_path / "plain", tiny_tokenizer, has_template=False)
    judge = judge_of(tmp_path / "plain", tmp_path / "kept.jsonl")
    texts = (
        "music\nA: Do you like the sea?\nB: Yes.\nA: It is warm there\nB:",
        "A: valley\nB: Yes\nA: so\nB:",
        "A: town\nB: Yes\nA: so\nB:",
    )
    prompts = [
        [tiny_tokenizer.bos_token_id, *tiny_tokenizer(text, add_special_tokens=False)["input_ids"]] for text in texts
    ]
    encoded = tiny_tokenizer(" How we flow", add_special_tokens=False, return_offsets_mapping=True)
    own = [i for i, (_, end) in enumerate(encoded["offset_mapping"]) if end > 1]
    given, *there = (plain(model, prompt, encoded["input_ids"], own) for prompt in prompts)
    score = judge.centred_on(OTHERS).score([chat("How we flow")])[0]
    assert score == pytest.approx(given - sum(there) / 2, abs=2e-4)


def test_the_latest_turns_that_fit_are_read(judge: ModelJudge, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """The context has 128 tokens."""
    reader = judge.scorer.reader
    reply = reader.reply("well")
    long = [CONVERSATION[0], *CONVERSATION[1:3] * 20, CONVERSATION[3]]
    ids = reader.conversation(long, reply)
    assert len(ids) + len(reply.ids) <= 128
    text = tiny_tokenizer.decode(ids)
    assert text.startswith("<|bos|><|system|>music<|end|><|user|>Do you")
    assert text.endswith("It is warm there<|end|><|assistant|>")
    end = reader.conversation([{"role": "user", "content": "sea " * 300 + "town"}], reply)
    assert len(end) + len(reply.ids) == 128
    assert tiny_tokenizer.decode(end).endswith("sea town<|end|><|assistant|>")
    assert np.isfinite(judge.score([chat("how " * 300, long)])).all()
