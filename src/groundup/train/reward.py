"""Reward model: TRL's RewardTrainer, Bradley-Terry with a margin, on pairs of human-rated excerpts."""

import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    PrinterCallback,
)
from trl import RewardConfig, RewardTrainer

from groundup.data.jsonl import Row, read_jsonl
from groundup.frame.checkpoints import Checkpoints
from groundup.frame.params.training import RewardParams, RuntimeParams
from groundup.model.chat_format import load_tokenizer, render
from groundup.model.check import CAUSAL, check_model
from groundup.model.llama import save_model
from groundup.model.scoring import RewardScorer
from groundup.statistics import wins
from groundup.train.reward_figures import PairTable
from groundup.train.reward_report import reward_report
from groundup.train.runtime import Log, draw, num_bytes, set_up, trl_runtime
from groundup.train.trl_callbacks import Curves, KeepCheckpoints, run_trainer

logger = logging.getLogger(__name__)

BATCHES_PER_STRETCH = 16
RATINGS = ("chosen_rating", "rejected_rating")
COLUMNS = ("source", "kind", "chosen", "rejected", "margin", "chosen_id", "rejected_id", *RATINGS)
CARD = """---
library_name: transformers
---
# groundup reward model

Scores a chat: higher means that people would rate the conversation as more interesting, witty and upbeat. Trained on
pairs of rated conversations (artifacts/reports/prepare has the source and its licence). metrics/reward.json says how
often it is right on conversations it has not seen; it is often wrong.
"""


@dataclass(frozen=True)
class Pair:
    """Both sides rendered, and what they come from."""

    chosen: list[int]
    rejected: list[int]
    margin: float
    row: Row  # of the file, with its texts, ratings and the two conversations


def train_reward(
    sft: Path,
    preferences: Path,
    out: Path,
    report: Path,
    params: RewardParams,
    runtime: RuntimeParams,
    device: str,
    checkpoints: Checkpoints,
    log: Log,
) -> dict[str, Any]:
    """Train, or go on from the newest checkpoint; heldout_* figures are on test pairs, computed once."""
    torch_device = set_up(runtime, device, params.seed)
    check_model(sft, CAUSAL)
    tokenizer = load_tokenizer(str(sft))
    pairs, num_too_long = {}, {}
    for split in ("train", "val", "test"):
        pairs[split], num_too_long[split] = load_pairs(preferences / f"{split}.jsonl", tokenizer, params.max_length)
    drawn = draw(pairs["train"], params.max_pairs, params.seed)
    pairs["train"] = group_by_length(drawn, params.batch_size, params.seed)
    logger.info(
        "reward: %d train, %d val, %d test pairs; %d with a side over %d tokens left out",
        *(len(pairs[split]) for split in pairs),
        sum(num_too_long.values()),
        params.max_length,
    )
    model = AutoModelForSequenceClassification.from_pretrained(
        sft,
        num_labels=1,
        attention_dropout=params.dropout,
        pad_token_id=tokenizer.pad_token_id,
        use_safetensors=True,
    ).to(torch_device)
    trainer = RewardTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(
            [{"chosen_ids": p.chosen, "rejected_ids": p.rejected, "margin": p.margin} for p in pairs["train"]]
        ),
        args=RewardConfig(
            output_dir=str(checkpoints.folder),
            seed=params.seed,
            num_train_epochs=params.num_epochs,
            per_device_train_batch_size=params.batch_size,
            max_length=params.max_length,
            learning_rate=params.learning_rate,
            weight_decay=params.weight_decay,
            warmup_steps=params.warmup_fraction,
            lr_scheduler_type="linear",
            max_grad_norm=params.max_gradient_norm,
            center_rewards_coefficient=params.center_coefficient,
            disable_dropout=params.dropout == 0,
            logging_steps=params.log_every,
            save_steps=params.checkpoint_every,
            train_sampling_strategy="sequential",  # group_by_length has put the pairs into their order
            **trl_runtime(runtime, torch_device),
        ),
        callbacks=[
            Curves("reward", log, params.validate_every, lambda m: {"val_accuracy": accuracy(m, pairs["val"])}),
            KeepCheckpoints(checkpoints),
        ],
    )
    trainer.remove_callback(PrinterCallback)  # Curves speaks for it
    model_bytes = num_bytes(model.parameters())
    checkpoint_bytes = 3 * model_bytes  # with two moments each
    checkpoints.require_space(checkpoint_bytes, model_bytes)
    start = time.monotonic()
    run_trainer(trainer, checkpoints)
    seconds = time.monotonic() - start
    trainer.model.config.attention_dropout = 0.0
    save_model(trainer.model, tokenizer, out, CARD)
    scorer = RewardScorer.load(out, torch_device)
    tables = {split: score_table(scorer, pairs[split]) for split in pairs}
    metrics = reward_report(tables, sum(num_too_long.values()), params, report)
    metrics["num_steps"] = trainer.state.global_step
    return metrics | {"train_seconds": seconds, "checkpoint_seconds": checkpoints.seconds}


