"""Pairs of a person's reply and the SFT model's, as in self-play (Chen et al. 2024, arXiv:2401.01335)."""

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from groundup.core.formats.chat_format import render
from groundup.core.formats.jsonl import Row, read_jsonl
from groundup.core.formats.records import Message
from groundup.core.model.generation import Sampler
from groundup.core.rollout.engine import RolloutEngine, Source
from groundup.core.rollout.sampling import sample_by_share
from groundup.core.training.runtime import draw
from groundup.reward.pairs import SAMPLED, Pair
from groundup.runner.params.training import SampledParams

COLUMNS = ("conversation_id", "source", "messages", "reply")


def sampled_pairs(
    engine: RolloutEngine,
    sft: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    path: Path,
    num_pairs: int,
    max_length: int,
    params: SampledParams,
    seed: int,
) -> list[Pair]:
    """A pair for some of the prompts in `path` that a person answered; pairs over max_length are left out.

    The sampled reply is tokenized from its text, like the person's. The drawn tokens would give it away: a tokenizer
    splits most texts in one way, but a model generates them in many.
    """
    answered = [row for row in read_jsonl(path, COLUMNS) if row["reply"]]
    prompts = [(row, render(tokenizer, row["messages"], reply_next=True)) for row in answered]
    room = max_length - params.max_new_tokens
    drawn = draw([(row, ids) for row, ids in prompts if len(ids) < room], num_pairs, seed)
    if not drawn:
        return []
    sampler = Sampler.of(tokenizer, params.max_new_tokens, params.temperature, params.batch_size)
    replies = sample_by_share(engine, Source.whole(sft), sampler, [ids for _, ids in drawn], seed)
    texts = tokenizer.batch_decode(replies.tokens, skip_special_tokens=True)
    pairs = (make_pair(row, text, tokenizer) for (row, _), text in zip(drawn, texts, strict=True))
    return [
        pair
        for pair in pairs
        if pair.chosen != pair.rejected and max(len(pair.chosen), len(pair.rejected)) <= max_length
    ]


def make_pair(row: Row, sampled: str, tokenizer: PreTrainedTokenizerFast) -> Pair:
    chosen, rejected = (reply_to(row["messages"], reply) for reply in (row["reply"], sampled))
    return Pair(
        chosen=render(tokenizer, chosen, reply_next=False),
        rejected=render(tokenizer, rejected, reply_next=False),
        row={
            "source": row["source"],
            "kind": SAMPLED,
            "chosen": chosen,
            "rejected": rejected,
            "margin": 0.0,
            "chosen_id": row["conversation_id"],
            "rejected_id": row["conversation_id"],
            "chosen_rating": None,
            "rejected_rating": None,
            "wrong_from": None,
        },
    )


def reply_to(messages: Sequence[Message], reply: str) -> list[Message]:
    return [*messages, {"role": "assistant", "content": reply.strip()}]
