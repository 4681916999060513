import copy

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

from groundup.core.model.scoring import RewardScorer
from groundup.core.rollout.engine import Builtin
from groundup.evaluate.replies import ModelReplies, fit_prompts, reply_metrics, reply_to_prompts, style_changes
from groundup.evaluate.shown import ENDS
from tests.evaluate import judging

PARAMS = judging.PARAMS.model_copy(update={"temperature": 0.8})
ROWS = [
    {"conversation_id": f"c{i}", "messages": [{"role": "user", "content": text}], "reply": None}
    for i, text in enumerate(["Hello there!", "Do you like music?", "What do you think about the beach?"])
]


@pytest.fixture
def scorer(tiny_model: LlamaForCausalLM) -> RewardScorer:
    torch.manual_seed(1)
    config = LlamaConfig(**{**tiny_model.config.to_dict(), "num_labels": 1})
    return RewardScorer(LlamaForSequenceClassification(config))


def test_kl_is_zero_for_the_reference_and_exact_for_others(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, scorer: RewardScorer
) -> None:
    prompts = fit_prompts(tiny_tokenizer, ROWS, 128, PARAMS.max_new_tokens)
    own = reply_to_prompts(Builtin(), tiny_model, tiny_model, scorer, tiny_tokenizer, prompts, PARAMS)
    assert own["kl"] == [0.0, 0.0, 0.0]

    moved = copy.deepcopy(tiny_model)
    with torch.no_grad():
        moved.model.embed_tokens.weight.mul_(1.2)
    replies = reply_to_prompts(Builtin(), moved, tiny_model, scorer, tiny_tokenizer, prompts, PARAMS)
    for prompt, tokens, kl in zip(prompts, replies["tokens"], replies["kl"], strict=True):
        total = 0.0
        for i, token in enumerate(tokens):
            context = torch.tensor([prompt.ids + tokens[:i]])
            with torch.no_grad():
                p, q = ((m(context).logits[0, -1] / 0.8).log_softmax(-1)[token] for m in (moved, tiny_model))
            total += float(p - q)
        assert kl == pytest.approx(total, abs=1e-4)


def test_unended_replies_are_ended_for_scoring(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, scorer: RewardScorer
) -> None:
    end = tiny_tokenizer.eos_token_id
    prompts = fit_prompts(tiny_tokenizer, ROWS, 128, PARAMS.max_new_tokens)
    replies = reply_to_prompts(Builtin(), tiny_model, tiny_model, scorer, tiny_tokenizer, prompts, PARAMS)
    assert False in replies["ended"]
    whole = [t if t[-1] == end else [*t, end] for t in replies["tokens"]]
    expected, _ = scorer.score([p.ids + t for p, t in zip(prompts, whole, strict=True)])
    assert replies["rewards"] == pytest.approx(expected.tolist())


def test_prompts_leave_room_for_the_reply(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [{"conversation_id": "c", "messages": [{"role": "user", "content": "the sea " * 200}], "reply": None}]
    assert len(fit_prompts(tiny_tokenizer, rows, 64, 16)[0].ids) == 47


def test_metrics_of_known_replies() -> None:
    replies = ModelReplies(
        texts=["a", "b"], tokens=[[1, 2, 1, 2], [1, 2]], ended=[True, False], rewards=[0.0, 0.0], kl=[0.0, 0.0]
    )
    # bigrams: 12 21 12 and 12, two of four distinct, in one segment
    assert reply_metrics(replies, ["c1", "c2"], PARAMS) == {
        "reply_length": 3.0,
        "reply_length_ci_low": 2.0,
        "reply_length_ci_high": 4.0,
        "distinct_2": 0.5,
        "distinct_2_ci_low": 0.5,
        "distinct_2_ci_high": 0.5,
        "end_of_turn_rate": 0.5,
    }


def saying(lengths: list[int], words: int) -> ModelReplies:
    """Replies that go through so many words, in steps of three."""
    tokens = [[(start * 97 + 3 * i) % words for i in range(length)] for start, length in enumerate(lengths)]
    count = len(lengths)
    return ModelReplies(
        texts=[""] * count, tokens=tokens, ended=[True] * count, rewards=[0.0] * count, kl=[0.0] * count
    )


def test_changes_of_length_and_diversity_are_relative_to_sft() -> None:
    conversations = [f"c{i}" for i in range(200)]
    lengths = [10, 20, 30, 40] * 50  # 5,000 tokens
    same = style_changes(saying(lengths, 400), saying(lengths, 400), conversations, PARAMS)
    assert [same[f"reply_length_change{end}"] for end in ENDS] == [0.0, 0.0, 0.0]
    assert same["distinct_2_change"] == 0.0
    assert same["distinct_2_change_ci_low"] <= 0.0 <= same["distinct_2_change_ci_high"]
    assert (same["reply_length_change_num_items"], same["distinct_2_change_num_items"]) == (200, 10)
    longer = style_changes(
        saying(lengths, 400), saying([length * 3 // 2 for length in lengths], 100), conversations, PARAMS
    )
    assert [longer[f"reply_length_change{end}"] for end in ENDS] == pytest.approx([0.5, 0.5, 0.5])
    assert longer["distinct_2_change"] < -0.3
    assert longer["distinct_2_change_ci_high"] < -0.2
    assert longer["distinct_2_change_num_items"] == 10  # those of SFT, which has fewer


def test_replies_without_bigrams_have_no_change_of_diversity() -> None:
    changes = style_changes(saying([1, 1], 9), saying([20, 30], 9), ["c1", "c2"], PARAMS)
    assert changes["reply_length_change"] == 24.0
    assert not [name for name in changes if name.startswith("distinct_2")]
