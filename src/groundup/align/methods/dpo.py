"""DPO by TRL (Rafailov et al. 2023, arXiv:2305.18290), on pairs that the reward model chooses.

The SFT model answers every prompt several times; the reply of highest reward is preferred to that of lowest (as in
RSO, Liu et al. 2024, arXiv:2309.06657, and online DPO, Guo et al. 2024, arXiv:2402.04792, here in one round). DPO
thus has the same inputs as the other methods, and samples and scores the same number of replies.
"""

import logging
import time
from typing import Any

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from groundup.align.context import Context, Metrics
from groundup.align.methods.updates import PolicyCheckpoints, Updates, common_settings, train
from groundup.align.seeds import PAIRS, derived_seed
from groundup.core.rollout.answers import Answers
from groundup.core.rollout.prompts import PromptBatches
from groundup.core.rollout.sampling import sample_by_share
from groundup.core.training.ranks import gathered, own_share
from groundup.core.training.trl_callbacks import keep_whole_steps
from groundup.runner.steps import FinishedSteps

logger = logging.getLogger(__name__)


class TokenPairsTrainer(PolicyCheckpoints, DPOTrainer):
    """Uses the tokens as sampled; the stock trainer would decode and encode them again."""

    def _prepare_dataset(self, dataset: Dataset, *unused: Any) -> Dataset:
        return dataset


def train_dpo(context: Context) -> Metrics:
    """Sample pairs and train on them."""
    worker, validation, params = context.worker, context.validation, context.params
    updates = Updates(context)
    updates.start()
    steps = FinishedSteps(context.checkpoints.folder / "steps", context.checkpoints.processes)
    made = steps.get("pairs", make_pairs, context)
    logger.info("align: %d pairs, %d prompts whose replies all have the same reward", len(made["pairs"]), made["ties"])
    if not made["pairs"]:
        raise ValueError(
            f"the {params.dpo.num_generations} replies to each of {made['ties']} prompts all have the same reward, "
            "so there is no pair for DPO to learn from: raise align.dpo.num_generations or "
            "align.rollout.temperature"
        )
    learned = params.num_epochs * sum(
        2 * len(pair["prompt_ids"]) + len(pair["chosen_ids"]) + len(pair["rejected_ids"]) for pair in made["pairs"]
    )
    validation.num_learned_tokens = learned
    validation.num_read_tokens = made["num_read_tokens"] + learned  # also by the reference
    trainer = TokenPairsTrainer(
        model=worker.policy.trained,
        args=DPOConfig(
            **common_settings(context, params.dpo.learning_rate),
            beta=params.dpo.beta,
            disable_dropout=True,
            num_train_epochs=params.num_epochs,
            max_length=None,
        ),
        train_dataset=Dataset.from_list(made["pairs"]),
        processing_class=worker.tokenizer,
    )
    keep_whole_steps(trainer, "align")
    return train(trainer, updates, context.checkpoints) | {"num_pairs": len(made["pairs"])}


def make_pairs(context: Context) -> dict[str, Any]:
    """Best and worst reply of the SFT model to each prompt, and the number of prompts whose rewards were all equal."""
    start = time.perf_counter()
    worker, validation, params = context.worker, context.validation, context.params
    group = params.dpo.num_generations
    num_prompts = params.num_iterations * params.rollout.batch_size // group
    (chosen,) = PromptBatches(context.prompts, num_prompts, params.seed, range(1, 2)).prompts_by_batch()
    repeated = [prompt.ids for prompt in chosen for _ in range(group)]
    with worker.policy.reference() as sft:
        replies = sample_by_share(
            worker.engine, worker.policy.source(sft), worker.sampler, repeated, derived_seed(params.seed, *PAIRS)
        )
    own = own_share(range(len(repeated)))
    scored = worker.score(repeated, [replies.tokens[i] for i in own], [replies.ended[i] for i in own], own)
    scores, scores_std = (torch.tensor(gathered(values.tolist())) for values in scored)
    answers = Answers(replies.tokens, replies.ended, scores, scores_std, kl=torch.zeros(len(repeated)))
    rewards = worker.rewards(answers, validation.reference_length).view(num_prompts, group)
    pairs = []
    for i, (prompt, row) in enumerate(zip(chosen, rewards, strict=True)):
        if row.max() > row.min():
            best, worst = (replies.tokens[i * group + int(place)] for place in (row.argmax(), row.argmin()))
            pairs.append({"prompt_ids": prompt.ids, "chosen_ids": best, "rejected_ids": worst})
    validation.num_samples += len(repeated)
    validation.train_seconds += time.perf_counter() - start
    num_reply_tokens = sum(map(len, replies.tokens))
    num_tokens = sum(map(len, repeated)) + num_reply_tokens
    # To sample and to score, there and elsewhere.
    num_read = 2 * num_tokens + worker.tokens_elsewhere(repeated, num_reply_tokens)
    return {"pairs": pairs, "ties": num_prompts - len(pairs), "num_read_tokens": num_read}
