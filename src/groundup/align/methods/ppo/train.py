"""PPO: models, schedule and trainer put together."""

import warnings

import lightning as L
import torch

from groundup.align.methods.ppo.module import Ppo
from groundup.align.methods.ppo.schedule import Schedule
from groundup.align.policy import SharedTrunkValue, ValueModel
from groundup.align.rollout import RolloutWorker
from groundup.align.validation import Following
from groundup.core.rollout.prompts import Prompt, PromptBatches
from groundup.core.training.runtime import LIGHTNING_PRECISION, Log, num_bytes
from groundup.runner.checkpoints import Checkpoints
from groundup.runner.params.align import AlignParams
from groundup.runner.params.training import RuntimeParams


def train_ppo(
    worker: RolloutWorker,
    following: Following,
    prompts: list[Prompt],
    params: AlignParams,
    runtime: RuntimeParams,
    device: torch.device,
    checkpoints: Checkpoints,
    log: Log,
) -> dict[str, float | int | str]:
    """Train worker.policy, from the newest checkpoint if there is one."""
    policy = worker.policy
    sft = policy.merged()
    value_model = ValueModel(sft) if params.value_trunk == "separate" else SharedTrunkValue(sft.config.hidden_size)
    ppo = Ppo(worker, value_model.to(device), params)
    schedule = Schedule(following, params, checkpoints, log)
    trained, value = num_bytes(policy.trainable().values()), num_bytes(value_model.parameters())
    checkpoint_bytes = 6 * (trained + value)  # each with two moments, now and as it was when the policy was best
    checkpoints.require_space(checkpoint_bytes, num_bytes(policy.model.parameters()))
    schedule.start(ppo)
    iterations = range(ppo.iteration + 1, params.num_iterations + 1)  # a finished run that is called again has none
    if iterations and not ppo.stopped_early:
        batches = PromptBatches(prompts, params.rollout_batch_size, params.seed, iterations)
        _fit(ppo, schedule, batches, runtime, device, checkpoints)
        policy.to(device)  # Lightning's teardown puts it on the CPU
    explained = schedule.explained_variances
    last_quarter = explained[-max(1, len(explained) // 4) :]
    return {
        "stopped_early": ppo.stopped_early or "no",
        "explained_variance": sum(last_quarter) / len(last_quarter),
        "explained_variance_last": explained[-1],
        "kl_coefficient_start": params.kl_coefficient,
        "kl_coefficient_end": ppo.controller.coefficient,
    }


def _fit(
    ppo: Ppo,
    schedule: Schedule,
    batches: PromptBatches,
    runtime: RuntimeParams,
    device: torch.device,
    checkpoints: Checkpoints,
) -> None:
    trainer = L.Trainer(
        accelerator=device.type,
        devices=1,
        max_epochs=1,
        precision=LIGHTNING_PRECISION[runtime.precision],
        callbacks=[schedule],
        default_root_dir=checkpoints.folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings(), checkpoints.training():
        warnings.filterwarnings("ignore", message="Found .* in eval mode")  # the policy is, on purpose
        trainer.fit(ppo, batches)
