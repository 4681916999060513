"""Seconds of each stage: its work from workload.py times what calibration.py measured."""

from dataclasses import dataclass

from groundup.app.plan.workload import LIVE_SHARE, MEAN_CHAT, MEAN_DOCUMENT, MEAN_EXAMPLE, MEAN_PROMPT, Data, Work
from groundup.core.training.cost import Cost
from groundup.runner.params import Params

# Constants that no calibration measures, from default runs on two cores: CPU work only.
PREPARE_CHARACTER = 7.5e-7  # on two cores
TOKENIZER_CHARACTER = 6.7e-7
RENDERED_CHAT = 6e-3  # tokenize and split it, and check that every prompt is a prefix
RENDERED_PAIR = 1e-3
TRAINER_BATCH = 0.015  # TRL's own work per batch, such as accuracy and entropy
SFT_REST, REWARD_REST, ALIGN_REST, EVALUATE_REST = 4.0, 8.0, 8.0, 40.0  # loading, statistics, figures, judges
# Seconds of training for those of PPO, two cores: rloo and grpo of one seed at the default size, dpo of three at 1.3 M
# parameters. Others count as PPO.
METHOD_SECONDS = {"rloo": 0.65, "grpo": 0.7, "dpo": 2.0}
NUM_PROBED_REPLIES = 3 * 400  # of three models, to the value probes
SFT_VALIDATIONS = 2  # before and after training, besides those that validate_every makes


@dataclass(frozen=True)
class Rates:
    """Seconds, measured by calibration.py."""

    pretrain_batch: float  # forward and backward of pretrain.batch_size rows
    pretrain_update: float  # the optimizer's step
    sft_batch: float  # the same of sft.batch_size rows
    adamw_update: float
    pair_batch: float  # of reward.batch_size pairs
    ppo_batch: float  # of align.forward_batch_size chats, policy only
    read_token: float  # forward with the output head
    score_token: float  # forward without it
    reply: float  # sampled, in batches of align.rollout.batch_size


def work_seconds(params: Params, data: Data, work: Work, rates: Rates) -> dict[str, float]:
    """Seconds of every stage, without start and imports."""
    return {
        "prepare": PREPARE_CHARACTER * data.num_characters,
        "tokenizer": TOKENIZER_CHARACTER * data.num_characters,
        "pretrain": pretrain_seconds(params, data, rates),
        "sft": sft_seconds(params, work, rates),
        "reward": reward_seconds(params, data, work, rates),
        "align": align_seconds(params, rates),
        "evaluate": evaluate_seconds(params, rates),
    }


def pretrain_seconds(params: Params, data: Data, rates: Rates) -> float:
    p = params.pretrain
    validated = (p.num_steps // p.validate_every) * p.num_validation_documents * MEAN_DOCUMENT + data.num_val_tokens
    return (
        p.num_steps * (p.accumulate * rates.pretrain_batch + rates.pretrain_update)
        + validated * rates.read_token
        + p.num_samples * rates.reply
    )


def sft_seconds(params: Params, work: Work, rates: Rates) -> float:
    s = params.sft
    num_validations = work.sft_updates // s.validate_every + SFT_VALIDATIONS
    num_chats = work.sft_tokens / MEAN_EXAMPLE / s.num_epochs
    return (
        work.sft_batches * (rates.sft_batch + TRAINER_BATCH)
        + work.sft_updates * rates.adamw_update
        + num_validations * s.num_validation_chats * MEAN_EXAMPLE * rates.read_token
        + (num_chats + s.num_validation_chats) * RENDERED_CHAT
        + s.num_samples * rates.reply
        + SFT_REST
    )


def reward_seconds(params: Params, data: Data, work: Work, rates: Rates) -> float:
    r = params.reward
    heldout = r.sampled.max_heldout_pairs if r.sampled.weight > 0 else 0
    sampled = min(r.sampled.max_pairs, data.num_train_prompts) if r.sampled.weight > 0 else 0
    val, test = data.num_val_pairs + heldout, data.num_test_pairs + heldout
    num_validations = work.pair_batches // r.validate_every
    scored = num_validations * val + work.num_pairs / r.num_epochs + val + test
    # rates.reply is for align.rollout.max_new_tokens.
    longer = r.sampled.max_new_tokens / params.align.rollout.max_new_tokens
    return (
        work.pair_batches * (rates.pair_batch + rates.adamw_update + TRAINER_BATCH)
        + scored * 2 * MEAN_CHAT * rates.score_token
        + (sampled + 2 * heldout) * longer * rates.reply
        + (work.num_pairs / r.num_epochs + val + test) * RENDERED_PAIR
        + REWARD_REST
    )


def align_seconds(params: Params, rates: Rates) -> float:
    """PPO's, times what the method took for PPO's seconds at as many samples."""
    a = params.align
    tokens = MEAN_PROMPT + LIVE_SHARE * a.rollout.max_new_tokens
    scored = (1 + a.rollout.num_elsewhere) * rates.score_token
    looked_at = rates.reply + tokens * (rates.read_token + scored)  # sampled, compared, scored
    value = rates.score_token / rates.read_token if a.ppo.value_trunk == "separate" else 0.0
    batches = a.num_epochs * a.rollout.batch_size / a.forward_batch_size
    updates = a.num_epochs * a.rollout.batch_size / a.minibatch_size
    iteration = (
        a.rollout.batch_size * (looked_at + tokens * rates.score_token)
        + batches * rates.ppo_batch * (1 + value)
        + updates * 2 * rates.adamw_update
    )
    validations = (a.num_iterations // a.validation.every + 1) * a.validation.num_prompts + 2 * a.test.num_prompts
    return a.num_iterations * iteration * METHOD_SECONDS.get(a.method, 1.0) + validations * looked_at + ALIGN_REST


def evaluate_seconds(params: Params, rates: Rates) -> float:
    e = params.evaluate
    tokens = evaluate_tokens(params)
    replies = 3 * e.num_prompts + NUM_PROBED_REPLIES * e.probes.num_replies / 2
    replies += e.best_of_n.num_prompts * e.best_of_n.num_replies
    longer = e.max_new_tokens / params.align.rollout.max_new_tokens
    return tokens * rates.read_token + replies * longer * rates.reply + EVALUATE_REST


def evaluate_tokens(params: Params) -> int:
    """Tokens read by three models: documents, and the choices of four tasks."""
    e, items = params.evaluate, params.prepare.evaluation
    return 3 * (e.num_documents * MEAN_DOCUMENT + 4 * items.max_items * items.num_choices * MEAN_CHAT)


def costs(params: Params, work: Work) -> dict[str, Cost]:
    """Arithmetic of the stages in which it is not negligible."""
    n, ppo = work.num_parameters, work.ppo_tokens
    sampled = round(work.num_pairs * MEAN_CHAT) if params.reward.sampled.weight > 0 else 0
    models = 2 if params.align.ppo.value_trunk == "separate" else 1
    return {
        "pretrain": Cost(n, work.pretrain_tokens, 0),
        "sft": Cost(n, work.sft_tokens, 0),
        "reward": Cost(n, work.pair_tokens, sampled),
        "align": Cost(n, models * params.align.num_epochs * ppo, (4 + params.align.rollout.num_elsewhere) * ppo),
        "evaluate": Cost(n, 0, evaluate_tokens(params)),
    }
