"""RLOO and GRPO by TRL: several replies per prompt, each compared with the others instead of with a value model.

RLOO: Ahmadian et al. 2024, arXiv:2402.14740. GRPO: Shao et al. 2024, arXiv:2402.03300.
"""

from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from groundup.align.context import Context, Metrics
from groundup.align.controllers import LengthControl
from groundup.align.methods.updates import Updates, common_settings, train
from groundup.core.model.generation import DISTINCT_2_TOKENS, distinct_2
from groundup.core.rollout.answers import Answers
from groundup.core.rollout.prompts import PromptBatches
from groundup.core.rollout.rewards.shaping import shaped_rewards


class GroupReward:
    """The reward function that TRL calls once per iteration: the same reward as in PPO, on the same tokens."""

    def __init__(self, context: Context, updates: Updates, length_control: LengthControl) -> None:
        self.context = context
        self.updates = updates
        self.length_control = length_control

    def __call__(self, completion_ids: list[list[int]], ids: list[list[int]], **unused: Any) -> list[float]:
        """`ids` are the prompts' tokens, a column of the dataset."""
        worker, validation, params = self.context.worker, self.context.validation, self.context.params
        ended = [reply[-1] == worker.sampler.eos_token_id for reply in completion_ids]
        scores, scores_std = worker.score(ids, completion_ids, ended)
        answers = Answers(completion_ids, ended, scores, scores_std, kl=torch.zeros(len(ids)))
        rewards = shaped_rewards(answers, validation.reference_length, params.rewards)
        wanted = rewards + self.length_control.bonus(answers.lengths)
        reply_length = answers.lengths.mean().item()
        self.updates.sampled = {
            "reward": rewards.mean().item(),
            "score": scores.mean().item(),
            "score_std": scores_std.mean().item(),
            "reply_length": reply_length,
            "end_of_turn_rate": sum(ended) / len(ended),
            "distinct_2": distinct_2(completion_ids, DISTINCT_2_TOKENS),
            "repetition": answers.repetition.mean().item(),
            "length_coefficient": self.length_control.coefficient,
        }
        self.length_control.update(reply_length)
        validation.num_samples += len(ids)
        num_tokens = sum(map(len, ids)) + sum(map(len, completion_ids))
        validation.num_read_tokens += 3 * num_tokens  # to sample, to score, and by the reference
        validation.num_learned_tokens += params.num_epochs * num_tokens
        return wanted.tolist()


def train_grpo(context: Context) -> Metrics:
    """RLOO if align.method is rloo, else GRPO."""
    worker, params = context.worker, context.params
    is_rloo = params.method == "rloo"
    method = params.rloo if is_rloo else params.grpo
    length_control = LengthControl(method.length_control_gain, method.length_control_rate)
    updates = Updates(context, length_control)
    updates.start()
    config = (RLOOConfig if is_rloo else GRPOConfig)(
        **common_settings(context, method.learning_rate),
        beta=method.beta,
        disable_dropout=True,
        num_train_epochs=1,  # of rows that hold the prompts of all iterations in their order
        shuffle_dataset=False,
        generation_batch_size=params.rollout.batch_size,
        num_generations=method.num_generations,
        num_iterations=params.num_epochs,
        epsilon=method.clip_range,
        max_completion_length=params.rollout.max_new_tokens,
        temperature=params.rollout.temperature,
        generation_kwargs={
            "use_cache": True,  # without it sampling is ten times slower
            "suppress_tokens": worker.policy.model.generation_config.suppress_tokens,
        },
    )
    trainer = (RLOOTrainer if is_rloo else GRPOTrainer)(
        model=worker.policy.trained,
        reward_funcs=GroupReward(context, updates, length_control),
        args=config,
        train_dataset=_in_order(context, method.num_generations),
        processing_class=worker.tokenizer,
    )
    return train(trainer, updates, context.checkpoints)


def _in_order(context: Context, num_generations: int) -> Dataset:
    """Prompts in PPO's order; an iteration has fewer prompts, in proportion to the replies per prompt."""
    params = context.params
    iterations = range(1, params.num_iterations + 1)
    batches = PromptBatches(context.prompts, params.rollout.batch_size // num_generations, params.seed, iterations)
    return Dataset.from_list(
        [{"prompt": prompt.messages, "ids": prompt.ids} for batch in batches.prompts_by_batch() for prompt in batch]
    )
