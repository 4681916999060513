"""One sampled reply per test prompt: its reward, its KL to the SFT model, its length and diversity."""

from collections.abc import Sequence
from functools import partial
from typing import Any, TypedDict

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from groundup.core.decoding.history import fit_prompt
from groundup.core.judging.statistics import Floats
from groundup.core.model.generation import (
    DISTINCT_2_TOKENS,
    Replies,
    Sampler,
    distinct_2_by_segment,
    ended_chats,
    next_token_logprobs,
)
from groundup.core.model.likelihood import Stretch, stretch_nats
from groundup.core.model.scoring import RewardScorer
from groundup.core.rollout.engine import RolloutEngine, Source
from groundup.core.rollout.prompts import Prompt
from groundup.core.rollout.sampling import sample_by_share
from groundup.core.training.ranks import by_share
from groundup.evaluate.intervals import Metrics, relative_change, resamples, with_interval
from groundup.runner.params.evaluate import EvaluateParams


class ModelReplies(TypedDict):
    """Replies of one model, one entry per prompt."""

    texts: list[str]
    tokens: list[list[int]]  # without the prompt
    ended: list[bool]  # with end-of-turn
    rewards: list[float]
    kl: list[float]  # nats per reply: log-probability under the model minus that under SFT, summed over its tokens


def fit_prompts(
    tokenizer: PreTrainedTokenizerFast, rows: Sequence[dict[str, Any]], context_length: int, max_new_tokens: int
) -> list[Prompt]:
    """Prompts that leave room for a reply and its end-of-turn token; the oldest turns are dropped first."""
    room = prompt_room(context_length, max_new_tokens)
    return [
        Prompt(row["conversation_id"], row["messages"], fit_prompt(tokenizer, row["messages"], room).ids, row["reply"])
        for row in rows
    ]


def prompt_room(context_length: int, max_new_tokens: int) -> int:
    """Number of tokens a prompt may have; one token is left for an end-of-turn added before scoring."""
    return context_length - max_new_tokens - 1


def sample_replies_of(
    engine: RolloutEngine,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Sequence[int]],
    params: EvaluateParams,
) -> Replies:
    """Every model uses the same random numbers, so that equal models give equal replies."""
    sampler = Sampler.of(tokenizer, params.max_new_tokens, params.temperature, params.batch_size)
    return sample_by_share(engine, Source.whole(model), sampler, prompts, params.seed)


def reply_to_prompts(
    engine: RolloutEngine,
    model: PreTrainedModel,
    sft: PreTrainedModel,
    scorer: RewardScorer,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Prompt],
    params: EvaluateParams,
) -> ModelReplies:
    replies = sample_replies_of(engine, model, tokenizer, [prompt.ids for prompt in prompts], params)
    chats = ended_chats([prompt.ids for prompt in prompts], replies.tokens, replies.ended, tokenizer.eos_token_id)
    rewards = by_share(lambda share: scorer.score(share)[0].tolist(), chats)
    stretches = [Stretch(p.ids + t, len(t)) for p, t in zip(prompts, replies.tokens, strict=True)]
    # Both are computed in the same way, so that SFT's KL to itself is zero and not rounding noise.
    own, reference = (
        by_share(
            partial(
                stretch_nats,
                m,
                batch_size=params.batch_size,
                distribution=partial(next_token_logprobs, m, temperature=params.temperature),
            ),
            stretches,
        )
        for m in (model, sft)
    )
    return ModelReplies(
        texts=[tokenizer.decode(tokens, skip_special_tokens=True).strip() for tokens in replies.tokens],
        tokens=replies.tokens,
        ended=replies.ended,
        rewards=rewards,
        kl=[r - o for o, r in zip(own, reference, strict=True)],
    )


def reply_metrics(replies: ModelReplies, conversations: Sequence[str], params: EvaluateParams) -> Metrics:
    """Length with its interval over conversations, distinct-2 with its interval over segments."""
    shares = distinct_2_by_segment(replies["tokens"], DISTINCT_2_TOKENS)
    return {
        **with_interval("reply_length", list(map(len, replies["tokens"])), conversations, params),
        **with_interval("distinct_2", shares, segments(shares), params),
        "end_of_turn_rate": sum(replies["ended"]) / len(replies["ended"]),
    }


def style_changes(
    before: ModelReplies, after: ModelReplies, conversations: Sequence[str], params: EvaluateParams
) -> Metrics:
    """Relative changes of both, as shares of their value before, and what they were measured on: lengths paired by
    prompt, segments not, since those of two models end at different prompts. A change of diversity is left out where
    replies of the model before are too short to have any.
    """
    num_samples, seed = params.bootstrap_samples, params.seed
    lengths = [np.array(list(map(len, replies["tokens"])), dtype=np.float64) for replies in (before, after)]
    by_prompt = resamples(conversations, num_samples, seed)
    shares = [np.array(distinct_2_by_segment(replies["tokens"], DISTINCT_2_TOKENS)) for replies in (before, after)]
    # Two seeds, so that the resamples of the two models are independent.
    by_segment = (
        resamples(segments(shares[0]), num_samples, seed),
        resamples(segments(shares[1]), num_samples, seed + 1),
    )
    changes = {
        **relative_change("reply_length_change", lengths[0], lengths[1], (by_prompt, by_prompt)),
        "reply_length_change_num_items": len(conversations),
    }
    if shares[0].all():
        changes |= relative_change("distinct_2_change", shares[0], shares[1], by_segment)
        changes["distinct_2_change_num_items"] = min(map(len, shares))
    return changes


def segments(shares: Sequence[float] | Floats) -> list[str]:
    """Their names: each is a group of its own."""
    return [str(i) for i in range(len(shares))]
