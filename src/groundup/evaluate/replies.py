"""One sampled reply per test prompt: its reward, its KL to the SFT model, its length and diversity."""

from collections.abc import Sequence
from functools import partial
from typing import Any, TypedDict

from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.core.decoding.history import fit_prompt
from groundup.core.model.generation import (
    DISTINCT_TOKENS,
    Replies,
    Sampler,
    distinct_2,
    ended_chats,
    next_token_logprobs,
)
from groundup.core.model.likelihood import Stretch, stretch_nats
from groundup.core.model.scoring import RewardScorer
from groundup.core.rollout.prompts import Prompt
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
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Sequence[int]],
    params: EvaluateParams,
) -> Replies:
    """Every model uses the same random numbers, so that equal models give equal replies."""
    sampler = Sampler.of(tokenizer, params.max_new_tokens, params.temperature, params.batch_size)
    return sampler.sample(model, prompts, params.seed)


def reply_to_prompts(
    model: LlamaForCausalLM,
    sft: LlamaForCausalLM,
    scorer: RewardScorer,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Prompt],
    params: EvaluateParams,
) -> ModelReplies:
    replies = sample_replies_of(model, tokenizer, [prompt.ids for prompt in prompts], params)
    chats = ended_chats([prompt.ids for prompt in prompts], replies.tokens, replies.ended, tokenizer.eos_token_id)
    rewards, _ = scorer.score(chats)
    stretches = [Stretch(p.ids + t, len(t)) for p, t in zip(prompts, replies.tokens, strict=True)]
    # Both are computed in the same way, so that SFT's KL to itself is zero and not rounding noise.
    own, reference = (
        stretch_nats(m, stretches, params.batch_size, partial(next_token_logprobs, m, temperature=params.temperature))
        for m in (model, sft)
    )
    return ModelReplies(
        texts=[tokenizer.decode(tokens, skip_special_tokens=True).strip() for tokens in replies.tokens],
        tokens=replies.tokens,
        ended=replies.ended,
        rewards=rewards.tolist(),
        kl=[r - o for o, r in zip(own, reference, strict=True)],
    )


def reply_metrics(replies: ModelReplies) -> dict[str, float]:
    return {
        "reply_length": sum(len(tokens) for tokens in replies["tokens"]) / len(replies["tokens"]),
        "distinct_2": distinct_2(replies["tokens"], DISTINCT_TOKENS),
        "end_of_turn_rate": sum(replies["ended"]) / len(replies["ended"]),
    }
