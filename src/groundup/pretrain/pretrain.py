"""Pretraining: next-token prediction on packed rows whose attention does not cross documents."""

import logging
import math
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grad_norm_
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from groundup.core.formats.chat_format import load_tokenizer
from groundup.core.formats.jsonl import Row, read_jsonl
from groundup.core.formats.origin import with_base
from groundup.core.formats.shards import TokenShards
from groundup.core.model.bits_per_byte import bits_per_byte
from groundup.core.model.llama import build_llama, num_parameters, save_model
from groundup.core.model.open_model import load_open_model
from groundup.core.training.adapters import add_adapter, merge_adapter, num_adapter_weights
from groundup.core.training.callbacks import (
    DDP,
    STATE,
    KeepCheckpoints,
    LogCurves,
    StepSeeds,
    is_due,
    lightning_settings,
)
from groundup.core.training.cost import Cost, write_cost
from groundup.core.training.progress import ProgressReport
from groundup.core.training.ranks import by_share, is_first, means
from groundup.core.training.runtime import Log, NonFiniteLossError, draw, num_bytes, require_finite_gradients, set_up
from groundup.pretrain.data import RowLoader, ShardDataModule
from groundup.pretrain.optimizer import build_optimizer, warmup_stable_decay
from groundup.pretrain.report import CARD, open_model_card, write_samples
from groundup.pretrain.row_loss import RowLoss
from groundup.pretrain.sharding import make_whole, whole
from groundup.runner.base import Base
from groundup.runner.checkpoints import Checkpoints, step_of
from groundup.runner.params.training import ModelParams, PretrainParams, RuntimeParams

logger = logging.getLogger(__name__)

VALIDATION_BATCH = 16
RATES = "pretrain.learning_rate or pretrain.muon_learning_rate"


