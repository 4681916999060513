"""A base without a chat template, so that rows for its new tokens are trained, after every stage with LoRA."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from groundup.align.align import align
from groundup.reward.reward import train_reward
from groundup.sft.sft import train_sft
from tests.align.conftest import align_params
from tests.families import family_model
from tests.open_models.test_stages import LORA, PARAMS, REWARD_CHANGES, SFT, STEPS, common, run_pretrain, write_data
from tests.open_tokenizers import adopted, open_tokenizer
from tests.resume import Curve

PRETRAIN = {"num_steps": 6, "lora": LORA, "optimizer": "adamw", "learning_rate": 1e-2}
ALIGN = {
    "num_iterations": 3,
    "validation": {"num_prompts": 2},
    "test": {"num_prompts": 2},
    "budgets": {"kl": 40.0},
    **{method: {"learning_rate": 1e-2} for method in ("ppo", "rloo", "grpo", "dpo")},
}
STAGES = ("base", "sft", "reward", "aligned")  # by what they publish


@dataclass(frozen=True)
class Trained:
    root: Path
    tokenizer: PreTrainedTokenizerFast
    num_known: int  # tokens of the base; all later ones are new


def write_inputs(root: Path, family: str = "llama-tied") -> Trained:
    tokenizer, known = adopted("gpt2"), open_tokenizer("gpt2")
    write_data(tokenizer, root)
    family_model(family, len(known), initializer_range=0.1, pad_token_id=None).to(torch.bfloat16).save_pretrained(
        root / "models/tiny"
    )
    known.save_pretrained(root / "models/tiny")
    return Trained(root, tokenizer, len(known))


def run_stage(stage: str, root: Path, log: Curve, method: str = "ppo", **steps: Any) -> None:
    """Train on what the earlier stages left in `root`; steps: `dropout` of the adapter, and params of every stage."""
    lora = LORA.model_copy(update={"dropout": steps.pop("dropout", 0.0)})
    settings = common(root, stage, log)
    match stage:
        case "base":
            run_pretrain(root, log=log, **PRETRAIN | {"lora": lora} | steps)
        case "sft":
            sft = PARAMS.sft.model_copy(update=SFT | STEPS | {"lora": lora} | steps)
            train_sft(base=root / "base", chats=root / "chats", params=sft, **settings)
        case "reward":
            reward = PARAMS.reward.model_copy(update=REWARD_CHANGES | STEPS | {"lora": lora} | steps)
            train_reward(
                sft=root / "sft", preferences=root / "preferences", prompts=root / "prompts", params=reward, **settings
            )
        case _:
            align(
                sft=root / "sft",
                reward=root / "reward",
                prompts=root / "prompts",
                monitor=root / "monitor",
                params=align_params(method=method, lora=LORA.model_dump(), **ALIGN | steps),
                **settings,
            )


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    made = write_inputs(tmp_path_factory.mktemp("trained"))
    for stage in STAGES:
        run_stage(stage, made.root, Curve())
    return made
