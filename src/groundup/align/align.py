"""The align stage: from the SFT model against the reward model by one of the methods, then figures on test prompts."""

from pathlib import Path

from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.align.alarms import Watch
from groundup.align.evaluation_points import EvaluationPoints
from groundup.align.methods.ppo.module import derived_seed
from groundup.align.monitor import load_monitor
from groundup.align.policy import Policy
from groundup.align.rollout import Rollout, RolloutWorker
from groundup.align.samples import SampleTable
from groundup.align.validation import Following
from groundup.core.judging.statistics import cluster_bootstrap
from groundup.core.model.check import CAUSAL, REWARD, check_model, shared_tokenizer
from groundup.core.model.llama import load_causal_lm, num_parameters, save_model
from groundup.core.model.scoring import RewardScorer
from groundup.core.rollout.prompts import Prompt, load_prompts
from groundup.core.training.cost import Cost, write_cost
from groundup.core.training.runtime import Log, draw, set_up
from groundup.runner.checkpoints import Checkpoints
from groundup.runner.params.align import AlignParams
from groundup.runner.params.training import RuntimeParams

Metrics = dict[str, float | int | str]

# Paths for derived_seed; iterations have (seed, iteration).
VALIDATION, TEST = (0, 1), (0, 2)

CARD = """
## Alignment

Trained on from the SFT model by {method} against the reward model, with a KL penalty to the SFT model. Kept: iteration
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
    model = load_causal_lm(sft, torch_device)
    _check_lengths(model, params)
    policy = Policy(model, params.lora).to(torch_device)
    worker = RolloutWorker(policy, RewardScorer.load(reward, torch_device), tokenizer, params)
    val = draw(val, params.num_validation_prompts, derived_seed(params.seed, *VALIDATION))
    following = Following(
        worker,
        EvaluationPoints(val, tokenizer),
        Watch(val, tokenizer, load_monitor(monitor, params.monitor_judge), params.alarms, params.kl_stop),
        SampleTable(val[: params.num_samples], tokenizer, report),
        derived_seed(params.seed, *VALIDATION),
        params,
        log,
    )
    match params.method:  # each with its own imports: those of TRL's trainers of groups take a second
        case "ppo":
            from groundup.align.methods.ppo.train import train_ppo as train_policy
        case "dpo":
            from groundup.align.methods.dpo import train_on_pairs as train_policy
        case "rloo" | "grpo":
            from groundup.align.methods.grpo import train_in_groups as train_policy
    training = train_policy(worker, following, train, params, runtime, torch_device, checkpoints, log)
    following.write(report)
    cost = Cost(num_parameters(model), following.num_learned_tokens, following.num_read_tokens)
    write_cost(cost, report)

    policy.load_weights(following.kept.weights)
    metrics = {
        **training,
        **following.metrics(),
        "flops": cost.flops,
        "checkpoint_seconds": checkpoints.seconds,
        **_heldout_metrics(worker, test, params),
    }
    card = (sft / "README.md").read_text(encoding="utf-8") + CARD.format_map({"method": params.method, **metrics})
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
