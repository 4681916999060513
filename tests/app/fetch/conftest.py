from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from tests.app.fetch.mirror import Mirror, read_files, serving


@pytest.fixture
def model(tmp_path: Path, tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> Path:
    """The plain Hugging Face directory of a tiny random Llama."""
    folder = tmp_path / "model"
    tiny_model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout, as the commands find it."""
    root = tmp_path / "checkout"
    (root / "stages").mkdir(parents=True)
    (root / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def mirror(model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    with serving(Mirror(read_files(model))) as mirror:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", mirror.address)
        template = mirror.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)  # what a torn download keeps
        monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
        yield mirror
