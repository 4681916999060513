"""What is published of a LoRA run is the model that was trained, whatever layer the adapter is of."""

import copy
import warnings
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from groundup.align.policy import Policy
from groundup.core.model.added_tokens import add_tokens
from groundup.core.model.forward import PackedAttention, hidden_states
from groundup.core.model.generation import Sampler
from groundup.core.model.head import output_logits
from groundup.core.model.llama import load_causal_lm, save_model
from groundup.core.model.scoring import RewardScorer
from groundup.core.training.adapters import add_adapter, merge_adapter, num_adapter_weights
from groundup.runner.params.training import LoraParams
from tests.families import family_model

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


ALL = LoraParams(rank=2, alpha=4.0, dropout=0.0, target_modules="all-linear")
LLAMA_LAYERS = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.mark.parametrize(
    ("family", "layers"),
    [("llama-untied", LLAMA_LAYERS), ("gemma3", LLAMA_LAYERS), ("gpt2", {"c_attn", "c_proj", "c_fc"})],
)
def test_all_linear_is_every_linear_layer_but_the_head(family: str, layers: set[str]) -> None:
    adapted = add_adapter(family_model(family), ALL)
    assert set(adapted.peft_config["default"].target_modules) == layers
    trained = {name for name, weight in adapted.named_parameters() if weight.requires_grad}
    assert all("lora_" in name for name in trained)
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in trained} == layers


def test_an_adapter_is_made_without_a_warning_and_others_are_not_hidden() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adapted = add_adapter(family_model("llama-tied"), ALL)
        with pytest.raises(FutureWarning, match="gradient_checkpointing_disable"):
            adapted.get_base_model().gradient_checkpointing_disable()


def test_trained_weights_are_those_of_the_adapter() -> None:
    """Rank 2: 32 to 32, and 32 to 16."""
    lora = LoraParams(rank=2, alpha=4.0, dropout=0.0, target_modules=["q_proj", "v_proj"])
    model = family_model("llama-tied")
    assert num_adapter_weights(model) is None
    assert num_adapter_weights(add_adapter(model, lora)) == 2 * 2 * ((32 + 32) + (32 + 16))


def trainable(model: torch.nn.Module) -> list[torch.Tensor]:
    return [weight for weight in model.parameters() if weight.requires_grad]


@pytest.mark.parametrize("family", ["llama-tied", "llama-untied", "gemma3", "gpt2"])
@torch.no_grad()
def test_rows_of_added_tokens_are_trained_beside_the_adapter(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path, family: str
) -> None:
    """And no other row; the merged model is the adapted one, by transformers' forward and by our passes."""
    num_tokens = len(tiny_tokenizer)
    model = family_model(family, num_tokens - 2)
    add_tokens(model, num_tokens, [num_tokens - 1, num_tokens - 2])
    before = model.get_input_embeddings().weight.clone()
    adapted = add_adapter(copy.deepcopy(model), ALL)
    for weight in trainable(adapted):
        weight.add_(0.1)
    ids = torch.tensor([[7, 8, num_tokens - 1, 9, num_tokens - 2]])
    logits = adapted(ids).logits[0]
    plain: PreTrainedModel = adapted.get_base_model()
    ours = hidden_states(plain.base_model, ids[0], PackedAttention([5], torch.device("cpu")), torch.arange(5))
    torch.testing.assert_close(output_logits(plain, ours), logits, atol=1e-4, rtol=1e-4)
    sampler = Sampler(eos_token_id=1, pad_token_id=2, max_new_tokens=4, temperature=0.0, batch_size=1)
    expected = sampler.sample(plain, ids.tolist(), seed=0)
    save_model(merge_adapter(adapted, tmp_path / "adapter"), tiny_tokenizer, tmp_path / "merged", "card")
    published = load_causal_lm(tmp_path / "merged", torch.device("cpu"))
    torch.testing.assert_close(published(ids).logits[0], logits, atol=1e-4, rtol=1e-4)
    published.generation_config.suppress_tokens = None
    assert sampler.sample(published, ids.tolist(), seed=0).tokens == expected.tokens
    changed = (published.get_input_embeddings().weight != before).any(1)
    assert changed.nonzero()[:, 0].tolist() == [num_tokens - 2, num_tokens - 1]
    if family == "llama-untied":
        changed = (published.lm_head.weight != model.lm_head.weight).any(1)
        assert changed.nonzero()[:, 0].tolist() == [num_tokens - 2, num_tokens - 1]
    assert published.config.added_token_ids == [num_tokens - 2, num_tokens - 1]


@pytest.mark.parametrize("family", ["qwen3", "gpt2"])
@torch.no_grad()
def test_the_score_head_is_trained_whole_beside_the_adapter(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path, family: str
) -> None:
    save_model(family_model(family, len(tiny_tokenizer)), tiny_tokenizer, tmp_path / "sft", "card")
    reward = AutoModelForSequenceClassification.from_pretrained(tmp_path / "sft", num_labels=1)
    before = reward.score.weight.clone()
    adapted = add_adapter(reward, ALL)
    assert any("score" in name for name, weight in adapted.named_parameters() if weight.requires_grad)
    for weight in trainable(adapted):
        weight.add_(0.1)
    scores = adapted(IDS).logits[0]
    save_model(merge_adapter(adapted, tmp_path / "adapter"), tiny_tokenizer, tmp_path / "reward", "card")
    scorer = RewardScorer.load(tmp_path / "reward", torch.device("cpu"))
    torch.testing.assert_close(scorer.score(IDS.tolist())[0], scores, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scorer.model.score.weight, before + 0.1)
