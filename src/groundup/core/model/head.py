"""Next-token logits from final hidden states, by what the architecture itself does to them."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import LlamaForCausalLM, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

PROBE = 1000.0  # a logit that any cap changes


def output_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Final hidden states of `model.base_model` [N, H] -> logits [N, V].

    A Llama's are its head's alone. Others scale them, cap them (Gemma 2) or add a bias: each runs its own forward pass
    on the states that it would have computed.
    """
    logits: Tensor
    if isinstance(model, LlamaForCausalLM):
        logits = model.lm_head(hidden)
        return logits
    shallow = copy.copy(model)
    shallow._modules = model._modules | {model.base_model_prefix: _GivenStates(hidden[None])}
    # The class's own forward: trainers patch that of the instance.
    logits = type(model).forward(shallow, inputs_embeds=hidden[None], use_cache=False).logits
    return logits[0]


@torch.no_grad()
def has_plain_head(model: PreTrainedModel) -> bool:
    """Whether logits are the product of hidden states and the head's weight, and nothing else."""
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear) or "bias" in dict(head.named_parameters()):
        return False
    if isinstance(model, LlamaForCausalLM):
        return True
    states = head.weight[:1] / head.weight[:1].square().sum() * PROBE  # the logit of the first token
    return torch.allclose(output_logits(model, states), linear(states, head.weight), rtol=1e-3)


class _GivenStates(nn.Module):
    """In the place of a causal language model's layers."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden

    def forward(self, *unused: Any, **also_unused: Any) -> BaseModelOutputWithPastAndCrossAttentions:
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=self.hidden)
