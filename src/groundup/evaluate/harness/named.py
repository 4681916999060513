"""Tasks of lm-evaluation-harness by name; they need a network, because their data is on the Hugging Face hub."""

import difflib
import logging
import math
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

from lm_eval.api.model import LM
from lm_eval.api.task import Task
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from groundup.core.judging.statistics import NORMAL_QUANTILE
from groundup.evaluate.harness.models import LoadedNgrams

logger = logging.getLogger(__name__)
ONLINE = "connect to the internet and start it as `HF_HUB_OFFLINE=0 dvc repro evaluate`"
LIKELIHOODS = ("multiple_choice", "loglikelihood_rolling")  # tasks for n-grams


class NamedTasks:
    """The tasks named in params with their data and groups; empty if params name none."""

    def __init__(self, names: Sequence[str], seed: int) -> None:
        """ValueError lists every task that cannot be run, and why."""
        self.tasks: dict[str, Task] = {}
        self.groups: dict[str, Any] = {}
        if not names:
            return  # building the index of lm-eval's thousands of tasks takes seconds
        manager = TaskManager()
        problems = list(_unknown(names, manager.all_tasks))
        for name in names:
            if name not in manager.all_tasks:
                continue
            random.seed(seed)  # some tasks shuffle, and the items have to be the same in all processes
            try:
                found = manager.load(name)
            except Exception as error:  # data comes from anywhere, and some tasks need extra libraries
                problems.append(f"{name} cannot be loaded ({type(error).__name__}: {error}); {ONLINE}")
                continue
            problems += [problem for task in found["tasks"].values() for problem in _unfit(task)]
            self.tasks |= found["tasks"]
            self.groups |= found["groups"]
        if problems:
            raise ValueError("evaluate.tasks in params.yaml:\n  " + "\n  ".join(problems))
        for task in self.tasks.values():
            if task.get_config("num_fewshot") is None:
                task.set_config(key="num_fewshot", value=0)
            task.set_fewshot_seed(seed)

    def texts(self) -> dict[str, list[list[str]]]:
        """For each task the texts of its items: context and continuation of every request."""
        found: dict[str, dict[int, list[str]]] = {}
        for name, task in self.tasks.items():
            task.build_all_requests()
            for request in task.instances:
                text = "".join(argument for argument in request.args if isinstance(argument, str))
                found.setdefault(name, {}).setdefault(request.doc_id, []).append(text)
        return {name: list(items.values()) for name, items in found.items()}

    def scores(self, lm: LM, bootstrap_samples: int, limit: int | None) -> dict[str, float]:
        """Every metric of every task and group, intervals from lm-eval's standard errors, and chance levels."""
        tasks, groups = self.tasks, self.groups
        if isinstance(lm, LoadedNgrams):
            tasks, groups = {name: task for name, task in tasks.items() if task.OUTPUT_TYPE in LIKELIHOODS}, {}
        if not tasks:
            return {}
        result = evaluate(lm, {"tasks": tasks, "groups": groups}, limit=limit, bootstrap_iters=bootstrap_samples)
        scores: dict[str, float] = {}
        for name, values in result["results"].items():
            scores |= dict(_metrics(name, values))
        for name, task in tasks.items():
            if task.OUTPUT_TYPE == "multiple_choice":
                samples = result["samples"][name]
                scores[f"{metric_name(name)}_chance"] = sum(1 / len(s["arguments"]) for s in samples) / len(samples)
        return scores


def _unknown(names: Sequence[str], known: Sequence[str]) -> Iterator[str]:
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else "`lm-eval ls tasks` lists them"
            yield f"lm-eval has no task {name}: {hint}"
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        yield f"{', '.join(repeated)}: named more than once; once is enough"


def _unfit(task: Task) -> Iterator[str]:
    """Problems of tasks that cannot be run here."""
    if getattr(task, "UNSAFE_CODE", False):
        yield f"{task.task_name} runs code that the model has written; leave it out"
    if getattr(task, "MULTIMODAL", False):
        yield f"{task.task_name} shows pictures or sounds, which these models cannot read; leave it out"


def _metrics(task: str, values: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """lm-eval's "metric,filter" and "metric_stderr,filter" as figures with intervals."""
    for key, value in values.items():
        metric, comma, kind = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        name = metric_name(f"{task}_{metric}" if kind == "none" else f"{task}_{metric}_{kind}")
        if not math.isfinite(value):
            logger.warning("evaluate: %s is %s, so it is left out", name, value)
            continue
        yield name, float(value)
        error = values[f"{metric}_stderr,{kind}"]
        if isinstance(error, int | float) and math.isfinite(error):
            yield f"{name}_ci_low", value - NORMAL_QUANTILE * error
            yield f"{name}_ci_high", value + NORMAL_QUANTILE * error


def metric_name(text: str) -> str:
    return re.sub(r"[^\w\-]", "_", text)
