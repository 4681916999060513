"""Seconds of each stage: its work, counted in workload.py, times the rates that calibration.py measured.

The rates are of the work itself, so they hold what adapters save (no gradients of frozen weights) and what
runtime.precision costs or saves on this machine.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from groundup.app.plan.judge import PlannedJudge
from groundup.app.plan.model import PlannedModel
from groundup.app.plan.workload import (
    Data,
    Work,
    at_most,
    comparison_tokens,
    replies_per_prompt,
    rollout_tokens,
    tokens_elsewhere,
)
from groundup.core.training.cost import Cost
from groundup.runner.params import Params

# Constants that no calibration measures, from default runs on two cores: CPU work only.
PREPARE_CHARACTER = 7.5e-7  # on two cores
TOKENIZER_CHARACTER = 6.7e-7
RENDERED_CHAT = 6e-3  # tokenize and split it, and check that every prompt is a prefix
RENDERED_PAIR = 1e-3
TRAINER_BATCH = 0.015  # TRL's own work per batch, such as accuracy and entropy
SFT_REST, REWARD_REST, ALIGN_REST, EVALUATE_REST = 4.0, 8.0, 8.0, 40.0  # loading, statistics, figures, judges
# Seconds of DPO's training for those of PPO with a value model, at 1.3 M parameters on two cores: TRL computes all
# logits of padded rows.
DPO_SECONDS = 2.0
NUM_MODELS = 3  # base, SFT, aligned
NUM_TASKS = 4
NUM_GROUPS = 4  # of pairs that a reward model learns from
NUM_PROBES = 200  # messages of the value probes that are answered
SFT_VALIDATIONS = 2  # before and after training, besides those that validate_every makes


@dataclass(frozen=True)
class Rates:
    """Seconds, measured by calibration.py."""

    pretrain_batch: float  # forward and backward of pretrain.batch_size rows
    pretrain_update: float  # the optimizer's step
    sft_batch: float  # the same of sft.batch_size rows
    adamw_update: float
    pair_token: float  # of the reward model, forward and backward
    ppo_batch: float  # of align.forward_batch_size chats, policy only
    read_token: float  # forward with the output head
    score_token: float  # forward without it
    reply: float  # sampled, in batches of align.rollout.batch_size
    # The same three inside an iteration of align, which is in runtime.precision; all others read in fp32.
    rollout_read_token: float
    rollout_score_token: float
    rollout_reply: float
    judge_token: float  # forward of the model that judges; 0 without one


def work_seconds(params: Params, data: Data, work: Work, rates: Rates) -> dict[str, float]:
    """Seconds of every stage, without start and imports."""
    return {
        "prepare": PREPARE_CHARACTER * data.num_characters,
        "tokenizer": TOKENIZER_CHARACTER * data.num_characters,
        "pretrain": pretrain_seconds(params, data, rates),
        "sft": sft_seconds(params, data, work, rates),
        "reward": reward_seconds(params, data, work, rates),
        "align": align_seconds(params, data, work, rates),
        "evaluate": evaluate_seconds(params, data, work, rates),
    }


def pretrain_seconds(params: Params, data: Data, rates: Rates) -> float:
    p = params.pretrain
    subset = (p.num_steps // p.validate_every) * p.num_validation_documents * data.lengths.document
    final = float(data.num_val_tokens)
    if p.max_final_documents is not None:
        final = min(final, p.max_final_documents * data.lengths.document)
    return (
        p.num_steps * (p.accumulate * rates.pretrain_batch + rates.pretrain_update)
        + (subset + final) * rates.read_token
        + p.num_samples * rates.reply
    )


def sft_seconds(params: Params, data: Data, work: Work, rates: Rates) -> float:
    s = params.sft
    num_validations = work.sft_updates // s.validate_every + SFT_VALIDATIONS
    num_chats = work.sft_tokens / data.lengths.example / s.num_epochs
    return (
        work.sft_batches * (rates.sft_batch + TRAINER_BATCH)
        + work.sft_updates * update_seconds(rates, work.model, "sft")
        + num_validations * s.num_validation_chats * data.lengths.example * rates.read_token
        + (num_chats + s.num_validation_chats) * RENDERED_CHAT
        + s.num_samples * rates.reply
        + SFT_REST
    )


def update_seconds(rates: Rates, model: PlannedModel, stage: str) -> float:
    """AdamW's time follows the weights that it moves."""
    return rates.adamw_update * model.num_trained(stage) / model.num_parameters


