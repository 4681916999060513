"""Reward model: TRL's RewardTrainer, Bradley-Terry with a margin, on pairs of chats."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from trl import RewardConfig
from trl.trainer.utils import disable_dropout_in_model

from groundup.core.formats.chat_format import load_tokenizer
from groundup.core.formats.origin import as_parent
from groundup.core.judging.gates import check_gates, warn_of_failed, write_gates
from groundup.core.model.branches import as_rows
from groundup.core.model.check import CAUSAL, check_model, require_reward_class
from groundup.core.model.llama import load_causal_lm, num_parameters, save_model
from groundup.core.model.scoring import RewardScorer
from groundup.core.model.variational import VariationalHead, fold, save_head
from groundup.core.rollout.engine import Builtin, RolloutEngine
from groundup.core.training.adapters import add_adapter, merge_adapter, num_adapter_weights
from groundup.core.training.cost import Cost, write_cost
from groundup.core.training.ranks import is_first, wait
from groundup.core.training.runtime import Log, autocast, draw, set_up
from groundup.core.training.trl_callbacks import Curves, epoch_settings, fit, keep_whole_steps
from groundup.reward.comparisons import check_template, comparisons
from groundup.reward.pair_trainer import PairTrainer
from groundup.reward.pairs import (
    PREFERENCE,
    PREFIX,
    READING,
    REPEAT,
    SAMPLED,
    Pair,
    draw_of_each_group,
    group_by_length,
    load_pairs,
    of_group,
)
from groundup.reward.report.build import reward_report
from groundup.reward.report.groups import MEASURED, moved_prompts
from groundup.reward.report.out_of_distribution import measure_uncertainty
from groundup.reward.report.scores import ScoredPairs, accuracies, preference_pairs
from groundup.reward.sampled_pairs import sampled_pairs
from groundup.runner.checkpoints import Checkpoints
from groundup.runner.params.training import RewardParams, RuntimeParams

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
ATTENTION_DROPOUT = ("attention_dropout", "attn_pdrop")  # as architectures call it
CARD = """---
library_name: transformers
---
# groundup reward model

