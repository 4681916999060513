"""Positions, attention, grouped-query attention and tied embeddings: their results, and what plain Llamas keep."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from groundup.core.model.cache import StockCache
from groundup.core.model.check import CAUSAL, REWARD, check_model
from groundup.core.model.llama import build_llama, load_causal_lm, num_parameters, save_model
from groundup.core.model.variants import GroundupLlamaConfig, GroundupLlamaForCausalLM, loading_note, sinusoids
from groundup.runner.describe import model_type
from groundup.runner.params.training import ModelParams
from tests.core.model.variants import make_model

PARAMS = {
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "intermediate_size": 48,
    "position": "rope",
    "attention": "softmax",
    "rope_theta": 10000.0,
    "tie_embeddings": True,
    "initializer_range": 0.02,
}
OTHERS = pytest.mark.parametrize(
    ("position", "attention"), [("sinusoidal", "softmax"), ("rope", "linear"), ("sinusoidal", "linear")]
)
ROW = torch.tensor([[7, 8, 9, 11, 5, 20, 30, 40]])


def build(tokenizer: PreTrainedTokenizerFast, **changes: object) -> LlamaForCausalLM:
    torch.manual_seed(5)
    return build_llama(
        ModelParams.model_validate(
            {"base": None, "chat_template": "own", "context_length": 64, "scratch": PARAMS | changes}
        ),
        tokenizer,
    )


def test_sinusoids_literal() -> None:
    """PE(p, 2i) = sin(p / 10000^(2i / 4)), PE(p, 2i + 1) = cos(...): wavelengths 2 pi and 200 pi."""
    expected = [
        [0.0, 1.0, 0.0, 1.0],
        [math.sin(1), math.cos(1), math.sin(0.01), math.cos(0.01)],
        [math.sin(50), math.cos(50), math.sin(0.5), math.cos(0.5)],
    ]
    torch.testing.assert_close(sinusoids(torch.tensor([0, 1, 50]), 4), torch.tensor(expected), atol=1e-5, rtol=0)
    assert sinusoids(torch.tensor([1]), 512)[0, 0].item() == pytest.approx(0.8414709, abs=1e-6)
    assert sinusoids(torch.tensor([7]), 512)[0, 511].item() == pytest.approx(math.cos(7 / 10000 ** (510 / 512)))


def test_first_layer_sees_scaled_embeddings_plus_sinusoids() -> None:
    model = make_model("sinusoidal", "softmax")
    seen = []
    model.model.layers[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(ROW)
    expected = model.model.embed_tokens(ROW) * math.sqrt(32) + sinusoids(torch.arange(8), 32)
    torch.testing.assert_close(seen[0], expected)


@torch.no_grad()
def test_sinusoids_are_the_only_positions() -> None:
    """With all tokens at one position, a layer ignores their order; with rotary or other sinusoids it does not."""
    model = make_model("sinusoidal", "softmax")
    model.model.layers = model.model.layers[:1]
    swapped = ROW[:, [1, 0, 2, 3, 4, 5, 6, 7]]
    mask = torch.ones_like(ROW)  # one document
    here = torch.full_like(ROW, 3)
    last, other = (
        model(ids, position_ids=here, attention_mask=mask, use_cache=False).logits[0, -1] for ids in (ROW, swapped)
    )
    torch.testing.assert_close(last, other, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(model(ROW).logits[0, -1], model(swapped).logits[0, -1], atol=1e-2)


def test_defaults_are_a_plain_llama_with_the_weights_of_before(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = build(tiny_tokenizer)
    assert type(model) is LlamaForCausalLM
    torch.manual_seed(5)
    plain = LlamaForCausalLM(model.config)
    for name, weight in plain.named_parameters():
        if "o_proj" in name or "down_proj" in name:
            torch.nn.init.zeros_(weight)
        assert torch.equal(weight, model.get_parameter(name)), name
    save_model(model, tiny_tokenizer, tmp_path, "# card\n")
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("llama", ["LlamaForCausalLM"])
    assert config.keys() <= {*LlamaConfig().to_dict(), "architectures", "dtype"}
    assert (tmp_path / "README.md").read_text() == "# card\n"


@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_grouped_queries_and_untied_embeddings_stay_plain_llamas(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path, num_kv_heads: int, tie_embeddings: bool
) -> None:
    model = build(tiny_tokenizer, num_kv_heads=num_kv_heads, tie_embeddings=tie_embeddings)
    assert type(model) is LlamaForCausalLM
    block = model.model.layers[0].self_attn
    assert block.k_proj.weight.shape == block.v_proj.weight.shape == (8 * num_kv_heads, 32)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) is tie_embeddings
    table, hidden = len(tiny_tokenizer) * 32, 2 * (2 * 32 * 32 + 2 * 32 * 8 * num_kv_heads + 3 * 32 * 48 + 2 * 32) + 32
    assert num_parameters(model) == (1 if tie_embeddings else 2) * table + hidden
    save_model(model, tiny_tokenizer, tmp_path, "# card\n")
    check_model(tmp_path, CAUSAL)
    assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path)(ROW).logits, model.eval()(ROW).logits)


@OTHERS
def test_other_models_are_saved_and_loaded_as_what_they_are(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path, position: str, attention: str
) -> None:
    model = build(tiny_tokenizer, position=position, attention=attention, initializer_range=0.3).eval()
    for name, weight in model.named_parameters():
        if "o_proj" in name or "down_proj" in name:
            assert not weight.any()
            torch.nn.init.normal_(weight, std=0.3)
    save_model(model, tiny_tokenizer, tmp_path, "# card\n")
    check_model(tmp_path, CAUSAL)
    loaded = load_causal_lm(tmp_path, torch.device("cpu"))
    assert type(loaded) is GroundupLlamaForCausalLM
    assert (loaded.config.position, loaded.config.attention) == (position, attention)
    logits = model(ROW).logits
    assert torch.equal(loaded(ROW).logits, logits)
    plain = LlamaForCausalLM(LlamaConfig(**{k: v for k, v in model.config.to_dict().items() if k != "model_type"}))
    plain.load_state_dict(model.state_dict())  # the same names and shapes with another meaning
    assert not torch.allclose(plain.eval()(ROW).logits, logits, atol=0.1)
    assert len(AutoTokenizer.from_pretrained(tmp_path)) == len(tiny_tokenizer)

    reward = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=1)
    torch.testing.assert_close(reward.model(ROW).last_hidden_state, model.model(ROW).last_hidden_state)
    save_model(reward, tiny_tokenizer, tmp_path / "reward", "# card\n")
    check_model(tmp_path / "reward", REWARD)
    assert (model_type(tmp_path), model_type(tmp_path / "reward")) == ("causal-lm", "reward-model")


def test_other_models_say_what_they_need(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    save_model(build(tiny_tokenizer, attention="linear"), tiny_tokenizer, tmp_path, "# card\n")
    card = (tmp_path / "README.md").read_text()
    assert (
        "This is not a plain Llama: its attention is linear. Run `import groundup.core.model.variants` before" in card
    )
    save_model(load_causal_lm(tmp_path, torch.device("cpu")), tiny_tokenizer, tmp_path / "next", card + "# more\n")
    assert (tmp_path / "next/README.md").read_text() == card + "# more\n"  # not added twice
    load = "from transformers import AutoModelForCausalLM as A; import sys; A.from_pretrained(sys.argv[1])"
    result = subprocess.run([sys.executable, "-c", load, str(tmp_path)], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "`llama_needs_import_groundup.core.model.variants` but Transformers does not recognize" in result.stderr


def test_the_note_names_both() -> None:
    config = GroundupLlamaConfig(position="sinusoidal", attention="linear")
    assert "it adds sinusoidal positions to the embeddings and its attention is linear" in loading_note(config)
    assert loading_note(LlamaConfig()) == ""


def test_an_unknown_attention_in_a_config_is_refused(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    save_model(build(tiny_tokenizer, attention="linear"), tiny_tokenizer, tmp_path, "# card\n")
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"linear"', '"cubic"'))
    with pytest.raises(ValueError, match=r"config.json cannot be read; .*attention"):
        check_model(tmp_path, CAUSAL)


@torch.no_grad()
def test_sequences_that_join_later_continue_as_if_they_had_come_together() -> None:
    model = make_model("sinusoidal", "softmax").model
    short, long, token = [5, 6, 7], [8, 9, 10, 11, 12], torch.tensor([13, 14])
    together, _ = StockCache.of(model, [short, long])
    first, _ = StockCache.of(model, [short])
    second, _ = StockCache.of(model, [long])
    first.join(second)
    torch.testing.assert_close(first.step(token), together.step(token))
