"""TRL's RewardTrainer, extended by a weight per pair and the loss of the variational head."""

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.modeling_outputs import SequenceClassifierOutputWithPast
from trl import RewardConfig, RewardTrainer
from trl.trainer.reward_trainer import DataCollatorForPreference

from groundup.core.model.variational import KL, MEAN, STD
from groundup.reward.pairs import Pair
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


class WeightedPairCollator(DataCollatorForPreference):
    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        return super().torch_call(examples) | {"weight": torch.tensor([example["weight"] for example in examples])}


class PairTrainer(RewardTrainer):
    """For one linear output or a VariationalHead; with a linear output and weights of 1, the loss is TRL's."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        pairs: Sequence[Pair],
        weights: Sequence[float],
        config: RewardConfig,
        variational: VariationalParams,
    ) -> None:
        super().__init__(
            model=model,
            processing_class=tokenizer,
            data_collator=WeightedPairCollator(tokenizer.pad_token_id),
            train_dataset=Dataset.from_list(
                [
                    {"chosen_ids": pair.chosen, "rejected_ids": pair.rejected, "margin": pair.margin, "weight": weight}
                    for pair, weight in zip(pairs, weights, strict=True)
                ]
            ),
            args=config,
        )
        self.variational = variational

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if "weight" not in self._signature_columns:
            self._signature_columns.append("weight")

    def compute_loss(
        self,
        model: PreTrainedModel,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: int | None = None,
    ) -> Tensor | tuple[Tensor, SequenceClassifierOutputWithPast]:
        outputs = model(inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False)
        losses = pair_losses(outputs.logits, inputs["margin"], self.args.center_rewards_coefficient, self.variational)
        loss = (inputs["weight"] * losses).mean()
        chosen, rejected = outputs.logits[:, MEAN].detach().chunk(2)
        figures = {"accuracy": (chosen > rejected).float(), "margin": chosen - rejected}
        if outputs.logits.shape[1] > 1:
            figures |= {"latent_std": outputs.logits[:, STD].detach(), "latent_kl": outputs.logits[:, KL].detach()}
        for name, values in figures.items():
            gathered = self.accelerator.gather_for_metrics(values.mean())
            self._metrics["train" if self.model.training else "eval"][name].append(gathered.mean().item())
        return (loss, outputs) if return_outputs else loss