Scores a chat: higher means more like what people prefer and say. Trained on pairs of rated conversations, and on
people's replies against other people's from elsewhere and against the SFT model's (artifacts/reports/prepare has the
source and its licence). It is often wrong: metrics/reward.json says how often it is right on conversations that it was
not trained on, and gates.json beside this file which of its gates it fails.
"""
CARD_UNCERTAINTY = """
variational.safetensors holds what the mean score lacks, its standard deviation: groundup.core.model.scoring reads
both.
"""


def train_reward(
    sft: Path,
    preferences: Path,
    prompts: Path,
    out: Path,
    report: Path,
    params: RewardParams,
    runtime: RuntimeParams,
    device: str,
    checkpoints: Checkpoints,
    log: Log,
    engine: RolloutEngine | None = None,
) -> dict[str, Any]:
    """Train, or resume from the newest checkpoint; heldout_* figures are on test pairs, computed once.

    engine: what samples the SFT model's replies; by default this process.
    """
    torch_device = set_up(runtime, device, params.seed)
    check_model(sft, CAUSAL)
    require_reward_class(AutoConfig.from_pretrained(sft))
    tokenizer = load_tokenizer(str(sft))
    pairs, num_too_long = {}, {}
    for split in SPLITS:
        # Rendering takes time, so training pairs that are not trained on are not rendered.
        groups = PREFIX if split != "train" else trained_groups(params)
        pairs[split], num_too_long[split] = load_pairs(
            preferences / f"{split}.jsonl", tokenizer, params.max_length, groups
        )
        if split in MEASURED:
            pairs[split] = draw_of_each_group(pairs[split], params.max_heldout_pairs, params.seed)
    check_template(of_group(pairs["train"], *READING), tokenizer, params)
    if params.sampled.weight > 0:
        for split, some in sample_all(engine or Builtin(), sft, prompts, tokenizer, torch_device, params).items():
            pairs[split] += some
    pairs["train"] = draw_pairs(pairs["train"], params)
    say_what_there_is(pairs, sum(num_too_long.values()))
    weights = {
        PREFERENCE: 1.0,
        **dict.fromkeys((*READING, REPEAT), params.relevance_weight),
        SAMPLED: params.sampled.weight,
    }
    compared = comparisons(pairs["train"], weights, tokenizer, params)
    start = start_model(sft, tokenizer, params).to(torch_device)
    trainer = PairTrainer(
        model=add_adapter(start, params.lora) if params.lora else start,
        tokenizer=tokenizer,
        comparisons=compared,
        config=RewardConfig(
            **epoch_settings("reward", params, checkpoints, runtime, torch_device),
            center_rewards_coefficient=params.center_coefficient,
            disable_dropout=False,  # start_model has seen to it; an adapter keeps its own
            remove_unused_columns=False,
            train_sampling_strategy="sequential",  # draw_pairs has put the pairs into their order
        ),
        variational=params.variational,
    )
    in_precision = autocast(runtime, torch_device)  # pairs are scored as in the iterations of align
    validate = in_precision(lambda trained: accuracies(trained, "val", pairs["val"]))
    curves = Curves("reward", log, params.validate_every, validate)
    keep_whole_steps(trainer, "reward")
    seconds = fit(trainer, curves, checkpoints, num_copies=3, learning_rate="reward.learning_rate")
    num_trained = num_adapter_weights(trainer.model)
    if is_first():
        model = merge_adapter(trainer.model, out / "adapter")
        export(model, tokenizer, pairs["train"], out, params, as_parent(CARD, sft))
    wait()
    scorer = RewardScorer.load(out, torch_device)
    with in_precision:
        measured = pairs | {"train": draw_of_each_group(pairs["train"], params.max_heldout_pairs, params.seed)}
        scored = {split: ScoredPairs.score(scorer, measured[split]) for split in SPLITS}
        moved = {
            split: ScoredPairs.score(scorer, moved_prompts(pairs[split], tokenizer, params.max_length, params.seed))
            for split in MEASURED
        }
        uncertainty = None
        if params.head == "variational":
            uncertainty = measure_uncertainty(scorer, preference_pairs(scored)["test"], tokenizer, params)
    if not is_first():
        return {}
    num_steps = trainer.state.global_step
    metrics = reward_report(scored, moved, uncertainty, sum(num_too_long.values()), num_steps, params, report)
    gates = check_gates(metrics, params.gates)
    write_gates(out, gates)
    warn_of_failed(out)
    num_read = sum(len(pair.rejected) for pair in of_group(pairs["train"], SAMPLED))  # once, when they are sampled
    num_learned = sum(row.num_tokens for row in as_rows(model, [comparison.chats for comparison in compared]))
    cost = Cost(num_parameters(model), round(params.num_epochs * num_learned), num_read, num_trained)
    write_cost(cost, report)
    return metrics | {
        "gates_passed": int(all(gate.passed for gate in gates)),
        "flops": cost.flops,
        "train_seconds": seconds,
        "checkpoint_seconds": checkpoints.seconds,
    }


def sample_all(
    engine: RolloutEngine,
    path: Path,
    prompts: Path,
    tokenizer: PreTrainedTokenizerFast,
    device: torch.device,
    params: RewardParams,
) -> dict[str, list[Pair]]:
    """Pairs of a person's reply and a reply of the SFT model in `path`, for each split."""
    sft = load_causal_lm(path, device).eval()
    limits = {"train": params.sampled.max_pairs}
    return {
        split: sampled_pairs(
            engine,
            sft,
            tokenizer,
            prompts / f"{split}.jsonl",
            limits.get(split, params.sampled.max_heldout_pairs),
            params.max_length,
            params.sampled,
            params.seed,
        )
        for split in SPLITS
    }


def trained_groups(params: RewardParams) -> list[str]:
    """Of the pairs that prepare writes."""
    if params.relevance_weight == 0:
        return [PREFERENCE]
    return [PREFERENCE, *READING, *([REPEAT] if params.max_repeat_pairs else [])]