def reward_seconds(params: Params, data: Data, work: Work, rates: Rates) -> float:
    r = params.reward
    sampled = r.sampled.max_heldout_pairs if r.sampled.weight > 0 else 0
    val, test = (
        heldout_pairs(params, num_pairs, work.relevance_share, sampled)
        for num_pairs in (data.num_val_pairs, data.num_test_pairs)
    )
    limit = r.max_heldout_pairs and NUM_GROUPS * r.max_heldout_pairs
    trained = at_most(limit, round(work.num_pairs / r.num_epochs))
    updates = math.ceil(work.pair_batches / r.accumulate)
    num_validations = updates // r.validate_every + 1
    # At validations, after the last step; at the end all, and those whose sides share a prompt after another one too.
    rated = (num_validations + 1) * val.rated + test.rated
    shared = (num_validations + 2) * val.shared + 2 * test.shared + trained
    scored = 2 * rated * data.lengths.rated
    scored += shared * comparison_tokens(params, data.lengths.relevance, 1, data.lengths, work.model)
    # rates.reply is for align.rollout.max_new_tokens.
    longer = r.sampled.max_new_tokens / params.align.rollout.max_new_tokens
    return (
        work.pair_tokens * rates.pair_token
        + work.pair_batches * TRAINER_BATCH
        + updates * update_seconds(rates, work.model, "reward")
        + scored * rates.rollout_score_token  # which is in runtime.precision
        + (work.num_sampled + 2 * sampled) * longer * rates.reply
        + (work.num_pairs / r.num_epochs + val.rated + val.shared + test.rated + test.shared) * RENDERED_PAIR
        + REWARD_REST
    )


class HeldoutPairs(NamedTuple):
    rated: float  # of two conversations
    shared: float  # of two replies to one


def heldout_pairs(params: Params, num_pairs: int, relevance_share: float, sampled: int) -> HeldoutPairs:
    """Those of a split that are scored."""
    kinds, limit = params.prepare.preferences.relevance, params.reward.max_heldout_pairs
    relevance = relevance_share * num_pairs
    special = [relevance * kinds.earlier_turn_fraction, relevance * kinds.same_opening_fraction]
    rated, *shared = (
        group if limit is None else min(limit, group)
        for group in (num_pairs - relevance, relevance - sum(special), *special)
    )
    return HeldoutPairs(rated, sum(shared) + sampled)


