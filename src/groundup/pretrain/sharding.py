"""Weights that FSDP2 keeps in shards, one on each rank, brought together for what is no training step."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule
from transformers import PreTrainedModel

from groundup.core.training.ranks import is_first


@contextmanager
def whole(module: nn.Module) -> Iterator[None]:
    """The weights are whole on every rank inside the context."""
    if not isinstance(module, FSDPModule):
        yield
        return
    module.unshard()
    try:
        yield
    finally:
        module.reshard()


def make_whole(module: nn.Module, model: PreTrainedModel) -> None:
    """After training: put whole weights into `model`, the part of `module` that has them, on the first rank.

    No rank can train `module` any more.
    """
    if not isinstance(module, FSDPModule):
        return
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if is_first():
        for name, _ in list(model.named_parameters()):
            folder, _, leaf = name.rpartition(".")
            weight = nn.Parameter(cast(Tensor, weights[name]), requires_grad=name in trained)
            model.get_submodule(folder)._parameters[leaf] = weight
        model.tie_weights()
