"""TRL's RewardTrainer, with several wrong sides for a right one, weights and the loss of the variational head."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from trl import RewardConfig, RewardTrainer

from groundup.core.model.branches import Branches, reply_states
from groundup.core.model.variational import KL, MEAN, STD
from groundup.core.training.adapters import plain
from groundup.core.training.ranks import calling
from groundup.reward.comparisons import Comparison
from groundup.runner.params.training import VariationalParams


def pair_losses(scores: Tensor, margins: Tensor, center: float, variational: VariationalParams) -> Tensor:
    """Loss per pair [N]; scores of the chosen sides, then of the rejected ones: [2N, 1] or, variational, [2N, 3].

    Linear: Bradley-Terry with a margin, plus center times the squared sum of both scores (Eisenstein et al. 2023).
    Variational: the mean over draws of z, plus kl_coefficient times the KL of both sides. w . z is normal, so it is
    drawn directly instead of z (Kingma et al. 2015).
    """
    mean = scores[:, MEAN]
    chosen, rejected = mean.chunk(2)
    centring = center * (chosen + rejected).square()
    if scores.shape[1] == 1:
        return centring - logsigmoid(chosen - rejected - margins)
    noise = torch.randn(variational.num_samples, len(mean), device=mean.device, dtype=mean.dtype)
    drawn_chosen, drawn_rejected = (mean + scores[:, STD] * noise).chunk(2, dim=1)
    divergence = sum(scores[:, KL].chunk(2))
    fit = -logsigmoid(drawn_chosen - drawn_rejected - margins).mean(0)
    return fit + centring + variational.kl_coefficient * divergence


def collate(examples: list[dict[str, Any]]) -> dict[str, Any]:
    """Each wrong side is compared with the right one, and has its part of the comparison's weight."""
    chats = [Branches(**example["chats"]) for example in examples]
    pairs, place = [], 0
    for item, example in zip(chats, examples, strict=True):
        num_wrong = len(item.replies) - 1
        share = example["weight"] / num_wrong / len(examples)
        pairs += [(place, place + i + 1, example["margin"], share) for i in range(num_wrong)]
        place += 1 + num_wrong
    right, wrong, margins, weights = zip(*pairs, strict=True)
    return {
        "sides": torch.tensor(right + wrong),
        "margin": torch.tensor(margins),
        "weight": torch.tensor(weights),
        "chats": chats,
    }


class PairTrainer(RewardTrainer):
    """For one linear output or a VariationalHead; a linear output, weights of 1 and a wrong side each: TRL's loss."""

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        tokenizer: PreTrainedTokenizerFast,
        comparisons: Sequence[Comparison],
        config: RewardConfig,
        variational: VariationalParams,
    ) -> None:
        self.plain = plain(model)
        super().__init__(
            model=model,
            processing_class=tokenizer,
            data_collator=collate,
            train_dataset=Dataset.from_list([asdict(comparison) for comparison in comparisons]),
            args=config,
        )
        self.variational = variational

    def _prepare_dataset(self, dataset: Dataset, *unused: Any) -> Dataset:
        return dataset

    def _scores(self, chats: Sequence[Branches]) -> Tensor:
        """[N, 1] of the sides, or [N, 3]."""
        return self.plain.score(reply_states(self.plain.base_model, chats))

    def compute_loss(
        self,
        model: PreTrainedModel,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: int | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        with self.accelerator.autocast(), calling(self.accelerator.unwrap_model(model), self._scores):
            scores = model(inputs["chats"]).float()[inputs["sides"]]
        losses = pair_losses(scores, inputs["margin"], self.args.center_rewards_coefficient, self.variational)
        loss = (inputs["weight"] * losses).sum()
        chosen, rejected = scores[:, MEAN].detach().chunk(2)
        figures = {"accuracy": (chosen > rejected).float(), "margin": chosen - rejected}
        if scores.shape[1] > 1:
            figures |= {"latent_std": scores[:, STD].detach(), "latent_kl": scores[:, KL].detach()}
        for name, values in figures.items():
            gathered = self.accelerator.gather_for_metrics(values.mean())
            self._metrics["train" if self.model.training else "eval"][name].append(gathered.mean().item())
        return (loss, scores) if return_outputs else loss
