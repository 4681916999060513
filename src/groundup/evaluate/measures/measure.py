"""The interface of a measure, and its context. measures/__init__.py lists the measures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from groundup.core.formats.jsonl import Row
from groundup.core.judging.judge import Judge
from groundup.core.model.scoring import RewardScorer
from groundup.core.rollout.engine import RolloutEngine
from groundup.core.rollout.prompts import Prompt
from groundup.evaluate.gold import Absent
from groundup.evaluate.harness.named import NamedTasks
from groundup.evaluate.held_out import TestSet
from groundup.evaluate.intervals import Metrics
from groundup.evaluate.model_judge.independence import Independence
from groundup.evaluate.replies import ModelReplies
from groundup.evaluate.shown import Shown
from groundup.runner.params.evaluate import EvaluateParams
from groundup.runner.steps import FinishedSteps


@dataclass(frozen=True)
class Data:
    """Folders and files from prepare and tokenizer."""

    shards: Path
    text: Path  # this and the next three also have the train.jsonl of a training stage
    chats: Path
    preferences: Path
    prompts: Path
    evaluation: Path  # tasks, one JSONL file each
    judge: Path


@dataclass(frozen=True)
class Context:
    """What all measures share."""

    data: Data
    test_set: TestSet
    named: NamedTasks
    tokenizer: PreTrainedTokenizerFast
    sft: PreTrainedModel
    scorer: RewardScorer
    judge: Judge | Absent
    independence: Independence | None  # of a judge that is a language model
    points: list[Row]  # align's evaluation points
    prompts: list[Prompt]
    kept: Path  # folder for answers that every run reuses
    engine: RolloutEngine  # what samples replies
    steps: FinishedSteps
    params: EvaluateParams
    out: Path  # for the files of a measure
    replies: dict[str, ModelReplies] = field(default_factory=dict)  # by model

    @property
    def conversations(self) -> list[str]:
        return [prompt.conversation_id for prompt in self.prompts]


class Measure:
    """One kind of figures; all methods are optional. Created before anything is measured, to reject settings early."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def of_model(self, name: str, model: PreTrainedModel) -> Metrics:
        """Figures of one model, for its group; called for base, sft and aligned in this order."""
        return {}

    def of_all(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Figures outside the models' groups. `metrics`: those groups, and the figures of earlier measures."""
        return {}

    def publish(self, metrics: Mapping[str, Any]) -> None:
        """Write the measure's own files into context.out."""

    def shown(self, metrics: Mapping[str, Any]) -> Shown:
        return Shown()
