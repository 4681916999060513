"""The models PPO trains: the policy, which knows the SFT model it started from, and the value model."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn.functional import gelu
from transformers import LlamaForCausalLM

from groundup.align.tokens import TokenBatch
from groundup.core.model.forward import hidden_states
from groundup.core.training.adapters import add_adapter, merged
from groundup.runner.params.training import LoraParams

Weights = dict[str, Tensor]


class Policy(nn.Module):
    """A trainable `model` and its frozen `reference()`: a second copy, or with LoRA the model without its adapter."""

    def __init__(self, sft: LlamaForCausalLM, lora: LoraParams | None) -> None:
        super().__init__()
        self.model = sft
        # In tuples, where state_dict() does not look.
        self._reference: tuple[LlamaForCausalLM, ...] = ()
        self._adapter: tuple[PeftModel, ...] = ()
        if lora is None:
            self._reference = (copy.deepcopy(sft).eval().requires_grad_(False),)
        else:
            self._adapter = (add_adapter(sft, lora),)
        self.train(False)

    @contextmanager
    def reference(self) -> Iterator[LlamaForCausalLM]:
        """The SFT model, for as long as the context lasts."""
        if self._reference:
            yield self._reference[0]
        else:
            with self._adapter[0].disable_adapter():
                yield self.model

    @property
    def trained(self) -> LlamaForCausalLM | PeftModel:
        """`model`, with LoRA in the wrapper that knows which of its weights are adapters."""
        return self._adapter[0] if self._adapter else self.model

    def train(self, mode: bool = True) -> "Policy":
        """Stays in evaluation mode: with dropout, one token would have another probability at every look."""
        return super().train(False)

    def trainable(self) -> Weights:
        return {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}

    def weights(self) -> Weights:
        """A copy of the trained weights, on the CPU."""
        return {name: weight.detach().cpu().clone() for name, weight in self.trainable().items()}

    @torch.no_grad()
    def load_weights(self, weights: Weights) -> None:
        trainable = self.trainable()
        assert weights.keys() == trainable.keys()
        for name, weight in weights.items():
            trainable[name].copy_(weight)

    def merged(self) -> LlamaForCausalLM:
        """The plain model that `model` is, without adapters."""
        if not self._adapter:
            return self.model
        return merged(copy.deepcopy(self._adapter[0]))

    def save_adapter(self, out: Path) -> None:
        """Nothing to save without LoRA."""
        for adapter in self._adapter:
            adapter.save_pretrained(out, selected_adapters=["default"])  # TRL adds one of its own


class ValueHead(nn.Module):
    """Scalar from hidden states [R, H] -> [R], zero at first."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def start_from(self, mean_reward: float) -> None:
        """Predict the mean reward everywhere.

        Values that are all too high reward stalling: with lambda < 1 a token far from the end feels less of the
        disappointment. The policy would learn to never end its turn before the value model has learned the mean.
        """
        nn.init.constant_(self.linear.bias, mean_reward)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.linear(hidden)[:, 0].float()


class ValueModel(nn.Module):
    """Expected reward still to come before each reply token: the SFT model's trunk and a head."""

    def __init__(self, sft: LlamaForCausalLM) -> None:
        super().__init__()
        self.trunk = copy.deepcopy(sft.model).eval().requires_grad_(True)
        self.head = ValueHead(sft.config.hidden_size)

    def forward(self, batch: TokenBatch) -> Tensor:
        """[R]"""
        return self.head(hidden_states(self.trunk, batch.ids, batch.attention, batch.before))


class SharedTrunkValue(nn.Module):
    """The same from what the frozen reward model knows: one pass of it gives the reward and what the values need.

    Those features stay the same through all epochs, so that the value model's training costs next to nothing.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.layer = nn.Linear(hidden_size, 4 * hidden_size)
        self.head = ValueHead(4 * hidden_size)

    def forward(self, batch: TokenBatch) -> Tensor:
        """[R]"""
        return self.head(gelu(self.layer(batch.features)))
