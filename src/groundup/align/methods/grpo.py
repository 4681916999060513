"""RLOO and GRPO by TRL: several replies per prompt, each compared with the others instead of with a value model.

RLOO: Ahmadian et al. 2024, arXiv:2402.14740. GRPO: Shao et al. 2024, arXiv:2402.03300.

Advantages and losses are TRL's. Replies and log-probabilities are PPO's: `generate` and padded rows take several times
as long, and TRL's softmax includes tokens that are never sampled.
"""

from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel, TrainerState
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from groundup.align.context import Context, Metrics
from groundup.align.controllers import LengthControl
from groundup.align.methods.updates import PolicyCheckpoints, Updates, common_settings, train
from groundup.align.seeds import derived_seed
from groundup.align.tokens import Conversations, token_logprobs
from groundup.core.model.generation import DISTINCT_2_TOKENS, distinct_2
from groundup.core.rollout.answers import Answers
from groundup.core.rollout.prompts import PromptBatches
from groundup.core.training.adapters import plain
from groundup.core.training.ranks import calling, joined, own_stretch


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
        own, ids = own_stretch(len(ids)), joined(ids)
        scored = [values.tolist() for values in worker.score(ids, completion_ids, ended, own)]
        rows = joined(list(zip(completion_ids, ended, *scored, strict=True)))  # of all ranks
        completion_ids, ended, *scored = (list(column) for column in zip(*rows, strict=True))
        scores, scores_std = map(torch.tensor, scored)
        answers = Answers(completion_ids, ended, scores, scores_std, kl=torch.zeros(len(ids)))
        rewards = worker.rewards(answers, validation.reference_length)
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
            **worker.engine.figures,
        }
        self.length_control.update(answers.lengths, rewards)
        validation.num_samples += len(ids)
        num_reply_tokens = sum(map(len, completion_ids))
        num_tokens = sum(map(len, ids)) + num_reply_tokens
        # To sample, to score, there and elsewhere, and by the reference.
        validation.num_read_tokens += 3 * num_tokens + worker.tokens_elsewhere(ids, num_reply_tokens)
        validation.num_learned_tokens += params.num_epochs * num_tokens
        return wanted[list(own)].tolist()


class PackedPasses(PolicyCheckpoints):
    """Samples replies and computes log-probabilities as PPO does, on sequences without padding."""

    context: Context
    updates: Updates
    # Of TRL's trainers:
    accelerator: Any
    state: TrainerState
    temperature: float

    def _get_per_token_logps_and_entropies(
        self,
        model: PreTrainedModel | PeftModel,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        **unused: Any,
    ) -> tuple[Tensor, Tensor, None]:
        """[B, T] each of the last T = `logits_to_keep` tokens, zero where masked."""
        inner = self.accelerator.unwrap_model(model)
        prompts, replies = (
            [row[mask.bool()].tolist() for row, mask in zip(input_ids[:, part], attention_mask[:, part], strict=True)]
            for part in (slice(-logits_to_keep), slice(-logits_to_keep, None))
        )

        def read() -> tuple[Tensor, Tensor]:
            conversations = Conversations(prompts, replies)
            logprobs, entropies = (torch.zeros(len(replies), logits_to_keep, device=inner.device) for _ in range(2))
            for rows, batch in conversations.batches(range(len(replies)), batch_size or len(replies), inner.device):
                with self.accelerator.autocast():
                    of_rows = token_logprobs(plain(inner), batch, self.temperature)
                num_tokens = batch.mask.shape[1]
                logprobs[rows, :num_tokens], entropies[rows, :num_tokens] = of_rows
            return logprobs, entropies

        with calling(inner, read):
            return (*model(), None)

    def sample(self, prompts: list[list[int]]) -> list[list[int]]:
        """Replies of an iteration from its own seed, so that a resumed run draws the same."""
        worker, params = self.context.worker, self.context.params
        seed = derived_seed(params.seed, 1 + self.updates.iteration(self.state.global_step, self.state))
        own, prompts = own_stretch(len(prompts)), joined(prompts)
        with self.accelerator.autocast():
            worker.engine.push(worker.policy.source(worker.policy.model))
            return worker.engine.generate(prompts, seed, worker.sampler, own).tokens


class PackedRloo(PackedPasses, RLOOTrainer):
    def _generate_single_turn(self, prompt_ids: list[list[int]], *unused: Any) -> list[list[int]]:
        return self.sample(prompt_ids)


class PackedGrpo(PackedPasses, GRPOTrainer):
    def _generate_single_turn(self, prompt_ids: list[list[int]], *unused: Any) -> tuple[list[list[int]], None]:
        return self.sample(prompt_ids), None


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
        temperature=params.rollout.temperature,
    )
    trainer = (PackedRloo if is_rloo else PackedGrpo)(
        model=worker.policy.trained,
        reward_funcs=GroupReward(context, updates, length_control),
        args=config,
        train_dataset=_in_order(context, method.num_generations),
        processing_class=worker.tokenizer,
    )
    trainer.context, trainer.updates = context, updates
    return train(trainer, updates, context.checkpoints)


def _in_order(context: Context, num_generations: int) -> Dataset:
    """Prompts in PPO's order; an iteration has fewer prompts, in proportion to the replies per prompt."""
    params = context.params
    iterations = range(1, params.num_iterations + 1)
    batches = PromptBatches(context.prompts, params.rollout.batch_size // num_generations, params.seed, iterations)
    return Dataset.from_list(
        [{"prompt": prompt.messages, "ids": prompt.ids} for batch in batches.prompts_by_batch() for prompt in batch]
    )
