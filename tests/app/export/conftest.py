from pathlib import Path

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.core.model.llama import save_model


@pytest.fixture
def model(tmp_path: Path, tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> Path:
    """A model directory as a stage publishes it."""
    save_model(tiny_model, tiny_tokenizer, tmp_path / "aligned", "---\nlibrary_name: transformers\n---\n# The card\n")
    return tmp_path / "aligned"
