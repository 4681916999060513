"""The counted tokens are those that a judge reads."""

from pathlib import Path

from transformers import PreTrainedTokenizerFast

from groundup.core.judging.pairs import reply_pairs
from groundup.evaluate.model_judge.cost import USUAL_KINDS, Lengths, judge_tokens, score_tokens
from groundup.evaluate.model_judge.judge import ModelJudge
from tests.evaluate.judging import GOLD_PARAMS, PARAMS
from tests.evaluate.model_judge.folders import judge_params, opened, save
from tests.evaluate.model_judge.test_judge import ROWS

WORDS = ("well", "town", "river", "valley", "green", "home", "sea")


def test_what_is_read_is_what_was_counted(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """7 replies to each of 3 conversations of one kind, in a batch of 3 replies; 2 others."""
    save(tmp_path / "model", tiny_tokenizer)
    logprobs = opened(tmp_path / "model", tmp_path / "kept.jsonl")
    pairs = reply_pairs(ROWS, GOLD_PARAMS)
    judge = ModelJudge.of(logprobs, pairs, num_others=2, params=GOLD_PARAMS)
    before = [[{"role": "user", "content": text}] for text in ("How so", "I listen", "We flow through")]
    here = judge.centred_on([[{"role": "user", "content": text}] for text in ("Some more", "the people")])
    replies = [judge.scorer.reader.reply(text) for text in WORDS]
    reply = sum(len(each.ids) - 1 for each in replies) / len(replies)  # the last token of a reply is no input
    others = [judge.scorer.reader.conversation(other, replies[0]) for other in here.others[0]]
    said = [judge.scorer.reader.conversation(messages, replies[0]) for messages in before]
    lengths = Lengths(sum(map(len, said)) / len(said), reply)
    of_others = Lengths(sum(map(len, others)) / len(others), reply)
    read = logprobs.num_read
    here.score([[*messages, {"role": "assistant", "content": text}] for messages in before for text in WORDS])
    params = judge_params(None)
    counted = (
        score_tokens(3, 7, 0, lengths, params) + score_tokens(0, 0, 7 * USUAL_KINDS, of_others, params) / USUAL_KINDS
    )
    assert abs(logprobs.num_read - read - counted) <= 1


def test_shared_passes_cost_less_and_more_others_more() -> None:
    lengths = Lengths(conversation=100.0, reply=10.0)
    judge = PARAMS.model_judge.model_copy(update={"batch_size": 16, "num_others": 4})
    assert score_tokens(1, 16, 0, lengths, judge) == 100 + 16 * 10
    assert score_tokens(1, 17, 0, lengths, judge) == 2 * 100 + 17 * 10
    assert score_tokens(1, 1, 64, lengths, judge) == 100 + 10 + 4 * 4 * (100 + 16 * 10)

    def of_all(**changes: int) -> int:
        params = PARAMS.model_copy(update={"model_judge": judge.model_copy(update=changes)})
        return judge_tokens(params, num_validation_prompts=512, num_points=9, num_decoded=8, lengths=lengths)

    assert of_all() < of_all(num_others=8)
    assert of_all() < of_all(num_pairs=400)
    assert of_all() < of_all(num_control_prompts=200)
