"""What a measure is, and what it measures with. measures/__init__.py lists them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.core.formats.jsonl import Row
from groundup.core.judging.judge import Judge
from groundup.core.model.scoring import RewardScorer
from groundup.core.rollout.prompts import Prompt
from groundup.evaluate.gold import Absent
from groundup.evaluate.harness.named import NamedTasks
from groundup.evaluate.held_out import TestSet
from groundup.evaluate.intervals import Metrics
from groundup.evaluate.replies import ModelReplies
from groundup.evaluate.shown import Shown
from groundup.runner.params.evaluate import EvaluateParams
from groundup.runner.steps import FinishedSteps


@dataclass(frozen=True)
class Data:
    """Folders and files that prepare and tokenizer made."""

    shards: Path
    text: Path  # this and the next three: with the train.jsonl that a stage is trained on
    chats: Path
    preferences: Path
    prompts: Path
    evaluation: Path  # tasks, one JSONL file each
    judge: Path


@dataclass(frozen=True)
class Context:
    """What measures share."""

    data: Data
    test_set: TestSet
    named: NamedTasks
    tokenizer: PreTrainedTokenizerFast
    sft: LlamaForCausalLM
    scorer: RewardScorer
    judge: Judge | Absent
    points: list[Row]  # align's evaluation points
    prompts: list[Prompt]
    verdicts: Path  # a file that keeps what a paid judge answered
    steps: FinishedSteps
    params: EvaluateParams
    out: Path  # for files of a measure's own
    replies: dict[str, ModelReplies] = field(default_factory=dict)  # by model

    @property
    def conversations(self) -> list[str]:
        return [prompt.conversation_id for prompt in self.prompts]


class Measure:
    """One kind of figures. Each method may be left out; made before anything is measured, to refuse what is wrong."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def of_model(self, name: str, model: LlamaForCausalLM) -> Metrics:
        """Figures of one model, which go into its group; base, sft and aligned come in this order."""
        return {}

    def of_all(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Figures beside the models' groups. `metrics`: those groups, and what measures before this one found."""
        return {}

    def publish(self, metrics: Mapping[str, Any]) -> None:
        """Write files of its own into context.out."""

    def shown(self, metrics: Mapping[str, Any]) -> Shown:
        return Shown()
