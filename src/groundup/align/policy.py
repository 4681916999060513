"""The models that alignment trains: the policy, with its reference, and PPO's value model."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import PeftConfig, PeftModel
from torch import Tensor, nn
from torch.nn.functional import gelu
from transformers import PreTrainedModel

from groundup.align.tokens import TokenBatch
from groundup.core.model.forward import hidden_states
from groundup.core.rollout.engine import Source
from groundup.core.training.adapters import add_adapter, merged
from groundup.runner.params.training import LoraParams

Weights = dict[str, Tensor]


POLICY, VALUE = "default", "value"  # names of adapters; the first is PEFT's


class Policy(nn.Module):
    """A trainable `model` and its frozen `reference()`: a second copy or, with LoRA, the model without its adapter.

    With LoRA all models can share one base: `adapted()` switches to the adapter of another.
    """

    def __init__(self, sft: PreTrainedModel, lora: LoraParams | None) -> None:
        super().__init__()
        self.model = sft
        # In tuples, so that state_dict() does not include them.
        self._reference: tuple[PreTrainedModel, ...] = ()
        self._adapter: tuple[PeftModel, ...] = ()
        if lora is None:
            self._reference = (copy.deepcopy(sft).eval().requires_grad_(False),)
        else:
            self._adapter = (add_adapter(sft, lora),)
        self._trained = {name for name, weight in sft.named_parameters() if weight.requires_grad}
        self._trained_adapters = [POLICY]
        self._active: str | None = POLICY
        self.train(False)

    @contextmanager
    def reference(self) -> Iterator[PreTrainedModel]:
        """The SFT model, valid only inside the context."""
        if self._reference:
            yield self._reference[0]
        else:
            with self.adapted(None) as model:
                yield model

    @contextmanager
    def adapted(self, name: str | None) -> Iterator[PreTrainedModel]:
        """The base with the adapter of another model in place of the policy's, or with none, inside the context.

        Contexts nest, and the inner one counts: the reward model scores replies inside that of the reference.
        """
        before = self._active
        self._switch(name)
        try:
            yield self.model
        finally:
            self._switch(before)

    def _switch(self, name: str | None) -> None:
        adapter = self._adapter[0]
        if name is None:
            adapter.base_model.disable_adapter_layers()
        else:
            if self._active is None:
                adapter.base_model.enable_adapter_layers()
            adapter.set_adapter(name, inference_mode=True)
        self._active = name
        # PEFT freezes adapters that it switches off, whose gradients may still be wanted.
        adapter.set_requires_grad(self._trained_adapters)

    def add_adapter(self, name: str, config: PeftConfig) -> None:
        """A new one for `adapted(name)`, in eval mode too: PEFT would drop out inputs of its layers."""
        self._adapter[0].add_adapter(name, config)
        self.eval()

    def add_value_adapter(self) -> list[nn.Parameter]:
        """The weights of a new adapter like the policy's, for `adapted(VALUE)`; at first it changes nothing."""
        adapter = self._adapter[0]
        before = {id(weight) for weight in adapter.parameters()}
        self.add_adapter(VALUE, copy.deepcopy(adapter.peft_config[POLICY]))
        self._trained_adapters = [POLICY, VALUE]
        adapter.set_requires_grad(self._trained_adapters)
        return [weight for weight in adapter.parameters() if id(weight) not in before]

    def source(self, model: PreTrainedModel) -> Source:
        """`model` or, inside its context, `reference()`, for an engine to draw from."""
        if not self._adapter:
            return Source.whole(model)
        if self._active is None:
            return Source(model)
        return Source(model, self.trainable(), self.save_adapter, is_adapter=True)

    @property
    def adapter(self) -> PeftModel | None:
        """With LoRA, the wrapper that knows which weights are adapters."""
        return self._adapter[0] if self._adapter else None

    @property
    def trained(self) -> PreTrainedModel | PeftModel:
        """`adapter`, or `model` without LoRA."""
        return self.adapter or self.model

    def train(self, mode: bool = True) -> "Policy":
        """Stay in eval mode: with dropout, the probability of a token would differ in every pass."""
        return super().train(False)

    def trainable(self) -> Weights:
        return {name: weight for name, weight in self.model.named_parameters() if name in self._trained}

    def weights(self) -> Weights:
        """A copy of the trained weights, on the CPU."""
        return {name: weight.detach().cpu().clone() for name, weight in self.trainable().items()}

    @torch.no_grad()
    def load_weights(self, weights: Weights) -> None:
        trainable = self.trainable()
        assert weights.keys() == trainable.keys()
        for name, weight in weights.items():
            trainable[name].copy_(weight)

    def merged(self) -> PreTrainedModel:
        """The plain model, with the adapter merged."""
        if not self._adapter:
            return self.model
        return merged(copy.deepcopy(self._adapter[0]))

    def save_adapter(self, out: Path) -> None:
        """Does nothing without LoRA."""
        for adapter in self._adapter:
            adapter.save_pretrained(out, selected_adapters=[POLICY])


class ValueHead(nn.Module):
    """Scalar from hidden states [R, H] -> [R], initially zero."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def start_from(self, mean_reward: float) -> None:
        """Predict the mean reward everywhere.

        If all values start too high, stalling pays: with lambda < 1 a token far from the end gets less of the negative
        error. The policy would learn never to end its turn before the value model has learned the mean.
        """
        nn.init.constant_(self.linear.bias, mean_reward)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.linear(hidden)[:, 0].float()


class ValueModel(nn.Module):
    """Expected reward to come, before each reply token: the SFT model's trunk and a head."""

    def __init__(self, sft: PreTrainedModel) -> None:
        super().__init__()
        self.trunk = copy.deepcopy(sft.base_model).eval().requires_grad_(True)
        self.head = ValueHead(sft.config.hidden_size)

    def forward(self, batch: TokenBatch) -> Tensor:
        """[R]"""
        return self.head(hidden_states(self.trunk, batch.ids, batch.attention, batch.before))


class AdaptedValue(nn.Module):
    """The same with LoRA: an adapter of its own on the policy's base."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self._policy = (policy,)  # in a tuple, so that its weights are not these
        self.adapter = nn.ParameterList(policy.add_value_adapter())
        self.head = ValueHead(policy.model.config.hidden_size)

    def forward(self, batch: TokenBatch) -> Tensor:
        """[R]"""
        with self._policy[0].adapted(VALUE) as model:
            return self.head(hidden_states(model.base_model, batch.ids, batch.attention, batch.before))


class SharedTrunkValue(nn.Module):
    """The same from the features of the frozen reward model: one pass gives the reward and the features.

    The features stay the same in all epochs, so training the value model costs almost nothing.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.layer = nn.Linear(hidden_size, 4 * hidden_size)
        self.head = ValueHead(4 * hidden_size)

    def forward(self, batch: TokenBatch) -> Tensor:
        """[R]"""
        return self.head(gelu(self.layer(batch.features)))
