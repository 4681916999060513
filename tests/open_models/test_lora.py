"""A base without a chat template through every stage with LoRA: new rows are trained, and adapters are what they say.

What a stage publishes is its input model with the adapter beside it, by PEFT alone; and a merge of the adapters of all
stages into the base gives the last model again.
"""

import logging
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from groundup.align.policy import Policy
from groundup.align.shared_reward import SharedScorer, load_scorer
from groundup.app.export.hf import export_adapter
from groundup.app.export.merge import merge_adapters
from groundup.core.model.llama import load_causal_lm, num_parameters
from groundup.core.model.open_model import load_open_model
from groundup.core.training.adapters import add_adapter
from groundup.core.training.cost import read_cost
from groundup.pretrain.pretrain import PretrainModule
from tests.open_models.conftest import PRETRAIN, Trained
from tests.open_models.test_stages import LORA, PARAMS

CPU = torch.device("cpu")
IDS = torch.tensor([[70, 71, 72, 73, 74]])


def embeddings(folder: Path) -> torch.Tensor:
    return load_causal_lm(folder, CPU).get_input_embeddings().weight.detach()


@torch.no_grad()
def test_pretrain_publishes_the_base_with_its_adapter_and_new_rows(trained: Trained) -> None:
    root, num_known = trained.root, trained.num_known
    start = load_open_model(root / "models/tiny", trained.tokenizer, 32)
    before = start.get_input_embeddings().weight[:num_known].clone()
    published = load_causal_lm(root / "base", CPU)
    assert len(trained.tokenizer) > num_known
    assert torch.equal(published.get_input_embeddings().weight[:num_known], before)
    assert published.config.tie_word_embeddings
    assert published.config.added_token_ids == list(range(num_known, len(trained.tokenizer)))
    plain = start(IDS).logits
    adapted = PeftModel.from_pretrained(start, root / "base/adapter").eval()
    torch.testing.assert_close(adapted(IDS).logits, published(IDS).logits, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(plain, published(IDS).logits, atol=1e-3)


@pytest.mark.parametrize(("stage", "start"), [("sft", "base"), ("aligned", "sft")])
@torch.no_grad()
def test_a_published_adapter_gives_the_merged_model_by_peft_alone(trained: Trained, stage: str, start: str) -> None:
    root, new = trained.root, range(trained.num_known, len(trained.tokenizer))
    ids = torch.cat([IDS, torch.tensor([list(new)])], dim=1)
    plain = AutoModelForCausalLM.from_pretrained(root / start)
    before = plain(ids).logits
    published = load_causal_lm(root / stage, CPU)
    adapted = PeftModel.from_pretrained(plain, root / stage / "adapter").eval()
    torch.testing.assert_close(adapted(ids).logits, published(ids).logits, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(before, published(ids).logits, atol=1e-4)
    moved = (embeddings(root / stage) != embeddings(root / start)).any(1).nonzero()[:, 0].tolist()
    assert set(moved) <= set(new)
    assert trained.tokenizer.eos_token_id in moved
    assert published.config.tie_word_embeddings


@torch.no_grad()
def test_the_reward_adapter_has_its_score_head(trained: Trained) -> None:
    root = trained.root
    pad = trained.tokenizer.pad_token_id
    plain = AutoModelForSequenceClassification.from_pretrained(root / "sft", num_labels=1, pad_token_id=pad)
    published = AutoModelForSequenceClassification.from_pretrained(root / "reward", num_labels=1)
    adapted = PeftModel.from_pretrained(plain, root / "reward/adapter").eval()
    torch.testing.assert_close(adapted(IDS).logits, published(IDS).logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("stage", ["base", "sft", "reward", "aligned"])
def test_the_cost_is_that_of_the_published_adapter(trained: Trained, stage: str) -> None:
    cost = read_cost(trained.root / "reports" / stage)
    assert cost is not None
    weights = load_file(trained.root / stage / "adapter/adapter_model.safetensors")
    assert cost.num_trained_parameters == sum(weight.numel() for weight in weights.values())
    architecture = AutoModelForSequenceClassification if stage == "reward" else AutoModelForCausalLM
    assert cost.num_parameters == num_parameters(architecture.from_pretrained(trained.root / stage))


def test_ppo_reads_the_reward_model_on_the_policys_base(trained: Trained, caplog: pytest.LogCaptureFixture) -> None:
    policy = Policy(load_causal_lm(trained.root / "sft", CPU), LORA)
    with caplog.at_level(logging.WARNING):
        assert isinstance(load_scorer(policy, trained.root / "reward", CPU), SharedScorer)
    assert "takes memory of its own" not in caplog.text


@pytest.mark.parametrize(("bf16", "tolerance"), [(False, 1e-5), (True, 0.02)])
@torch.no_grad()
def test_the_base_and_three_adapters_are_the_aligned_model(
    trained: Trained, tmp_path: Path, bf16: bool, tolerance: float
) -> None:
    names = ("base", "sft", "aligned")
    for name in names:
        export_adapter(trained.root / name, name, tmp_path / name, bf16=bf16)
    merge_adapters(trained.root / "models/tiny", [tmp_path / name for name in names], tmp_path / "merged")
    found, expected = load_causal_lm(tmp_path / "merged", CPU), load_causal_lm(trained.root / "aligned", CPU)
    scale = expected(IDS).logits.abs().max()
    torch.testing.assert_close(found(IDS).logits / scale, expected(IDS).logits / scale, atol=tolerance, rtol=0)
    for name in ("config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"):
        assert (tmp_path / "merged" / name).read_bytes() == (trained.root / "aligned" / name).read_bytes()


def test_the_optimizer_gets_the_adapter_and_no_frozen_weight(trained: Trained) -> None:
    model = load_open_model(trained.root / "models/tiny", trained.tokenizer, 32)
    add_adapter(model, LORA)
    params = PARAMS.pretrain.model_copy(update=PRETRAIN)
    groups = PretrainModule(model, params, compiled=False).configure_optimizers()["optimizer"].param_groups
    given = {id(weight) for group in groups for weight in group["params"]}
    assert given == {id(weight) for weight in model.parameters() if weight.requires_grad}
    assert not any(group["orthogonalize"] for group in groups)
