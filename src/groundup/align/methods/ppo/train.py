"""PPO: assembles models, schedule and trainer."""

import warnings

import lightning as L
from lightning.pytorch.plugins.environments import LightningEnvironment

from groundup.align.context import Context, Metrics
from groundup.align.methods.ppo.module import Ppo
from groundup.align.methods.ppo.schedule import Schedule
from groundup.align.policy import AdaptedValue, Policy, SharedTrunkValue, ValueModel
from groundup.core.rollout.prompts import PromptBatches
from groundup.core.training.callbacks import lightning_settings
from groundup.core.training.ranks import num_ranks
from groundup.core.training.runtime import num_bytes
from groundup.core.training.shares import share_of
from groundup.runner.params.align import AlignParams


def train_ppo(context: Context) -> Metrics:
    policy, params, checkpoints = context.worker.policy, context.params, context.checkpoints
    share_of(params.rollout.batch_size, "align.rollout.batch_size", num_ranks())  # ValueError now, not at a step
    share_of(params.minibatch_size, "align.minibatch_size", num_ranks())
    value_model = make_value_model(policy, params)
    ppo = Ppo(context.worker, value_model.to(context.device), params)
    schedule = Schedule(context)
    trained, value = num_bytes(policy.trainable().values()), num_bytes(value_model.parameters())
    checkpoint_bytes = 6 * (trained + value)  # weights and two moments each, now and for the best policy
    checkpoints.require_space(checkpoint_bytes, num_bytes(policy.model.parameters()))
    schedule.start(ppo)
    iterations = range(ppo.iteration + 1, params.num_iterations + 1)  # empty if a finished run is called again
    if iterations and not ppo.stopped_early:
        batches = PromptBatches(context.prompts, params.rollout.batch_size, params.seed, iterations)
        _fit(ppo, schedule, batches, context)
        policy.to(context.device)  # Lightning's teardown puts it on the CPU
    metrics: Metrics = {"stopped_early": ppo.stopped_early or "no"}
    if explained := schedule.explained_variances:  # none if the KL divergence stopped training before its first update
        last_quarter = explained[-max(1, len(explained) // 4) :]
        metrics |= {
            "explained_variance": sum(last_quarter) / len(last_quarter),
            "explained_variance_last": explained[-1],
        }
    return metrics | {
        "kl_coefficient_start": params.ppo.kl_coefficient,
        "kl_coefficient_end": ppo.controller.coefficient,
    }


def make_value_model(policy: Policy, params: AlignParams) -> ValueModel | AdaptedValue | SharedTrunkValue:
    if params.ppo.value_trunk == "shared":
        return SharedTrunkValue(policy.model.config.hidden_size)
    return ValueModel(policy.model) if params.lora is None else AdaptedValue(policy)


def _fit(ppo: Ppo, schedule: Schedule, batches: PromptBatches, context: Context) -> None:
    # Each rank is a trainer of its own: Ppo brings them together once a step, DDP would in every backward pass.
    alone = {"num_nodes": 1, "strategy": "auto", "plugins": LightningEnvironment()}
    trainer = L.Trainer(
        **lightning_settings(context.runtime, context.device.type) | alone,
        max_epochs=1,
        callbacks=[schedule],
        default_root_dir=context.checkpoints.folder,
    )
    with warnings.catch_warnings(), context.checkpoints.training():
        warnings.filterwarnings("ignore", message="Found .* in eval mode")  # the policy is in eval mode on purpose
        trainer.fit(ppo, batches)
