"""Folders and GGUF files of the user's."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.app.export.gguf import export_gguf
from groundup.app.fetch.fetch import fetch, find_source
from groundup.app.fetch.source import FetchError
from groundup.core.model.llama import save_model
from groundup.runner.base import read_record
from groundup.runner.files import hash_file


@pytest.fixture
def aligned(tmp_path: Path, tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast) -> Path:
    """A model as align publishes it, with the adapter of a LoRA run."""
    folder = tmp_path / "artifacts/aligned"
    save_model(tiny_model, tiny_tokenizer, folder, "---\nlicense: mit\n---\n# The card\n")
    (folder / "adapter").mkdir()
    (folder / "adapter/adapter_config.json").write_text("{}", encoding="utf-8")
    return folder


def test_ones_own_aligned_model_is_a_base(root: Path, aligned: Path) -> None:
    fetched = fetch(root, find_source(None, aligned), "mine", accept=False)
    folder = root / "models/mine"
    names = sorted(path.name for path in aligned.glob("*.*") if path.name != "README.md")
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names, "groundup.json"])
    assert all((folder / name).read_bytes() == (aligned / name).read_bytes() for name in names)
    base = read_record(root, "mine")
    digest = hashlib.sha256("".join(f"{name}\0{of_file}\n" for name, of_file in sorted(base.files.items())).encode())
    assert (base.licence, base.licence_accepted, base.revision) == ("mit", False, f"sha256 {digest.hexdigest()}")
    assert base == fetched.base
    assert fetched.found["is_plain_llama"]
    assert fetched.found["chat_template"]


def test_where_the_users_folder_lies_is_recorded_nowhere(
    root: Path, aligned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record becomes base.lock and goes into cards, and the same model elsewhere is the same base."""
    base = fetch(root, find_source(None, aligned), "mine", accept=False).base
    assert base.source == "--from PATH/aligned"
    assert base.fetched_by == "groundup fetch --from PATH/aligned --as mine"
    assert str(tmp_path) not in (root / "models/mine/groundup.json").read_text(encoding="utf-8")
    shutil.rmtree(root / "models/mine")
    (tmp_path / "artifacts").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved/aligned")
    assert fetch(root, find_source(None, Path(".")), "mine", accept=False).base == base


def test_a_folder_without_a_licence_must_be_the_users_to_use(root: Path, model: Path) -> None:
    with pytest.raises(FetchError, match=r"mine states no licence: find out .*--accept-licence"):
        fetch(root, find_source(None, model), "mine", accept=False)
    assert not (root / "models").exists()


def test_links_and_pickles_are_refused_all_at_once(root: Path, model: Path, tmp_path: Path) -> None:
    (model / "training_args.bin").write_bytes(b"\x80\x02")
    os.rename(model / "model.safetensors", tmp_path / "blob")
    os.symlink("../blob", model / "model.safetensors")
    with pytest.raises(FetchError, match="is not taken") as refused:
        fetch(root, find_source(None, model), "mine", accept=True)
    _, first, second = str(refused.value).splitlines()
    assert first.startswith("  model.safetensors is a link: put the file itself there")
    assert second.startswith("  training_args.bin can run code when it is read")
    assert not (root / "models/mine").exists()


def test_a_folder_that_cannot_be_used_leaves_nothing(root: Path, model: Path) -> None:
    (model / "tokenizer.json").unlink()
    with pytest.raises(FetchError, match=r"the model in mine cannot be used:\n  it has no tokenizer\.json"):
        fetch(root, find_source(None, model), "mine", accept=True)
    assert [path for path in (root / "models").iterdir() if path.is_dir()] == []


def test_a_gguf_file_becomes_the_same_model(
    root: Path, aligned: Path, tmp_path: Path, tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    file = tmp_path / "tiny.gguf"
    export_gguf(aligned, file)
    source = find_source(None, file)
    assert source.name == "tiny"
    base = fetch(root, source, source.name, accept=True).base
    assert base.revision == f"sha256 {hash_file(file)}"
    folder = root / "models/tiny"
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert loaded.dtype == torch.float32
    assert not hasattr(loaded.config, "quantization_config")
    ids = torch.tensor([[5, 70, 150, 299]])
    with torch.no_grad():
        assert torch.allclose(loaded(ids).logits, tiny_model(ids).logits, atol=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "Hello there! The river of 2024."
    assert tokenizer(text)["input_ids"] == tiny_tokenizer(text)["input_ids"]
    assert "{% generation %}" not in tokenizer.chat_template  # llama.cpp does not know it
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    rendered = [t.apply_chat_template(chat, tokenize=False) for t in (tokenizer, tiny_tokenizer)]
    assert rendered[0] == rendered[1]
    (tmp_path / "cut.gguf").write_bytes(file.read_bytes()[:5000])
    with pytest.raises(FetchError, match=r"cut\.gguf cannot be converted .*: take a whole file"):
        fetch(root, find_source(None, tmp_path / "cut.gguf"), "cut", accept=True)


@pytest.mark.parametrize(
    ("model", "path", "message"),
    [
        (None, None, "name one model: smollm2-135m; owner/name@<the 40 digits of a commit> of the hub; or a folder"),
        ("smollm3", None, "name one model: smollm2-135m"),
        ("smollm2-135m", Path("x"), "name one model"),
        (None, Path("nowhere"), "nowhere does not exist: give a folder with a model, or a GGUF file"),
        (None, Path("dvc.yaml"), "dvc.yaml is not a GGUF file: give one, or the folder that holds the model"),
    ],
)
def test_what_names_no_model(root: Path, model: str | None, path: Path | None, message: str) -> None:
    with pytest.raises(FetchError, match=message):
        fetch(root, find_source(model, path), "mine", accept=True)


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "with space"])
def test_a_name_that_is_none(root: Path, model: Path, name: str) -> None:
    with pytest.raises(FetchError, match="is not a name of a model: use letters, digits"):
        fetch(root, find_source(None, model), name, accept=True)
