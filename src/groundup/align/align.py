"""The align stage: train the SFT model against the reward model by one of the methods, then measure it."""

from pathlib import Path

from transformers import PreTrainedTokenizerFast

from groundup.align.context import Context, Metrics
from groundup.align.methods import METHODS
from groundup.align.monitor import load_monitor
from groundup.align.policy import Policy
from groundup.align.rollout import Rollout, RolloutWorker
from groundup.align.seeds import TEST, VALIDATION, derived_seed
from groundup.align.shared_reward import load_scorer
from groundup.align.validation import Validation
from groundup.core.judging.gates import warn_of_failed
from groundup.core.judging.statistics import cluster_bootstrap
from groundup.core.model.check import CAUSAL, REWARD, check_model, shared_tokenizer
from groundup.core.model.context import context_length
from groundup.core.model.llama import load_causal_lm, num_parameters, save_model
from groundup.core.rollout.engine import Builtin, RolloutEngine
from groundup.core.rollout.prompts import Prompt, load_prompts
from groundup.core.training.cost import Cost, write_cost
from groundup.core.training.ranks import is_first
from groundup.core.training.runtime import Log, draw, release_freed_memory, set_up
from groundup.runner.checkpoints import Checkpoints
from groundup.runner.params.align import AlignParams
from groundup.runner.params.training import RuntimeParams

CARD = """
## Alignment

Trained from the SFT model by {method}, to score higher with the reward model and to stay close to the SFT model. Kept:
iteration {kept_iteration} (0 is the SFT model). On {num_test_prompts} test prompts, one reply each, the mean score
went from {heldout_reward_before:.3f} to {heldout_reward_after:.3f} (difference {heldout_reward_difference:.3f}, 95 %
interval {heldout_reward_difference_ci_low:.3f} to {heldout_reward_difference_ci_high:.3f}) at a KL of
{kl_to_reference:.2f} nats per reply. That is the view of the model it was trained to please:
artifacts/reports/evaluate has that of a judge that no model was trained on, with the controls that a win must stand.
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
    engine: RolloutEngine | None = None,
    worker_type: type[RolloutWorker] = RolloutWorker,
) -> Metrics:
    """Train, keep the best policy, save it to `out` and measure it. engine: what samples; by default this process."""
    warn_of_failed(reward)
    torch_device = set_up(runtime, device, params.seed)
    check_model(sft, CAUSAL)
    check_model(reward, REWARD)
    tokenizer = shared_tokenizer({"sft": sft, "reward": reward})
    train, val, test = (
        load_prompts(prompts / f"{split}.jsonl", tokenizer, params.rollout.max_prompt_tokens)
        for split in ("train", "val", "test")
    )
    model = load_causal_lm(sft, torch_device)
    _check_lengths(context_length(model, tokenizer), params)
    num_weights = num_parameters(model)  # before adapters join them
    policy = Policy(model, params.lora).to(torch_device)
    worker = worker_type(policy, load_scorer(policy, reward, torch_device), tokenizer, params, engine or Builtin())
    val = draw(val, params.validation.num_prompts, derived_seed(params.seed, *VALIDATION))
    validation = Validation(worker, val, load_monitor(monitor, params.monitor_judge), report, params, log)
    train_policy = METHODS[params.method]()
    training = train_policy(Context(worker, validation, train, params, runtime, torch_device, checkpoints, log))
    release_freed_memory()
    num_trained = sum(weight.numel() for weight in policy.trainable().values()) if params.lora else None
    cost = Cost(num_weights, validation.num_learned_tokens, validation.num_read_tokens, num_trained)
    if is_first():
        validation.write()
        write_cost(cost, report)

    policy.load_weights(validation.best.weights)
    metrics = {
        **training,
        **validation.metrics(),
        "flops": cost.flops,
        "checkpoint_seconds": checkpoints.seconds,
        **_heldout_metrics(worker, test, params),
    }
    if not is_first():
        return metrics
    card = (sft / "README.md").read_text(encoding="utf-8") + CARD.format_map({"method": params.method, **metrics})
    _save(policy, tokenizer, out, card)
    return metrics


def _check_lengths(context: int, params: AlignParams) -> None:
    rollout = params.rollout
    needed = rollout.max_prompt_tokens + rollout.max_new_tokens + 1  # with an end-of-turn token added for scoring
    if needed > context:
        raise ValueError(
            f"align.rollout.max_prompt_tokens + align.rollout.max_new_tokens + 1 = {needed} is above the SFT model's "
            f"context of {context} tokens; lower one of them"
        )


def _heldout_metrics(worker: RolloutWorker, test: list[Prompt], params: AlignParams) -> Metrics:
    """One reply per test prompt, before and after training, from the same random numbers."""
    seed = derived_seed(params.seed, *TEST)
    chosen = draw(test, params.test.num_prompts, seed)
    ids = [prompt.ids for prompt in chosen]
    with worker.policy.reference() as reference:
        before = worker.roll_out(reference, ids, seed)
    after = worker.roll_out(worker.policy.model, ids, seed)
    gains = after.scores - before.scores
    clusters = [[prompt.conversation_id] for prompt in chosen]
    low, high = cluster_bootstrap(gains.tolist(), clusters, params.test.bootstrap_samples, seed)
    return {
        "num_test_prompts": len(chosen),
        "heldout_reward_before": before.scores.mean().item(),
        "heldout_reward_after": after.scores.mean().item(),
        "heldout_reward_difference": gains.mean().item(),
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
