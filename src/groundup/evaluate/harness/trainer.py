"""Likelihoods through Lightning's Trainer.test, which brings its devices."""

import logging
from collections.abc import Sequence

import lightning as L
import torch
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from groundup.core.model.likelihood import Stretch, batch_nats, batches_by_length, own_distribution


class LikelihoodModule(L.LightningModule):
    """Scores stretches of tokens; `nats` holds the figures after Trainer.test."""

    def __init__(self, model: PreTrainedModel, stretches: Sequence[Stretch], batch_size: int) -> None:
        super().__init__()
        self.model = model
        self.stretches = stretches
        self.batch_size = batch_size
        self.nats = [0.0] * len(stretches)

    def test_dataloader(self) -> DataLoader[list[int]]:
        batches = batches_by_length(self.stretches, self.batch_size)
        return DataLoader(batches, batch_size=None, collate_fn=list)  # type: ignore[arg-type]  # a list is a dataset

    def test_step(self, batch: list[int], batch_index: int) -> None:
        values = batch_nats(self.model, [self.stretches[i] for i in batch], own_distribution)
        for i, value in zip(batch, values, strict=True):
            self.nats[i] = value


def trainer_nats(
    model: PreTrainedModel, stretches: Sequence[Stretch], batch_size: int, device: torch.device
) -> list[float]:
    """stretch_nats of the model's own distribution, run by a Trainer on one device."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # its banner says nothing of the result
    module = LikelihoodModule(model, stretches, batch_size)
    trainer = L.Trainer(
        accelerator=device.type,
        devices=1 if device.index is None else [device.index],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        # The trainer would set it back to False when it is made; the run's setting is kept.
        deterministic="warn" if torch.are_deterministic_algorithms_enabled() else False,
    )
    trainer.test(module, verbose=False)
    model.to(device)  # the CPU accelerator leaves it, others move it back when they tear down
    return module.nats
