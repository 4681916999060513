"""Policy and value model: what is trained, what is frozen, what is saved."""

import pytest
import torch
from transformers import LlamaForCausalLM

from groundup.align.policy import Policy, SharedTrunkValue, ValueModel
from groundup.align.tokens import Conversations
from groundup.runner.params.training import LoraParams

LORA = LoraParams(rank=2, alpha=4.0, dropout=0.0, target_modules=["q_proj"])
IDS = torch.tensor([[7, 8, 9]])


@pytest.mark.parametrize("lora", [None, LORA])
def test_training_moves_the_policy_and_not_the_reference(
    tiny_model: LlamaForCausalLM, lora: LoraParams | None
) -> None:
    before = tiny_model(IDS).logits.detach()
    policy = Policy(tiny_model, lora)
    start = policy.weights()
    with torch.no_grad():
        for weight in policy.trainable().values():
            weight.add_(0.1)
    with policy.reference() as reference:
        assert torch.equal(reference(IDS).logits, before)
    assert not torch.allclose(policy.model(IDS).logits, before, atol=1e-3)
    policy.load_weights(start)
    assert torch.equal(policy.model(IDS).logits, before)


def test_the_reference_is_in_neither_state_dict_nor_parameters(tiny_model: LlamaForCausalLM) -> None:
    expected = {f"model.{name}" for name in tiny_model.state_dict()}
    policy = Policy(tiny_model, None)
    assert policy.state_dict().keys() == expected
    assert {f"model.{name}" for name in policy.trainable()} == {name for name, _ in policy.named_parameters()}


def test_lora_trains_only_adapters(tiny_model: LlamaForCausalLM) -> None:
    assert all("lora_" in name for name in Policy(tiny_model, LORA).trainable())


@pytest.mark.parametrize("lora", [None, LORA])
def test_a_value_model_is_the_sft_model_without_adapters(
    tiny_model: LlamaForCausalLM, lora: LoraParams | None
) -> None:
    sft = {name: weight.clone() for name, weight in tiny_model.model.state_dict().items()}
    trunk = ValueModel(Policy(tiny_model, lora).merged()).trunk
    assert trunk.state_dict().keys() == sft.keys()
    assert all(torch.equal(weight, sft[name]) for name, weight in trunk.state_dict().items())
    assert all(weight.requires_grad for weight in trunk.parameters())


def test_the_policy_stays_in_evaluation_mode(tiny_model: LlamaForCausalLM) -> None:
    policy = Policy(tiny_model, None).train()
    assert not any(module.training for module in policy.modules())


def test_a_value_model_starts_flat_and_shares_no_weights(tiny_model: LlamaForCausalLM) -> None:
    conversations = Conversations([[7, 8]], [[9, 10, 1]], features=torch.randn(1, 3, tiny_model.config.hidden_size))
    ((_, batch),) = conversations.batches([0], batch_size=1, device=torch.device("cpu"))
    for value_model in (ValueModel(tiny_model), SharedTrunkValue(tiny_model.config.hidden_size)):
        assert value_model(batch).tolist() == [0, 0, 0]
        value_model.head.start_from(-2.5)
        assert value_model(batch).tolist() == [-2.5] * 3
        shared = {p.data_ptr() for p in value_model.parameters()} & {p.data_ptr() for p in tiny_model.parameters()}
        assert not shared
