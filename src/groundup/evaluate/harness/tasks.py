"""Our test sets as tasks of lm-evaluation-harness, and the results per item."""

import contextlib
import io
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from datasets import Dataset
from lm_eval.api.model import LM
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate
from transformers import PreTrainedTokenizerFast

from groundup.core.formats.jsonl import Row
from groundup.evaluate.choices import choice_branches
from groundup.evaluate.intervals import resamples, with_interval
from groundup.runner.params.evaluate import EvaluateParams

BITS_PER_BYTE = "bits_per_byte"


class ChoiceResult(TypedDict):
    """One entry per item."""

    correct: list[float]  # 1 or 0
    groups: list[str]  # units of resampling for the interval


class TextResult(TypedDict):
    """One entry per document."""

    bits: list[float]
    num_bytes: list[int]
    sources: list[str]


def choice_task(
    name: str, items: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerFast, context_length: int
) -> ConfigurableTask:
    """A task whose answer is the reply with the highest log-likelihood per token, end-of-turn included."""
    rows = [choice_row(item, tokenizer, context_length) for item in items]
    return _task(
        name,
        rows,
        output_type="multiple_choice",
        doc_to_text=lambda row: row["prompt"],
        doc_to_choice=lambda row: row["replies"],
        doc_to_target=lambda row: row["gold"],
        target_delimiter="",
        # lm-eval's own accuracies compare whole replies, or normalize by characters.
        process_results=lambda row, results: {"accuracy": is_right(row, [nats for nats, _ in results])},
        metric_list=[{"metric": "accuracy", "aggregation": "mean", "higher_is_better": True}],
    )


def choice_row(item: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast, context_length: int) -> Row:
    """The item as strings and as the chat's ids, cut to the context if it is too long."""
    branches = choice_branches(tokenizer, item["query"], item["choices"], context_length)
    return {
        "prompt": tokenizer.decode(branches.prompt),
        "replies": [tokenizer.decode(reply) for reply in branches.replies],
        "prompt_ids": branches.prompt,
        "reply_ids": branches.replies,
        "num_tokens": [len(reply) for reply in branches.replies],
        "gold": item["gold"],
        "group_id": item["group_id"],
    }


def is_right(row: Mapping[str, Any], log_likelihoods: Sequence[float]) -> float:
    per_token = [value / count for value, count in zip(log_likelihoods, row["num_tokens"], strict=True)]
    return float(per_token.index(max(per_token)) == row["gold"])


def text_task(documents: Sequence[Mapping[str, Any]]) -> ConfigurableTask:
    """Bits per byte of whole documents {"text", "source"}."""
    return _task(
        BITS_PER_BYTE,
        [{"text": document["text"], "source": document["source"]} for document in documents],
        output_type="loglikelihood_rolling",
        doc_to_text=lambda row: "",
        doc_to_target=lambda row: row["text"],
        metric_list=[{"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False}],
    )


def _task(name: str, rows: list[Row], **config: Any) -> ConfigurableTask:
    # Silence lm-eval's warnings about a model object and a data set function, which are intended here.
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    dataset = {"test": Dataset.from_list(rows)}  # in memory: nothing is cached or looked up

    def in_memory(**_: Any) -> dict[str, Dataset]:
        return dataset

    return ConfigurableTask(
        config={"task": name, "custom_dataset": in_memory, "test_split": "test", "num_fewshot": 0, **config}
    )


def choice_result(lm: LM, task: ConfigurableTask, items: list[int]) -> ChoiceResult:
    samples = _samples(lm, task, items)
    return ChoiceResult(
        correct=[sample["accuracy"] for sample in samples], groups=[sample["doc"]["group_id"] for sample in samples]
    )


def text_result(lm: LM, task: ConfigurableTask, items: list[int]) -> TextResult:
    samples = _samples(lm, task, items)
    return TextResult(
        bits=[-sample[BITS_PER_BYTE][0] / math.log(2) for sample in samples],
        num_bytes=[sample[BITS_PER_BYTE][1] for sample in samples],
        sources=[sample["doc"]["source"] for sample in samples],
    )


def _samples(lm: LM, task: ConfigurableTask, items: list[int]) -> list[dict[str, Any]]:
    """lm-eval's records of the given items, in order."""
    name = task.config.task
    with contextlib.redirect_stderr(io.StringIO()):  # hides two short progress bars per task and model
        result = evaluate(lm, {"tasks": {name: task}}, samples={name: items}, bootstrap_iters=0)
    return result["samples"][name]


def choice_scores(name: str, result: ChoiceResult, params: EvaluateParams) -> dict[str, float]:
    """Accuracy with its 95 % interval, groups resampled."""
    return with_interval(f"{name}_accuracy", result["correct"], result["groups"], params)


def text_scores(result: TextResult, params: EvaluateParams) -> dict[str, float]:
    """Bits per byte with its 95 % interval over documents; of all and of each source."""
    bits, sizes = np.array(result["bits"]), np.array(result["num_bytes"], dtype=np.float64)
    sources = np.array(result["sources"])
    weights = resamples([str(i) for i in range(len(bits))], params.bootstrap_samples, params.seed)
    scores: dict[str, float] = {}
    named = {BITS_PER_BYTE: np.ones(len(bits), dtype=bool)}
    named |= {f"{BITS_PER_BYTE}_{source}": sources == source for source in sorted(set(result["sources"]))}
    for name, chosen in named.items():
        counted = weights[:, chosen]
        drawn = (counted @ bits[chosen])[counted.any(axis=1)] / (counted @ sizes[chosen])[counted.any(axis=1)]
        low, high = np.quantile(drawn, [0.025, 0.975])
        scores[name] = math.fsum(bits[chosen]) / float(sizes[chosen].sum())
        scores |= {f"{name}_ci_low": float(low), f"{name}_ci_high": float(high)}
    return scores