class PretrainModule(L.LightningModule):
    """`compiled`: as in RowLoss."""

    def __init__(self, model: PreTrainedModel, params: PretrainParams, *, compiled: bool) -> None:
        super().__init__()
        self.loss = RowLoss(model, compiled=compiled)
        self.params = params
        self.strict_loading = params.lora is None  # else a checkpoint has the adapter alone

    @property
    def model(self) -> PreTrainedModel:
        return self.loss.model

    def configure_model(self) -> None:
        if isinstance(self.trainer.strategy, ModelParallelStrategy):
            fully_shard(self.loss, mesh=self.device_mesh["data_parallel"])

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        loss = self.loss(batch)
        if not math.isfinite(loss.item()):
            raise NonFiniteLossError(
                f"pretrain: the loss is {loss.item()} at step {self.global_step}, so training stopped before the "
                f"weights took it; lower {RATES}"
            )
        self.log("loss", loss.detach())
        return loss

    def on_train_end(self) -> None:
        make_whole(self.loss, self.model)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """As Lightning clips by the norm, and stops where that is not finite."""
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        norm = clip_grad_norm_(weights, self.params.max_gradient_norm)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        require_finite_gradients(norm.item(), "pretrain", f"step {self.global_step}", RATES)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.log("learning_rate", optimizer.param_groups[0]["lr"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Without frozen weights, which the stage loads again from their model."""
        for name, weight in self.named_parameters(remove_duplicate=False):  # a tied head too
            if not weight.requires_grad:
                checkpoint["state_dict"].pop(name, None)  # of shards, only the first rank has the dict

    def configure_optimizers(self) -> Any:
        p = self.params
        optimizer = build_optimizer(self.model, p)

        def factor(step: int) -> float:
            return warmup_stable_decay(step, p.num_steps, p.warmup_steps, p.decay_fraction)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Validate(L.Callback):
    """Bits per byte on held-out documents every `every` optimizer steps, and the progress report."""

    def __init__(self, documents: list[Row], tokenizer: PreTrainedTokenizerFast, context: int, every: int, log: Log):
        self.documents = documents
        self.tokenizer = tokenizer
        self.context = context
        self.every = every
        self.write = log

    def on_train_batch_end(self, trainer: L.Trainer, module: PretrainModule, *unused: Any) -> None:
        if not is_due(trainer, self.every):
            return
        step = trainer.global_step
        with whole(module.loss):
            found = bits_per_byte(
                module.model, self.tokenizer, self.documents, self.context, VALIDATION_BATCH, divide=by_share
            )
        value = found.overall
        self.write(step, val_bits_per_byte=value)
        logger.info("pretrain %d/%d  val bits per byte %.3f (subset)", step, trainer.max_steps, value)


class ShowProgress(L.Callback):
    def __init__(self, report: ProgressReport, tokens_per_step: int) -> None:
        self.report = report
        self.tokens_per_step = tokens_per_step

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *unused: Any) -> None:
        if is_due(trainer, every=1):
            loss = float(trainer.callback_metrics["loss"])
            self.report.update(trainer.global_step, self.tokens_per_step, loss)

    def on_exception(self, *unused: Any) -> None:
        self.report.close()


def pretrain(
    tokenizer: Path,
    shards: Path,
    text: Path,
    out: Path,
    report: Path,
    model_params: ModelParams,
    params: PretrainParams,
    runtime: RuntimeParams,
    device: str,
    checkpoints: Checkpoints,
    log: Log,
    base: Path | None = None,
    locked: Base | None = None,
    strategy: str = DDP,
) -> dict[str, Any]:
    """Train the base model, from the newest checkpoint if there is one; the figures are on max_final_documents of val.

    base: the open model to start from, instead of random weights; with pretrain.num_steps 0 it is published as it is.
    With pretrain.lora the adapter is published beside the merged model.
    locked: what base.lock says of it, for the model card. strategy: of several ranks.
    """
    torch_device = set_up(runtime, device, params.seed)
    tok = load_tokenizer(str(tokenizer))
    context = model_params.context_length
    model = build_llama(model_params, tok) if base is None else load_open_model(base, tok, context)
    documents = list(read_jsonl(text / "val.jsonl", ("text", "source")))
    rows = TokenShards(shards, context)
    check_inputs(tok, rows, shards)
    data = ShardDataModule(rows, params)
    logger.info(
        "pretrain: %s parameters, %s tokens on %s (%s, %d threads)",
        f"{num_parameters(model):,}",
        f"{data.num_tokens:,}",
        device,
        runtime.precision,
        runtime.num_threads,
    )
    adapted = add_adapter(model, params.lora) if params.lora and params.num_steps > 0 else model
    trained = num_bytes(weight for weight in model.parameters() if weight.requires_grad)
    # A checkpoint also has two moments per weight.
    checkpoints.require_space(3 * trained, num_bytes(model.parameters()))
    callbacks = _callbacks(tok, documents, data, params, checkpoints, log)
    seconds, steps = 0.0, 0
    if params.num_steps > 0:
        module = PretrainModule(model.train(), params, compiled=device == "cuda")
        settings = trainer_settings(params, runtime, device, strategy)
        seconds, steps = _fit(module, data, callbacks, settings, checkpoints)
    else:
        log(0, loss=first_loss(model, rows, params))
    if not is_first():
        return {}
    model.to(torch_device)  # Lightning's teardown puts it on the CPU
    num_trained = num_adapter_weights(adapted)
    model = merge_adapter(adapted, out / "adapter")
    measured = draw(documents, params.max_final_documents, params.seed)
    final = bits_per_byte(model, tok, measured, context, VALIDATION_BATCH)
    if not math.isfinite(final.overall):
        raise NonFiniteLossError(
            f"pretrain: val_bits_per_byte is {final.overall} at the end: the last steps diverged; lower {RATES}"
        )
    if params.num_steps == 0:
        log(0, val_bits_per_byte=final.overall)
    card = CARD if base is None else open_model_card(base.name, params.num_steps)
    save_model(model, tok, out, with_base(card, locked))
    write_samples(model, tok, documents, report, params)
    cost = Cost(num_parameters(model), data.num_tokens, 0, num_trained)
    write_cost(cost, report)
    return {
        "val_bits_per_byte": final.overall,
        "val_bits_per_byte_by_domain": final.by_source,
        "num_parameters": cost.num_parameters,
        "num_tokens": data.num_tokens,
        "flops": cost.flops,
        "num_epochs": data.num_epochs,
        "tokens_per_second": steps * data.tokens_per_step / seconds if steps else 0.0,
        "train_seconds": seconds,
        "checkpoint_seconds": checkpoints.seconds,
    }


@torch.no_grad()
def first_loss(model: PreTrainedModel, rows: TokenShards, params: PretrainParams) -> float:
    """The loss of the batch that training would begin with."""
    batch = next(iter(RowLoader(rows, params.batch_size, params.seed, num_batches=1)))
    batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
    return means({"loss": PretrainModule(model, params, compiled=False).loss(batch).item()})["loss"]


def check_inputs(tok: PreTrainedTokenizerFast, tokens: TokenShards, shards: Path) -> None:
    """ValueError for what would else come out in the middle of training."""
    if tokens.largest_token >= len(tok):
        raise ValueError(
            f"{shards} holds the token {tokens.largest_token}, but the tokenizer has {len(tok)}: they come from two "
            "runs; `dvc repro tokenizer` makes both again"
        )


def _callbacks(
    tok: PreTrainedTokenizerFast,
    documents: list[Row],
    data: ShardDataModule,
    params: PretrainParams,
    checkpoints: Checkpoints,
    log: Log,
) -> list[L.Callback]:
    """In the order in which they run; KeepCheckpoints is last, so that the curve before a checkpoint is logged."""
    subset = documents[:: max(1, len(documents) // params.num_validation_documents)][: params.num_validation_documents]
    return [
        LogCurves(log, params.log_every),
        Validate(subset, tok, data.loader.shards.length, params.validate_every, log),
        ShowProgress(ProgressReport("pretrain", params.num_steps, "tokens"), data.tokens_per_step),
        StepSeeds(params.seed),
        KeepCheckpoints(checkpoints, params.checkpoint_every),
    ]


def trainer_settings(
    params: PretrainParams, runtime: RuntimeParams, device: str, strategy: str = DDP
) -> dict[str, Any]:
    return lightning_settings(runtime, device, strategy) | {
        "max_steps": params.num_steps,
        "accumulate_grad_batches": params.accumulate,
    }


def _fit(
    module: PretrainModule,
    data: ShardDataModule,
    callbacks: list[L.Callback],
    settings: dict[str, Any],
    checkpoints: Checkpoints,
) -> tuple[float, int]:
    """(seconds of training, optimizer steps), both of this process only."""
    trainer = L.Trainer(**settings, default_root_dir=checkpoints.folder, callbacks=callbacks)
    newest = checkpoints.newest()
    if newest and step_of(newest) == module.params.num_steps:  # what was cut short came after training
        module.load_state_dict(torch.load(newest / STATE, weights_only=True)["state_dict"], module.strict_loading)
        return 0.0, 0
    start = time.monotonic()
    with checkpoints.training():
        trainer.fit(module, datamodule=data, ckpt_path=newest / STATE if newest else None, weights_only=True)
    return time.monotonic() - start, module.params.num_steps - (step_of(newest) if newest else 0)
