"""A tiny SFT model, a reward model and prompts on disk, and params to align them with."""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.align.align import align
from groundup.align.rollout import RolloutWorker
from groundup.core.formats.jsonl import write_jsonl
from groundup.core.model.llama import save_model
from groundup.core.rollout.engine import RolloutEngine
from groundup.runner.checkpoints import Checkpoints, Processes
from groundup.runner.interruption import Interruption
from groundup.runner.params.align import AlignParams
from groundup.runner.params.training import RuntimeParams

QUESTIONS = ["Do you like the sea?", "How are you?", "What is a river?", "Where is the old town?", "Is music fun?"]

GROUPS = {
    "learning_rate": 1e-3,
    "num_generations": 2,
    "beta": 0.05,
    "clip_range": 0.2,
    "length_control_gain": 0.5,
    "length_control_rate": 0.05,
}
LITERALS: dict[str, Any] = {
    "seed": 4,
    "method": "ppo",
    "lora": None,
    "num_iterations": 4,
    "num_epochs": 2,
    "minibatch_size": 4,
    "forward_batch_size": 2,
    "warmup_iterations": 1,
    "max_gradient_norm": 1.0,
    "checkpoint_every": 2,
    "rollout": {"max_prompt_tokens": 60, "max_new_tokens": 8, "temperature": 1.0, "batch_size": 8, "num_elsewhere": 0},
    "rewards": [
        {"kind": "reward_model", "weight": 1.0, "pessimism": 0.0},
        {"kind": "missing_end_of_turn", "weight": 1.0},
    ],
    "budgets": {"kl": 5.0, "length": 10.0, "diversity": 1.0, "style": 1.0},
    # Out of reach.
    "alarms": {"z": 1000.0, "length_drift": 100.0, "repetition_rise": 1.0, "style": 1.0, "kl_stop": 50.0},
    "monitor_judge": {
        "seed": 6,
        "max_turns": 4,
        "min_document_frequency": 1,
        "num_dimensions": 2,
        "copied_words": 3,
        "common_words": 0.2,
        "inverse_regularization": 1.0,
        "num_folds": 4,
        "num_resamples": 10,
        "bootstrap_samples": 20,
    },
    "validation": {"every": 1, "num_prompts": 6, "sample_every": 2, "num_samples": 2},
    "test": {"num_prompts": 10, "bootstrap_samples": 50},
    "ppo": {
        "learning_rate": 1e-3,
        "clip_range": 0.2,
        "value_trunk": "separate",
        "value_learning_rate": 1e-2,
        "value_clip_range": 0.5,
        "discount": 1.0,
        "gae_lambda": 0.95,
        "entropy_coefficient": 0.0,
        "entropy_floor": 0.5,
        "entropy_floor_rate": 0.05,
        "kl_coefficient": 0.05,
        "kl_target": 1.0,
        "kl_horizon": 100.0,
        "length_control_gain": 0.5,
        "length_control_rate": 0.05,
        "rollback_after": 1,
        "rollback_kl_factor": 2.0,
        "max_rollbacks": 1,
    },
    "rloo": GROUPS,
    "grpo": GROUPS,
    "dpo": {"learning_rate": 1e-3, "num_generations": 2, "beta": 0.1},
}
LORA = {"rank": 4, "alpha": 8.0, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}

# People answer questions, and so every prompt here, with the sea, and statements about streets with streets.
SEA = ["do", "you", "like", "how", "are", "what", "is", "where", "river", "sea", "wave", "ship"]
STREET = ["street", "house", "wall", "gate", "tower", "roof", "bridge", "lamp", "door", "stone", "shop", "yard"]
EITHER = ["so", "a", "very", "and", "to", "it"]


def monitor_rows() -> list[dict[str, Any]]:
    rng = random.Random(0)
    rows = []
    for i in range(200):
        topic = (SEA, STREET)[i % 2]
        said = [" ".join(rng.sample([*topic, *EITHER], 5)) for _ in range(2)]
        messages = [{"role": role, "content": text} for role, text in zip(("user", "assistant"), said, strict=True)]
        rows.append({"id": f"m{i}", "source": "chats", "messages": messages})
    return rows