def draw_pairs(pairs: Sequence[Pair], params: RewardParams) -> list[Pair]:
    """The training pairs in training order, up to the requested number for each group.

    Most relevance pairs come first, alone: to read takes long to learn, and among easier pairs it was not learned.
    """
    others = draw(of_group(pairs, PREFERENCE), params.max_pairs, params.seed) + of_group(pairs, SAMPLED)
    others += draw(of_group(pairs, REPEAT), params.max_repeat_pairs, params.seed)
    reading: list[Pair] = []
    if params.relevance_weight > 0:
        reading = draw(of_group(pairs, *READING), params.max_relevance_pairs, params.seed)
    if not others and not reading:
        raise ValueError(
            "all training pairs are relevance pairs, but reward.relevance_weight is 0: raise it or "
            "reward.sampled.weight, or add a source of ratings or of preference pairs"
        )
    num_alone = int(params.relevance_alone_fraction * len(reading)) if others else 0
    return [
        pair
        for part in (reading[:num_alone], reading[num_alone:] + others)
        for pair in group_by_length(part, params.batch_size, params.seed)
    ]


def say_what_there_is(pairs: Mapping[str, Sequence[Pair]], num_too_long: int) -> None:
    for group in PREFIX:
        logger.info(
            "reward: %d train, %d val, %d test %s pairs", *(len(of_group(pairs[s], group)) for s in SPLITS), group
        )
    logger.info("reward: %d pairs left out as too long", num_too_long)
    if empty := [split for split in SPLITS if not pairs[split]]:
        raise ValueError(
            f"reward: no pair of {' and '.join(empty)} can be used: raise reward.sampled.weight, reward.max_length or "
            "prepare.splits, or add a source that yields chats or preferences"
        )
    if lacking := [split for split in SPLITS if not of_group(pairs[split], PREFERENCE)]:
        logger.warning(
            "there are no rated or given pairs in %s: the report, heldout_accuracy included, is on all pairs, so it "
            "shows which reply belongs to the prompt rather than what people prefer",
            " and ".join(lacking),
        )


def start_model(sft: Path, tokenizer: PreTrainedTokenizerFast, params: RewardParams) -> PreTrainedModel:
    """The SFT model with a new head."""
    config = AutoConfig.from_pretrained(sft, num_labels=1, pad_token_id=tokenizer.pad_token_id)
    set_attention_dropout(config, params.dropout)
    model = AutoModelForSequenceClassification.from_pretrained(
        sft,
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
    )
    if params.dropout == 0:
        disable_dropout_in_model(model)  # architectures have more than that of attention
    if params.head == "variational":
        model.score = VariationalHead(config.hidden_size, params.variational.latent_size, config.initializer_range)
    return model


def set_attention_dropout(config: PreTrainedConfig, rate: float) -> None:
    """ValueError if the architecture has none and `rate` is above 0."""
    names = [name for name in ATTENTION_DROPOUT if hasattr(config, name)]
    if not names and rate > 0:
        raise ValueError(
            f"reward.dropout is {rate}, but a {config.model_type} has no dropout of attention: set it to 0"
        )
    for name in names:
        setattr(config, name, rate)


def export(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    pairs: Sequence[Pair],
    out: Path,
    params: RewardParams,
    card: str,
) -> None:
    """Save a stock reward model, and a variational head beside it; pairs: the training pairs."""
    set_attention_dropout(model.config, 0.0)
    if params.head == "linear":
        save_model(model, tokenizer, out, card)
        return
    model.eval()
    head = fold(model)
    chats = sorted({tuple(side) for pair in pairs for side in (pair.chosen, pair.rejected)})
    drawn = draw(chats, params.variational.num_density_chats, params.seed)
    hidden = RewardScorer(model).hidden(drawn, [1] * len(drawn))
    head.fit_density(torch.cat(hidden).to(model.device))
    save_model(model, tokenizer, out, card + CARD_UNCERTAINTY)
    save_head(head, out)
