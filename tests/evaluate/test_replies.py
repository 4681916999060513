import copy

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

from groundup.core.model.scoring import RewardScorer
from groundup.evaluate.replies import ModelReplies, fit_prompts, reply_metrics, reply_to_prompts
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
    own = reply_to_prompts(tiny_model, tiny_model, scorer, tiny_tokenizer, prompts, PARAMS)
    assert own["kl"] == [0.0, 0.0, 0.0]

    moved = copy.deepcopy(tiny_model)
    with torch.no_grad():
        moved.model.embed_tokens.weight.mul_(1.2)
    replies = reply_to_prompts(moved, tiny_model, scorer, tiny_tokenizer, prompts, PARAMS)
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
    replies = reply_to_prompts(tiny_model, tiny_model, scorer, tiny_tokenizer, prompts, PARAMS)
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
    # bigrams: 12 21 12 and 12, two of four distinct
    assert reply_metrics(replies) == {"reply_length": 3.0, "distinct_2": 0.5, "end_of_turn_rate": 0.5}
