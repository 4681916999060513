"""Every decoding method on the same few test prompts, with the same budget of tokens."""

import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, TypedDict

import numpy as np
from transformers import PreTrainedModel

from groundup.core.decoding import METHODS, Decoding, make_decoding, reply_to_prompt
from groundup.core.decoding.assistant import Assistant
from groundup.core.formats.jsonl import write_jsonl
from groundup.core.judging.judge import Judge
from groundup.core.judging.statistics import Floats
from groundup.core.rollout.prompts import Prompt
from groundup.core.training.runtime import draw
from groundup.evaluate.gold import Absent, chats
from groundup.evaluate.intervals import Metrics, resamples, weighted_mean, with_judge_interval
from groundup.evaluate.measures.measure import Context, Measure
from groundup.evaluate.shown import (
    Cell,
    Row,
    Section,
    Shown,
    Table,
    number,
    number_cell,
    number_with_interval,
    percent,
    verdict,
)
from groundup.runner.params.decoding import DecodingParams
from groundup.runner.params.evaluate import EvaluateParams

FILE = "decoding.jsonl"
COLUMNS = ["", "Reward", "Gold score", "Log-probability", "Tokens generated", "Tokens of the reply"]
TITLES = {
    "greedy": "Greedy",
    "sample": "Sampling",
    "beam": "Beam search",
    "best_of_n": "Best of n",
    "tree": "Tree of thoughts",
}


class DecodingMethods(Measure):
    """Measures the aligned model only."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.prompts = draw(context.prompts, context.params.decoding.num_prompts, context.params.seed)
        self.decoded: dict[str, Decoded] = {}  # by method

    def of_model(self, name: str, model: PreTrainedModel) -> Metrics:
        if name == "aligned":
            assistant = Assistant(model, self.context.tokenizer, self.context.scorer)
            for method in METHODS:
                decoding = make_decoding(method, self.context.params.decoding, {})
                self.decoded[method] = self.context.steps.get(
                    f"decoding-{method}", decode_prompts, assistant, self.prompts, decoding
                )
        return {}

    def of_all(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        return decoding_metrics(self.context.judge, self.prompts, self.decoded, self.context.params)

    def publish(self, metrics: Mapping[str, Any]) -> None:
        """All replies: {conversation_id, messages, replies by method}."""
        rows = [
            {
                "conversation_id": prompt.conversation_id,
                "messages": prompt.messages,
                "replies": {
                    method: {"text": d["texts"][i], "ended": d["ended"][i], "reward": d["rewards"][i]}
                    for method, d in self.decoded.items()
                },
            }
            for i, prompt in enumerate(self.prompts)
        ]
        write_jsonl(self.context.out / FILE, rows)

    def shown(self, metrics: Mapping[str, Any]) -> Shown:
        hint = decoding_hint(metrics, self.context.params.decoding)
        return Shown(
            sentences=decoding_sentences(metrics),
            sections=[Section("Decoding", hint, [Table(COLUMNS, decoding_rows(metrics))])],
        )


class Decoded(TypedDict):
    """One reply per prompt by one method."""

    texts: list[str]
    ended: list[bool]  # with end-of-turn
    lengths: list[int]  # tokens of the reply
    rewards: list[float]
    log_probs: list[float]
    num_generated: list[int]  # tokens of all replies tried
    seconds: list[float]


def decode_prompts(assistant: Assistant, prompts: Sequence[Prompt], decoding: Decoding) -> Decoded:
    """One prompt at a time, so that the seconds are those a waiting user would see."""
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
            # The median, because the first reply also pays for lazy loading.
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


def decoding_sentences(metrics: Mapping[str, Any]) -> list[str]:
    """Whether beam search finds more likely replies than greedy, and the tree better ones than best of n."""
    return [_beam(metrics), _tree(metrics)]


def decoding_rows(metrics: Mapping[str, Any]) -> list[Row]:
    """One row per method, with COLUMNS. Times are only in the metrics."""
    return [
        Row(
            title,
            "",
            [
                *(number_cell(metrics, f"decoding_{method}_{figure}") for figure in ("reward", "gold", "log_prob")),
                Cell(f"{metrics[f'decoding_{method}_tokens']:.0f}"),
                Cell(f"{metrics[f'decoding_{method}_reply_length']:.1f}"),
            ],
        )
        for method, title in TITLES.items()
    ]


def decoding_hint(metrics: Mapping[str, Any], params: DecodingParams) -> str:
    return (
        f"The aligned model on {metrics['decoding_num_prompts']} test prompts, drawn at random: the reward model's "
        "score, the gold judge's, the log-probability of the whole reply under the model at temperature 1, the tokens "
        f"generated for it (at most {params.budget_tokens}) and those of the reply. Temperature "
        f"{params.temperature:g}. Best of n and tree choose by the reward model's mean score less "
        f"{params.pessimism:g} times its standard deviation, which is 0 with the linear head. Small figures "
        "are 95\u00a0% intervals. The seconds per reply are decoding_METHOD_seconds in the run's metrics."
    )


def _beam(metrics: Mapping[str, Any]) -> str:
    share = metrics["decoding_beam_at_least_greedy"]
    figures = (
        f"its mean log-probability is {number(metrics['decoding_beam_log_prob'])} against "
        f"{number(metrics['decoding_greedy_log_prob'])}"
    )
    if share == 1:
        return (
            f"Beam search finds a reply at least as likely as greedy's on all {metrics['decoding_num_prompts']} "
            f"prompts: {figures}."
        )
    return (
        f"Beam search does not find a reply as likely as greedy's on {percent(1 - share)} of "
        f"{metrics['decoding_num_prompts']} prompts: {figures}."
    )


def _tree(metrics: Mapping[str, Any]) -> str:
    name = "decoding_tree_reward_over_best_of_n"
    said = verdict(
        metrics,
        name,
        0,
        "finds replies of a higher reward than best of n",
        "finds replies of a lower reward than best of n",
        "cannot be told apart in reward from best of n",
    )
    return (
        f"At the same budget of tokens tree of thoughts {said}: {number(metrics['decoding_tree_reward'])} against "
        f"{number(metrics['decoding_best_of_n_reward'])}, difference {number_with_interval(metrics, name)}."
    )
