"""Where replies are sampled: in this process, or by servers that are given the weights."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from groundup.core.model.generation import Replies, Sampler


@dataclass(frozen=True)
class Source:
    """A model as it is now, for an engine to draw from."""

    model: PreTrainedModel
    # What to send a server that has another model of these shapes or, of an adapter, the model that it is for. Empty:
    # the model that servers were started with.
    changed: Mapping[str, Tensor] = field(default_factory=dict)
    save: Callable[[Path], None] | None = None  # writes them as Hugging Face's or PEFT's directory
    is_adapter: bool = False

    @classmethod
    def whole(cls, model: PreTrainedModel) -> "Source":
        return cls(model, model.state_dict(), model.save_pretrained)

    @property
    def version(self) -> str:
        """A name for their values: equal weights are pushed once."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.changed.items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16] if self.changed else ""


class RolloutEngine(Protocol):
    """Several ranks make the same calls, with places of their own."""

    def push(self, source: Source) -> str:
        """Draw from these weights from now on; returns their version."""

    def generate(
        self, prompts: Sequence[Sequence[int]], seed: int, sampler: Sampler, places: Sequence[int] | None = None
    ) -> Replies:
        """As Sampler.sample, of the weights that were pushed last; log-probabilities are those of the model here."""

    def check(self) -> None:
        """RolloutError if it cannot draw now."""

    @property
    def figures(self) -> dict[str, float]:
        """How far the distribution that the last replies were drawn from was from that of the model here."""


class Builtin:
    """This process draws: the default, and what other engines are compared with."""

    def push(self, source: Source) -> str:
        self.model = source.model
        return ""

    def generate(
        self, prompts: Sequence[Sequence[int]], seed: int, sampler: Sampler, places: Sequence[int] | None = None
    ) -> Replies:
        return sampler.sample(self.model, prompts, seed, places)

    def check(self) -> None:
        pass

    @property
    def figures(self) -> dict[str, float]:
        return {}
