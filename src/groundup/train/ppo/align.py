"""The align stage: PPO from the SFT model against the reward model, then figures on test prompts."""

import logging
import warnings
from pathlib import Path

import lightning as L
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.frame.checkpoints import Checkpoints
from groundup.frame.params.align import AlignParams
from groundup.frame.params.training import RuntimeParams
from groundup.model.check import CAUSAL, REWARD, check_model, shared_tokenizer
from groundup.model.llama import save_model
from groundup.model.scoring import RewardScorer
from groundup.statistics import cluster_bootstrap
from groundup.train.ppo.alarms import Watch
from groundup.train.ppo.evaluation_points import EvaluationPoints
from groundup.train.ppo.models import Policy, ValueModel
from groundup.train.ppo.module import Ppo, derived_seed
from groundup.train.ppo.monitor import load_monitor
from groundup.train.ppo.prompts import Prompt, PromptBatches, load_prompts
from groundup.train.ppo.rollout import Rollout, RolloutWorker
from groundup.train.ppo.samples import SampleTable
from groundup.train.ppo.schedule import Schedule
from groundup.train.runtime import LIGHTNING_PRECISION, Log, draw, num_bytes, set_up

logger = logging.getLogger(__name__)

Metrics = dict[str, float | int | str]

# Paths for derived_seed; iterations have (seed, iteration).
VALIDATION, TEST = (0, 1), (0, 2)

CARD = """
## Alignment

Trained on from the SFT model by PPO against the reward model, with a KL penalty to the SFT model. Kept: iteration
{kept_iteration}. On {num_test_prompts} test prompts, one reply each, the mean score of the reward model went from
{heldout_reward_before:.3f} to {heldout_reward_after:.3f} (difference {heldout_reward_difference:.3f}, 95 % interval
{heldout_reward_difference_ci_low:.3f} to {heldout_reward_difference_ci_high:.3f}) at a KL of {kl_to_reference:.2f}
nats a reply. That is the view of the model it was trained to please, not of a human.
"""


def align(
    sft: Path,
    reward: Path,
    prompts: Path,
    monitor: Path,
    out: Path,
    report: Path,
    params: AlignParams,
    runtime: RuntimeParams,
    device: str,
    checkpoints: Checkpoints,
    log: Log,
) -> Metrics:
    """Train, keep the best policy, save it to `out`, measure it."""
    torch_device = set_up(runtime, device, params.seed)
    check_model(sft, CAUSAL)
    check_model(reward, REWARD)
    tokenizer = shared_tokenizer({"sft": sft, "reward": reward})
    train, val, test = (
        load_prompts(prompts / f"{split}.jsonl", tokenizer, params.max_prompt_tokens)
        for split in ("train", "val", "test")
    )
    model = LlamaForCausalLM.from_pretrained(sft, dtype=torch.float32, use_safetensors=True).to(torch_device)
    _check_lengths(model, params)
    value_model = ValueModel(model).to(torch_device)
    policy = Policy(model, params.lora).to(torch_device)
    worker = RolloutWorker(policy, RewardScorer.load(reward, torch_device), tokenizer, params)
    ppo = Ppo(worker, value_model, params)

    val = draw(val, params.num_validation_prompts, derived_seed(params.seed, *VALIDATION))
    samples = SampleTable(val[: params.num_samples], tokenizer, report)
    points = EvaluationPoints(val, tokenizer)
    watch = Watch(val, tokenizer, load_monitor(monitor, params.monitor_judge), params.alarms, params.kl_stop)
    schedule = Schedule(derived_seed(params.seed, *VALIDATION), points, watch, samples, params, checkpoints, log)
    trained, value = num_bytes(policy.trainable().values()), num_bytes(value_model.parameters())
    checkpoint_bytes = 6 * (trained + value)  # each with two moments, now and as it was when the policy was best
    checkpoints.require_space(checkpoint_bytes, num_bytes(model.parameters()))
    schedule.start(ppo)
    iterations = range(ppo.iteration + 1, params.num_iterations + 1)  # a finished run that is called again has none
    if iterations and not ppo.stopped_early:
        batches = PromptBatches(train, params.rollout_batch_size, params.seed, iterations)
        _train(ppo, schedule, batches, runtime, torch_device, checkpoints)
        policy.to(torch_device)  # Lightning's teardown puts it on the CPU
    schedule.write(report)

    policy.load_weights(schedule.kept.weights)
    metrics = _training_metrics(ppo, schedule) | watch.metrics() | _heldout_metrics(worker, test, params)
    card = (sft / "README.md").read_text(encoding="utf-8") + CARD.format_map(metrics)
    _save(policy, tokenizer, out, card)
    return metrics


def _check_lengths(model: LlamaForCausalLM, params: AlignParams) -> None:
    context = model.config.max_position_embeddings
    needed = params.max_prompt_tokens + params.max_new_tokens + 1  # the reward model may be shown one more end-of-turn
    if needed > context:
        raise ValueError(
            f"align.max_prompt_tokens + align.max_new_tokens + 1 = {needed} is above the SFT model's context of "
            f"{context} tokens; lower one of them"
        )


def _train(
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


def _training_metrics(ppo: Ppo, schedule: Schedule) -> Metrics:
    explained = schedule.explained_variances
    last_quarter = explained[-max(1, len(explained) // 4) :]
    return {
        "kept_iteration": schedule.kept.iteration,
        "stopped_early": ppo.stopped_early or "no",
        "explained_variance": sum(last_quarter) / len(last_quarter),
        "explained_variance_last": explained[-1],
        "kl_coefficient_start": ppo.params.kl_coefficient,
        "kl_coefficient_end": ppo.controller.coefficient,
        "kl_budget": ppo.params.kl_budget,
        "train_seconds": schedule.train_seconds,
        "checkpoint_seconds": schedule.checkpoints.seconds,
        "samples_per_second": schedule.num_samples / schedule.train_seconds if schedule.train_seconds else 0.0,
    }


def _heldout_metrics(worker: RolloutWorker, test: list[Prompt], params: AlignParams) -> Metrics:
    """One reply a test prompt, before and after, from the same random numbers."""
    chosen = draw(test, params.num_test_prompts, derived_seed(params.seed, *TEST))
    ids = [prompt.ids for prompt in chosen]
    seed = derived_seed(params.seed, *TEST)
    with worker.policy.reference() as reference:
        before = worker.roll_out(reference, ids, seed)
    after = worker.roll_out(worker.policy.model, ids, seed)
    low, high = cluster_bootstrap(
        (after.scores - before.scores).tolist(),
        [[prompt.conversation_id] for prompt in chosen],
        params.bootstrap_samples,
        seed,
    )
    return {
        "num_test_prompts": len(chosen),
        "heldout_reward_before": before.scores.mean().item(),
        "heldout_reward_after": after.scores.mean().item(),
        "heldout_reward_difference": (after.scores - before.scores).mean().item(),
        "heldout_reward_difference_ci_low": low,
        "heldout_reward_difference_ci_high": high,
        "kl_to_reference": after.summary()["kl"],
        **_reply_metrics("", after),
        **_reply_metrics("sft_", before),
    }


def _reply_metrics(prefix: str, rollout: Rollout) -> Metrics:
    summary = rollout.summary()
    return {f"{prefix}{name}": summary[name] for name in ("end_of_turn_rate", "distinct_2", "reply_length")}


def _save(policy: Policy, tokenizer: PreTrainedTokenizerFast, out: Path, card: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    save_model(policy.merged(), tokenizer, out, card)
    policy.save_adapter(out / "adapter")
