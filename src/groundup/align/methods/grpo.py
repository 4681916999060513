"""RLOO and GRPO by TRL: several replies to a prompt, each measured against the others instead of by a value model.

RLOO: Ahmadian et al. 2024, arXiv:2402.14740. GRPO: Shao et al. 2024, arXiv:2402.03300.
"""

from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from groundup.align.methods.updates import Updates, common_config, train
from groundup.align.rollout import RolloutWorker
from groundup.align.validation import Following
from groundup.core.model.generation import distinct_2
from groundup.core.rollout.answers import Answers
from groundup.core.rollout.prompts import Prompt, PromptBatches
from groundup.core.rollout.rewards.shaping import shaped_rewards
from groundup.core.training.runtime import Log
from groundup.runner.checkpoints import Checkpoints
from groundup.runner.params.align import AlignParams
from groundup.runner.params.methods import GroupParams
from groundup.runner.params.training import RuntimeParams


class GroupReward:
    """The reward function that TRL calls with all it sampled in an iteration: PPO's, on the tokens PPO would score."""

    def __init__(self, worker: RolloutWorker, updates: Updates) -> None:
        self.worker = worker
        self.updates = updates

    def __call__(self, completion_ids: list[list[int]], ids: list[list[int]], **unused: Any) -> list[float]:
        """`ids` are the prompts' tokens, a column of the dataset."""
        ended = [reply[-1] == self.worker.eos_token_id for reply in completion_ids]
        scores, scores_std = self.worker.score(ids, completion_ids, ended)
        answers = Answers(completion_ids, ended, scores, scores_std, kl=torch.zeros(len(ids)))
        updates, following = self.updates, self.updates.following
        rewards = shaped_rewards(answers, following.reference_length, following.params)
        wanted = rewards + updates.length_control.bonus(answers.lengths)
        reply_length = answers.lengths.mean().item()
        updates.sampled = {
            "reward": rewards.mean().item(),
            "score": scores.mean().item(),
            "score_std": scores_std.mean().item(),
            "reply_length": reply_length,
            "end_of_turn_rate": sum(ended) / len(ended),
            "distinct_2": distinct_2(completion_ids),
            "repetition": answers.repetition.mean().item(),
            "length_coefficient": updates.length_control.coefficient,
        }
        updates.length_control.update(reply_length)
        following.num_samples += len(ids)
        num_tokens = sum(map(len, ids)) + sum(map(len, completion_ids))
        following.num_read_tokens += 3 * num_tokens  # to sample, to score, by the reference
        following.num_learned_tokens += following.params.num_epochs * num_tokens
        return wanted.tolist()


def train_in_groups(
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
    updates = Updates(following, params, checkpoints, log)
    updates.start()
    is_rloo = params.method == "rloo"
    method: GroupParams = params.rloo if is_rloo else params.grpo
    config = (RLOOConfig if is_rloo else GRPOConfig)(
        **common_config(params, method, runtime, device, checkpoints),
        num_train_epochs=1,  # of rows that hold the prompts of all iterations in their order
        shuffle_dataset=False,
        generation_batch_size=params.rollout_batch_size,
        num_generations=method.num_generations,
        num_iterations=params.num_epochs,
        epsilon=params.clip_range,
        max_completion_length=params.max_new_tokens,
        temperature=params.temperature,
        generation_kwargs={
            "use_cache": True,  # without it sampling is ten times slower
            "suppress_tokens": worker.policy.model.generation_config.suppress_tokens,
        },
    )
    trainer = (RLOOTrainer if is_rloo else GRPOTrainer)(
        model=worker.policy.trained,
        reward_funcs=GroupReward(worker, updates),
        args=config,
        train_dataset=_in_order(prompts, method.num_generations, params),
        processing_class=worker.tokenizer,
    )
    return train(trainer, updates, checkpoints)


def _in_order(prompts: list[Prompt], num_generations: int, params: AlignParams) -> Dataset:
    """In PPO's order; an iteration takes as many fewer prompts as each gets more replies."""
    iterations = range(1, params.num_iterations + 1)
    batches = PromptBatches(prompts, params.rollout_batch_size // num_generations, params.seed, iterations)
    return Dataset.from_list(
        [
            {"prompt": list(prompt.messages), "ids": prompt.ids}
            for batch in batches.prompts_by_batch()
            for prompt in batch
        ]
    )