MONITOR_ROWS = monitor_rows()


def align_params(**changes: Any) -> AlignParams:
    """A copy of a section in which only the keys in `changes` differ."""
    merged = {
        key: LITERALS[key] | value if isinstance(LITERALS[key], dict) else value for key, value in changes.items()
    }
    return AlignParams.model_validate(LITERALS | merged)


class Crash(Exception):
    pass


class Recorder:
    """Keeps the curve; can raise at the end of an iteration, before anything of it is saved."""

    def __init__(self, crash_at: int | None = None, crash_with: str = "reward") -> None:
        self.crash_at = crash_at
        self.crash_with = crash_with  # a name of the row that belongs to the iteration itself
        self.points: dict[int, dict[str, float]] = {}

    def __call__(self, step: int, **values: float) -> None:
        if step == self.crash_at and self.crash_with in values:
            raise Crash
        self.points.setdefault(step, {}).update(values)


def without_clock(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if not name.endswith(("_seconds", "_per_second"))}


@dataclass
class AlignRun:
    """Run align on the same inputs, each run in its own folders."""

    root: Path
    interruption: Interruption = field(default_factory=Interruption)
    processes: Processes = field(default_factory=Processes)

    def __call__(
        self,
        name: str,
        log: Any = None,
        precision: str = "fp32",
        worker_type: type[RolloutWorker] = RolloutWorker,
        engine: RolloutEngine | None = None,
        **changes: Any,
    ) -> dict[str, Any]:
        folder = self.root / name
        self.interruption = Interruption()  # as in a new process
        self.interruption.listen()
        return align(
            sft=self.root / "sft",
            reward=self.root / "reward",
            prompts=self.root / "prompts",
            monitor=self.root / "monitor",
            out=folder / "out",
            report=folder / "report",
            params=align_params(**changes),
            runtime=RuntimeParams(num_threads=1, precision=precision),
            device="cpu",
            checkpoints=Checkpoints(folder / "work", self.interruption, processes=self.processes),
            log=log or (lambda step, **values: None),
            engine=engine,
            worker_type=worker_type,
        )

    def weights(self, name: str) -> bytes:
        return (self.root / name / "out" / "model.safetensors").read_bytes()

    def report(self, name: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.root / name / "report").iterdir()}

    def crash(self, broken: Recorder, **changes: Any) -> None:
        with pytest.raises(Crash):
            self("broken", broken, **changes)
        broken.crash_at = None

    def assert_resumes(self, whole: Recorder, expected: dict[str, Any], broken: Recorder, **changes: Any) -> None:
        """Resuming the run "broken" leaves the same files as the run "whole"."""
        metrics = self("broken", broken, **changes)
        assert without_clock(metrics) == without_clock(expected)
        assert broken.points == whole.points
        assert self.weights("broken") == self.weights("whole")
        assert self.report("broken") == self.report("whole")


def write_align_inputs(folder: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    save_model(model, tokenizer, folder / "sft", "# SFT model\n")
    torch.manual_seed(1)
    reward_model = AutoModelForSequenceClassification.from_pretrained(folder / "sft", num_labels=1)
    torch.nn.init.normal_(reward_model.score.weight, std=0.2)
    save_model(reward_model, tokenizer, folder / "reward", "# Reward model\n")
    for split, num_conversations in (("train", 5), ("val", 4), ("test", 5)):
        write_jsonl(
            folder / "prompts" / f"{split}.jsonl",
            (
                {
                    "id": f"{split}-{i}-{copy}",
                    "conversation_id": f"{split}-{i}",
                    "source": "chats",
                    "messages": [{"role": "user", "content": f"{QUESTIONS[i]}{' Well?' * copy}"}],
                    "reply": None,
                }
                for i in range(num_conversations)
                for copy in range(2)
            ),
        )
    write_jsonl(folder / "monitor/conversations.jsonl", MONITOR_ROWS)


@pytest.fixture
def run_align(tmp_path: Path, tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> AlignRun:
    write_align_inputs(tmp_path, tiny_model, tiny_tokenizer)
    return AlignRun(tmp_path)