def align_seconds(params: Params, data: Data, work: Work, rates: Rates) -> float:
    """Iterations are in runtime.precision, validations between them and the test in fp32."""
    a = params.align
    tokens = rollout_tokens(params, data.lengths)
    alone, grouped = (
        tokens + tokens_elsewhere(params, data.lengths, work.model, group) for group in (1, replies_per_prompt(params))
    )
    # Sampled, compared with the reference, scored there and elsewhere.
    looked_at = rates.reply + tokens * rates.read_token + alone * rates.score_token
    rolled_out = rates.rollout_reply + tokens * rates.rollout_read_token + grouped * rates.rollout_score_token
    batches = a.num_epochs * a.rollout.batch_size / a.forward_batch_size
    updates = a.num_epochs * a.rollout.batch_size / a.minibatch_size
    iteration = (
        a.rollout.batch_size * rolled_out
        + batches * rates.ppo_batch
        + updates * update_seconds(rates, work.model, "align")
    )
    if has_value_model(params) or a.method == "dpo":  # whose factor is that of all of PPO
        no_head = rates.score_token / rates.read_token
        iteration += (
            a.rollout.batch_size * tokens * rates.rollout_score_token
            + batches * rates.ppo_batch * no_head
            + updates * update_seconds(rates, work.model, "align")
        )
    if a.method == "dpo":
        iteration *= DPO_SECONDS
    validations = (a.num_iterations // a.validation.every + 1) * a.validation.num_prompts + 2 * a.test.num_prompts
    return a.num_iterations * iteration + validations * looked_at + ALIGN_REST


def has_value_model(params: Params) -> bool:
    """Besides the policy, with LoRA an adapter; PPO's other kind is a head on the reward model, almost nothing."""
    return params.align.method == "ppo" and params.align.ppo.value_trunk == "separate"


def evaluate_seconds(params: Params, data: Data, work: Work, rates: Rates) -> float:
    e = params.evaluate
    read, scored = evaluate_tokens(params, data)
    longer = e.max_new_tokens / params.align.rollout.max_new_tokens
    return (
        read * rates.read_token
        + scored * rates.score_token
        + evaluate_replies(params, data, work.model) * longer * rates.reply
        + judged_tokens(params, work.judge) * rates.judge_token
        + EVALUATE_REST
    )


def evaluate_tokens(params: Params, data: Data) -> tuple[int, int]:
    """(tokens that the three models and the untrained one read, tokens that the reward model reads)"""
    e, items, lengths = params.evaluate, params.prepare.evaluation, data.lengths
    reply = lengths.reply_share * e.max_new_tokens
    item = lengths.prompt + items.num_choices * reply  # the choices share their prompt's pass
    untrained = e.num_untrained_items * (lengths.document + NUM_TASKS * item)
    documents = e.num_documents * lengths.document
    tasks = NUM_TASKS * items.max_items * item
    compared = 2 * e.num_prompts * (lengths.prompt + reply)  # by the model itself and by SFT
    pool = e.best_of_n.num_prompts * e.best_of_n.num_replies
    scored = (NUM_MODELS * e.num_prompts + pool) * (lengths.prompt + reply)
    return round(NUM_MODELS * (documents + tasks + compared) + untrained), round(scored)


def evaluate_replies(params: Params, data: Data, model: PlannedModel) -> float:
    """Number of sampled replies of mean length."""
    e = params.evaluate
    replies: float = NUM_MODELS * (e.num_prompts + NUM_PROBES * e.probes.num_replies)
    replies += e.best_of_n.num_prompts * e.best_of_n.num_replies
    # Greedy, sample, and three searches with a budget of tokens.
    replies += e.decoding.num_prompts * (2 + 3 * e.decoding.budget_tokens / e.decoding.max_new_tokens)
    if model.is_open:  # the base answers as its makers taught it: up to the limit
        replies += (1 / data.lengths.reply_share - 1) * (e.num_prompts + NUM_PROBES * e.probes.num_replies)
    return replies


def judged_tokens(params: Params, judge: PlannedJudge | None) -> int:
    """Tokens that a model as judge reads. Answers of earlier runs are kept, so a rerun reads less."""
    e, validation = params.evaluate, params.align.validation
    if judge is None:
        return 0
    from groundup.core.decoding import METHODS
    from groundup.evaluate.model_judge import cost

    num_points = math.ceil(params.align.num_iterations / validation.every) + 1
    if not judge.shape.takes_branches:
        e = e.model_copy(update={"model_judge": e.model_judge.model_copy(update={"batch_size": 1})})
    lengths = cost.Lengths(judge.conversation, judge.reply)
    return cost.judge_tokens(e, validation.num_prompts, num_points, len(METHODS), lengths)


def costs(params: Params, data: Data, work: Work) -> dict[str, Cost]:
    """Arithmetic of the stages in which it is not negligible, as they count it themselves."""
    n, ppo, a = work.model.num_parameters, work.ppo_tokens, params.align
    epochs, method = a.num_epochs, a.method
    models = 2 if has_value_model(params) else 1
    per_reply = tokens_elsewhere(params, data.lengths, work.model, replies_per_prompt(params))
    elsewhere = round(a.num_iterations * a.rollout.batch_size * per_reply)
    learned, read = models * epochs * ppo, (2 + models) * ppo + elsewhere  # PPO
    if method in ("rloo", "grpo"):
        read = 3 * ppo + elsewhere
    elif method == "dpo":  # two of the replies to each prompt
        learned = round(epochs * ppo * 2 / params.align.dpo.num_generations)
        read = 2 * ppo + elsewhere + learned
    trained = work.model.num_adapted
    return {
        "pretrain": Cost(n, work.pretrain_tokens, 0, trained.get("pretrain")),
        "sft": Cost(n, work.sft_tokens, 0, trained.get("sft")),
        "reward": Cost(n, work.pair_tokens, work.sampled_tokens, trained.get("reward")),
        "align": Cost(n, learned, read, trained.get("align")),
        "evaluate": Cost(n, 0, sum(evaluate_tokens(params, data))),
    }
