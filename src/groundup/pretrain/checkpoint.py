"""A checkpoint of pretraining as a model."""

from pathlib import Path

import torch

from groundup.core.formats.chat_format import load_tokenizer
from groundup.core.formats.origin import with_base
from groundup.core.model.llama import build_llama, save_model
from groundup.core.model.open_model import load_open_model
from groundup.core.training.adapters import add_adapter, merge_adapter
from groundup.core.training.callbacks import STATE
from groundup.core.training.runtime import seed_everything
from groundup.pretrain.pretrain import PretrainModule
from groundup.pretrain.report import CARD, open_model_card
from groundup.runner.base import Base
from groundup.runner.checkpoints import step_of
from groundup.runner.params.training import ModelParams, PretrainParams


def save_checkpoint_as_model(
    checkpoint: Path,
    tokenizer: Path,
    out: Path,
    model_params: ModelParams,
    params: PretrainParams,
    base: Path | None,
    locked: Base | None,
) -> None:
    """What pretrain would publish if training ended there; base, locked: as for pretrain."""
    seed_everything(params.seed)  # frozen weights, which no checkpoint has, may be random
    tok = load_tokenizer(str(tokenizer))
    model = build_llama(model_params, tok) if base is None else load_open_model(base, tok, model_params.context_length)
    adapted = add_adapter(model, params.lora) if params.lora else model
    module = PretrainModule(model, params, compiled=False)
    state = torch.load(checkpoint / STATE, map_location="cpu", mmap=True, weights_only=True)
    module.load_state_dict(state["state_dict"], module.strict_loading)
    merged = merge_adapter(adapted, out / "adapter")
    card = CARD if base is None else open_model_card(base.name, step_of(checkpoint))
    save_model(merged, tok, out, with_base(card, locked))
