"""What is published of a LoRA run is the model that was trained, whatever layer the adapter is of."""

import copy
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.align.policy import Policy
from groundup.core.model.llama import load_causal_lm, save_model
from groundup.core.training.adapters import add_adapter, merge_adapter
from groundup.runner.params.training import LoraParams

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"]
IDS = torch.tensor([[7, 8, 9, 10]])


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("target", TARGETS)
@torch.no_grad()
def test_merged_and_adapted_logits_agree(
    tiny_model: LlamaForCausalLM,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    target: str,
    is_tied: bool,
) -> None:
    lora = LoraParams(rank=2, alpha=4.0, dropout=0.0, target_modules=[target])
    config = copy.deepcopy(tiny_model.config)
    config.tie_word_embeddings = is_tied
    model = LlamaForCausalLM(config)
    model.load_state_dict(tiny_model.state_dict())
    before = model(IDS).logits
    policy, adapted = Policy(copy.deepcopy(model), lora), add_adapter(model, lora)
    for weight in (*policy.trainable().values(), *(w for w in adapted.parameters() if w.requires_grad)):
        weight.add_(0.1)
    trained = {"sft": adapted(IDS).logits, "align": policy.model(IDS).logits}
    merged = {"sft": merge_adapter(adapted, tmp_path / "adapter"), "align": policy.merged()}
    for name, logits in trained.items():
        assert not torch.allclose(logits, before, atol=1e-3)
        save_model(merged[name], tiny_tokenizer, tmp_path / name, "card")
        published = load_causal_lm(tmp_path / name, torch.device("cpu"))
        torch.testing.assert_close(published(IDS).logits, logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(policy.model(IDS).logits, trained["align"])  # what was merged is a copy
    with policy.reference() as reference:
        torch.testing.assert_close(reference(IDS).logits, before)
