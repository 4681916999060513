"""The saved model equals the trained one, and loads anywhere."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.core.formats.chat_format import CHAT_TEMPLATE
from groundup.core.model.llama import num_parameters, save_model


def test_a_saved_model_gives_the_same_logits(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    save_model(tiny_model, tiny_tokenizer, tmp_path, "# card\n")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.randint(0, 290, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, tiny_model(ids).logits)
    assert num_parameters(loaded) == num_parameters(tiny_model)


def test_the_directory_holds_no_code_and_knows_how_to_chat(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    save_model(tiny_model, tiny_tokenizer, tmp_path, "# card\n")
    assert {path.suffix for path in tmp_path.iterdir()} <= {".safetensors", ".json", ".md", ".jinja"}
    assert (tmp_path / "README.md").read_text() == "# card\n"
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.chat_template == CHAT_TEMPLATE
    generation = AutoModelForCausalLM.from_pretrained(tmp_path).generation_config
    assert generation.use_cache is True
    assert generation.eos_token_id == tokenizer.eos_token_id
    assert sorted([*generation.suppress_tokens, tokenizer.eos_token_id]) == sorted(tokenizer.all_special_ids)
