"""Every decoding method on the same few test prompts, at the same budget of tokens."""

import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import TypedDict

import numpy as np

from groundup.core.decoding import METHODS, Decoding, make_decoding, reply_to_prompt
from groundup.core.decoding.assistant import Assistant
from groundup.core.judging.judge import Judge
from groundup.evaluate.gold import Absent, chats
from groundup.evaluate.intervals import Floats, Metrics, resamples, weighted_mean, with_judge_interval
from groundup.evaluate.replies import Prompt
from groundup.runner.params.evaluate import EvaluateParams
from groundup.runner.steps import FinishedSteps


class Decoded(TypedDict):
    """One reply a prompt by one method."""

    texts: list[str]
    ended: list[bool]  # by end-of-turn
    lengths: list[int]  # tokens of the reply
    rewards: list[float]
    log_probs: list[float]
    num_generated: list[int]  # tokens of all replies tried
    seconds: list[float]


def decode_prompts(assistant: Assistant, prompts: Sequence[Prompt], decoding: Decoding) -> Decoded:
    """One prompt at a time, as someone who waits for the reply would see it."""
    replies, seconds = [], []
    for prompt in prompts:
        start = time.perf_counter()
        replies.append(reply_to_prompt(assistant, prompt.ids, decoding))
        seconds.append(time.perf_counter() - start)
    return Decoded(
        texts=[reply.text for reply in replies],
        ended=[reply.finish_reason == "stop" for reply in replies],
        lengths=[len(reply.token_ids) for reply in replies],
        rewards=[reply.reward for reply in replies if reply.reward is not None],
        log_probs=[reply.log_prob for reply in replies],
        num_generated=[reply.num_generated for reply in replies],
        seconds=seconds,
    )


def decode_by_every_method(
    steps: FinishedSteps, assistant: Assistant, prompts: Sequence[Prompt], params: EvaluateParams
) -> dict[str, Decoded]:
    return {
        method: steps.get(
            f"decoding-{method}", decode_prompts, assistant, prompts, make_decoding(method, params.decoding, {})
        )
        for method in METHODS
    }


def decoding_metrics(
    judge: Judge | Absent, prompts: Sequence[Prompt], decoded: Mapping[str, Decoded], params: EvaluateParams
) -> Metrics:
    """decoded: by method. Differences are paired by prompt."""
    weights = resamples([prompt.conversation_id for prompt in prompts], params.bootstrap_samples, params.seed)

    def mean(name: str, values: Floats) -> Metrics:
        return with_judge_interval(f"decoding_{name}", values, weights, weighted_mean)

    metrics: Metrics = {"decoding_num_prompts": len(prompts)}
    for method, replies in decoded.items():
        metrics |= mean(f"{method}_reward", np.array([replies["rewards"]]))
        metrics |= mean(f"{method}_log_prob", np.array([replies["log_probs"]]))
        if not isinstance(judge, Absent):
            metrics |= mean(f"{method}_gold", judge.score_by_resample(chats(prompts, replies["texts"])))
        metrics |= {
            f"decoding_{method}_reply_length": float(np.mean(replies["lengths"])),
            f"decoding_{method}_tokens": float(np.mean(replies["num_generated"])),
            # The median: whatever comes first also pays for what is loaded on the way.
            f"decoding_{method}_seconds": median(replies["seconds"]),
        }
    likelier = np.array([decoded["beam"]["log_probs"]]) - np.array([decoded["greedy"]["log_probs"]])
    better = np.array([decoded["tree"]["rewards"]]) - np.array([decoded["best_of_n"]["rewards"]])
    return {
        **metrics,
        **mean("beam_log_prob_over_greedy", likelier),
        "decoding_beam_at_least_greedy": float((likelier >= 0).mean()),
        **mean("tree_reward_over_best_of_n", better),
    }
