"""Batches for pretraining: a LightningDataModule over the token shards."""

from collections.abc import Iterator, Sequence

import lightning as L
import torch

from groundup.core.formats.shards import TokenShards
from groundup.core.training.ranks import num_ranks, own_share
from groundup.core.training.shares import share_of
from groundup.runner.params.training import PretrainParams


class RowLoader:
    """Endless batches of shard rows. The order is a pure function of (seed, step), so a run resumes anywhere.

    Of several ranks each gets its share of a batch.

    Lightning checkpoints the `step` of any loader that has state_dict and load_state_dict.
    """

    def __init__(self, shards: TokenShards, batch_size: int, seed: int, num_batches: int) -> None:
        self.shards = shards
        self.batch_size = batch_size
        self.seed = seed
        self.num_batches = num_batches
        self.step = 0
        share_of(batch_size, "pretrain.batch_size", num_ranks())
        if len(shards) < batch_size:
            raise ValueError(
                f"the shards hold {len(shards)} rows of {shards.length} tokens, fewer than pretrain.batch_size "
                f"{batch_size}: lower it or add text"
            )

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        per_epoch = len(self.shards) // self.batch_size
        order: torch.Tensor | None = None
        while self.step < self.num_batches:
            epoch, index = divmod(self.step, per_epoch)
            if order is None or index == 0:
                generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
                order = torch.randperm(len(self.shards), generator=generator)
            self.step += 1
            yield self.batch(own_share(order[index * self.batch_size : (index + 1) * self.batch_size].tolist()))

    def batch(self, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        """input_ids and position_ids, both [B, T]."""
        tokens, positions = zip(*(self.shards.row(row) for row in rows), strict=True)
        return {
            "input_ids": torch.stack([torch.from_numpy(row) for row in tokens]),
            "position_ids": torch.stack([torch.from_numpy(row) for row in positions]),
        }

    def state_dict(self) -> dict[str, int]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.step = state["step"]


class ShardDataModule(L.LightningDataModule):
    def __init__(self, shards: TokenShards, params: PretrainParams) -> None:
        super().__init__()
        self.loader = RowLoader(shards, params.batch_size, params.seed, params.num_steps * params.accumulate)
        self.tokens_per_step = params.batch_size * params.accumulate * shards.length
        self.num_tokens = self.tokens_per_step * params.num_steps
        self.num_epochs = self.num_tokens / (len(shards) * shards.length)

    def train_dataloader(self) -> RowLoader:
        return self.loader

    def on_before_batch_transfer(self, batch: dict[str, torch.Tensor], dataloader_idx: int) -> dict[str, torch.Tensor]:
        """Pin the batch, so that it is copied to the GPU while the GPU computes."""
        if self.trainer.strategy.root_device.type != "cuda":
            return batch
        return {name: tensor.pin_memory() for name, tensor in batch.items()}
