"""Run all tasks of lm-evaluation-harness on one model or baseline."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from lm_eval.api.model import LM
from lm_eval.api.task import ConfigurableTask
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from groundup.core.formats.jsonl import Row
from groundup.core.training.runtime import draw
from groundup.evaluate.harness.models import Encoder, LoadedModel, LoadedNgrams
from groundup.evaluate.harness.named import NamedTasks
from groundup.evaluate.harness.tasks import (
    BITS_PER_BYTE,
    choice_result,
    choice_scores,
    choice_task,
    text_result,
    text_scores,
    text_task,
)
from groundup.evaluate.intervals import Metrics
from groundup.evaluate.ngram import NgramModel, training_tokens
from groundup.runner.params.evaluate import EvaluateParams
from groundup.runner.steps import FinishedSteps


class Suite:
    """Our test sets and the tasks named in params, ready for any model with this tokenizer."""

    def __init__(
        self,
        documents: Sequence[Row],
        tasks: Mapping[str, Sequence[Row]],
        named: NamedTasks,
        tokenizer: PreTrainedTokenizerFast,
        context_length: int,
        steps: FinishedSteps,
        params: EvaluateParams,
    ) -> None:
        self.texts = text_task(documents)
        self.choices = {name: choice_task(name, rows, tokenizer, context_length) for name, rows in tasks.items()}
        self.chance = {
            f"{name}_chance": sum(1 / len(row["choices"]) for row in rows) / len(rows) for name, rows in tasks.items()
        }
        self.named = named
        self.encoder = Encoder(tokenizer, [row for task in self.choices.values() for row in task.eval_docs])
        self.steps = steps
        self.params = params

    def model_scores(self, name: str, model: PreTrainedModel) -> Metrics:
        return self._scores(name, LoadedModel(model, self.encoder, self.params.batch_size), limit=None)

    def untrained_scores(self, model: PreTrainedModel) -> Metrics:
        """Scores of the same architecture with random weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.params.seed)
            fresh = type(model)(copy.deepcopy(model.config)).to(model.device).eval()
        lm = LoadedModel(fresh, self.encoder, self.params.batch_size)
        return self._scores("untrained", lm, limit=self.params.num_untrained_items)

    def ngram_scores(self, shards: Path, chats: Path) -> dict[str, Metrics]:
        """Scores of the unigram and the n-gram model."""
        return self.steps.get("ngrams", self._ngram_scores, shards, chats)

    def _ngram_scores(self, shards: Path, chats: Path) -> dict[str, Metrics]:
        ngram, tokenizer = self.params.ngram, self.encoder.tokenizer
        tokens = training_tokens(shards, chats, tokenizer, ngram.max_tokens)
        return {
            name: self._scores(name, LoadedNgrams(NgramModel(tokens, order, len(tokenizer)), self.encoder), limit=None)
            for name, order in (("unigram", 1), ("ngram", ngram.order))
        }

    def _scores(self, name: str, lm: LM, limit: int | None) -> Metrics:
        texts = self.steps.get(f"{name}-{BITS_PER_BYTE}", text_result, lm, self.texts, self._drawn(self.texts, limit))
        scores = text_scores(texts, self.params)
        for task_name, task in self.choices.items():
            result = self.steps.get(f"{name}-{task_name}", choice_result, lm, task, self._drawn(task, limit))
            scores |= choice_scores(task_name, result, self.params)
        scores |= self.steps.get(f"{name}-named", self.named.scores, lm, self.params.bootstrap_samples, limit)
        return scores | self.chance

    def _drawn(self, task: ConfigurableTask, limit: int | None) -> list[int]:
        return draw(list(range(len(task.eval_docs))), limit, self.params.seed)
