"""Bits per byte through Lightning's Trainer.test, which brings its devices and progress bar."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from groundup.evaluate.bits_per_byte import BitsPerByte, document_windows, summarize
from groundup.evaluate.likelihood import batch_nats, batches_by_length, own_distribution


class BitsPerByteModule(L.LightningModule):
    """Scores documents; `result` holds the figures after Trainer.test."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        documents: Sequence[Mapping[str, Any]],
        context_length: int,
        batch_size: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.documents = documents
        self.windows = [document_windows(tokenizer, document["text"], context_length) for document in documents]
        self.stretches = [window for group in self.windows for window in group]
        self.batch_size = batch_size
        self.nats = [0.0] * len(self.stretches)
        self.result: BitsPerByte | None = None

    def test_dataloader(self) -> DataLoader[list[int]]:
        batches = batches_by_length(self.stretches, self.batch_size)
        return DataLoader(batches, batch_size=None, collate_fn=list)  # type: ignore[arg-type]  # a list is a dataset

    def test_step(self, batch: list[int], batch_index: int) -> None:
        values = batch_nats(self.model, [self.stretches[i] for i in batch], own_distribution)
        for i, value in zip(batch, values, strict=True):
            self.nats[i] = value

    def on_test_epoch_end(self) -> None:
        self.result = summarize(self.documents, self.windows, self.nats)
        self.log("test_bits_per_byte", self.result.overall)


def trainer_bits_per_byte(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    documents: Sequence[Mapping[str, Any]],
    context_length: int,
    batch_size: int,
    device: torch.device,
) -> BitsPerByte:
    """bits_per_byte, run by a Trainer on one device."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # its banner says nothing of the result
    module = BitsPerByteModule(model, tokenizer, documents, context_length, batch_size)
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
    assert module.result is not None
    model.to(device)  # the CPU accelerator leaves it, others move it back when they tear down
    return module.result
