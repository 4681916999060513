"""`groundup fetch`; what it does with models is tested in tests/app/fetch."""

from pathlib import Path

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from typer.testing import CliRunner

from groundup.app.cli.main import app


@pytest.fixture
def folder(
    tmp_path: Path,
    tiny_model: LlamaForCausalLM,
    tiny_tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A model without a chat template, beside a checkout."""
    (tmp_path / "checkout/stages").mkdir(parents=True)
    (tmp_path / "checkout/dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path / "checkout")
    tiny_model.save_pretrained(tmp_path / "own")
    tiny_tokenizer.save_pretrained(tmp_path / "own")
    (tmp_path / "own/chat_template.jinja").unlink()
    return tmp_path / "own"


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["fetch", *arguments])
    return result.exit_code, " ".join(result.output.split())


def test_it_says_what_it_found(folder: Path) -> None:
    code, said = run("--from", "../own")
    assert code == 1
    assert "own states no licence" in said
    code, said = run("--from", "../own", "--as", "mine", "--accept-licence")
    assert code == 0
    for part in (
        "LlamaForCausalLM",
        "89,152 (F32)",
        "300 tokens",
        "128 tokens",
        "model.chat_template",
        "gguf",
    ):
        assert part in said
    assert "none stated (accepted by --accept-licence)" in said
    assert "`groundup configure --base mine` starts training from it." in said
    code, again = run("--check", "mine")
    assert code == 0
    assert again.partition("models/mine")[2] == said.partition("models/mine")[2]


def test_what_is_wrong_is_said_in_one_message(folder: Path) -> None:
    for arguments in ((), ("smollm2-135m", "--check", "mine"), ("--from", "../own", "--check", "mine")):
        code, said = run(*arguments)
        assert code == 1
        assert said.startswith("use either MODEL, or --from PATH, or --check NAME")
    code, said = run("--check", "none")
    assert code == 1
    assert said.startswith("there is no model none: `groundup fetch` brings one to")
    code, said = run("owner/name@main")
    assert code == 1
    assert "owner/name@main names the revision main, which can move: pin the 40 digits" in said