def load_pairs(path: Path, tokenizer: PreTrainedTokenizerFast, max_length: int) -> tuple[list[Pair], int]:
    """(pairs, how many were left out because a side is over max_length)."""
    pairs = [
        Pair(
            chosen=render(tokenizer, row["chosen"], reply_next=False),
            rejected=render(tokenizer, row["rejected"], reply_next=False),
            margin=row["margin"],
            row=row,
        )
        for row in read_jsonl(path, COLUMNS)
    ]
    kept = [pair for pair in pairs if max(len(pair.chosen), len(pair.rejected)) <= max_length]
    if not kept:
        raise ValueError(
            f"{path.name}: none of {len(pairs)} preference pairs fits reward.max_length {max_length}; raise it, or "
            "lower prepare.preferences.excerpt_turns or min_rating_gap"
        )
    return kept, len(pairs) - len(kept)


def group_by_length(pairs: Sequence[Pair], batch_size: int, seed: int) -> list[Pair]:
    """Random order in which the pairs of a batch are of like length: padding was half of the work.

    Batches are cut from sorted stretches of a shuffled list and shuffled themselves; a last partial one stays last.
    """
    rng = random.Random(seed)
    shuffled = rng.sample(pairs, len(pairs))
    stretch = BATCHES_PER_STRETCH * batch_size
    ordered = [
        pair
        for start in range(0, len(shuffled), stretch)
        for pair in sorted(shuffled[start : start + stretch], key=lambda p: max(len(p.chosen), len(p.rejected)))
    ]
    num_whole = len(ordered) // batch_size
    batches = [ordered[i * batch_size : (i + 1) * batch_size] for i in range(num_whole)]
    rng.shuffle(batches)
    return [pair for batch in batches for pair in batch] + ordered[num_whole * batch_size :]


def score_pairs(scorer: RewardScorer, pairs: Sequence[Pair]) -> tuple[list[float], list[float]]:
    """Rewards of the chosen sides and of the rejected ones."""
    sequences = sorted({tuple(side) for pair in pairs for side in (pair.chosen, pair.rejected)})
    index = {sequence: i for i, sequence in enumerate(sequences)}  # a conversation is in many pairs: score it once
    mean, _ = scorer.score(sequences)
    chosen = [index[tuple(pair.chosen)] for pair in pairs]
    rejected = [index[tuple(pair.rejected)] for pair in pairs]
    return mean[chosen].tolist(), mean[rejected].tolist()


def accuracy(model: PreTrainedModel, pairs: Sequence[Pair]) -> float:
    """Share of pairs in which the chosen side scores higher; TRL's own is the mean of batch means."""
    model.eval()
    values = wins(*score_pairs(RewardScorer(model), pairs))
    return sum(values) / len(values)


def score_table(scorer: RewardScorer, pairs: Sequence[Pair]) -> PairTable:
    rewards = np.array(score_pairs(scorer, pairs), dtype=np.float64).T
    lengths = np.array([(len(pair.chosen), len(pair.rejected)) for pair in pairs], dtype=np.float64)
    return PairTable.from_rows([pair.row for pair in pairs], lengths, rewards)
