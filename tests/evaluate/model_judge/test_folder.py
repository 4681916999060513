import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from groundup.evaluate.model_judge.folder import ModelFolder
from groundup.runner.files import digest_path
from tests.evaluate.model_judge.folders import judge_params, save


@pytest.fixture
def folder(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    save(tmp_path / "model", tiny_tokenizer)
    return tmp_path / "model"


def change(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | values
    path.write_text(json.dumps(config), encoding="utf-8")


def refusal(folder: Path, digest: str | None = None) -> str:
    with pytest.raises(ValueError, match="model_judge") as refused:
        ModelFolder.check(folder, judge_params(digest))
    return str(refused.value)


def test_a_whole_folder_is_taken_and_read(folder: Path) -> None:
    checked = ModelFolder.check(folder, judge_params(digest_path(folder)))
    assert (checked.context_length, checked.digest) == (128, digest_path(folder))
    assert ModelFolder.check(folder, judge_params(digest_path(folder), max_length=50)).context_length == 50
    assert checked.load(torch.device("cpu")).dtype == torch.float32


def test_no_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none") == (
        f"evaluate.model_judge.path: there is no folder {tmp_path / 'none'}; put a model there or correct it"
    )


def test_all_problems_at_once(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    (folder / "tokenizer.json").unlink()
    change(folder, architectures=["LlamaForSequenceClassification"])
    found = digest_path(folder)
    assert refusal(folder, "0" * 64).splitlines() == [
        f"the model in {folder} (evaluate.model_judge) cannot judge:",
        "  it has no weights (model.safetensors; pickled weights are not read): save it as safetensors",
        "  config.json is of LlamaForSequenceClassification, not of LlamaForCausalLM: take a causal language model",
        "  it has no tokenizer.json: add that of the model, or load its tokenizer with AutoTokenizer and save it here",
        f"  its digest is {found} and evaluate.model_judge.digest is {'0' * 64}: if this is the model that you mean, "
        "set the digest to the one found",
    ]


def test_an_empty_folder(tmp_path: Path) -> None:
    said = refusal(tmp_path)
    assert all(part in said for part in ("no weights", "no config.json", "no tokenizer.json", "digest is null"))


def test_code_of_the_folder_is_not_run(folder: Path) -> None:
    change(folder, model_type="own", auto_map={"AutoConfig": "code.Own", "AutoModelForCausalLM": "code.Model"})
    (folder / "code.py").write_text("raise SystemExit('was run')", encoding="utf-8")
    assert "code in the folder is never run" in refusal(folder)


def test_damaged_weights_and_a_tokenizer_of_another_model(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    change(folder, vocab_size=200)
    said = refusal(folder, digest_path(folder))
    assert "model.safetensors is damaged or incomplete" in said
    assert "its tokenizer has 300 tokens and its config 200" in said
    assert "digest" not in said


def test_a_template_that_takes_no_opening(folder: Path) -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}{% endfor %}"
    )
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    said = refusal(folder)
    assert (
        "does not take turns of system, user, assistant, user (the chat template raises an error: no system)" in said
    )


def test_a_template_that_writes_the_day_would_score_otherwise_tomorrow(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ strftime_now('%d') }}", encoding="utf-8")
    assert "the chat template writes the date of the day, so prompts differ from day to day" in refusal(folder)


def test_weights_that_are_missing_are_not_made_up(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    checked = ModelFolder.check(folder, judge_params(digest_path(folder)))
    with pytest.raises(
        ValueError, match=r"cannot judge: 1 weights that .* are missing, such as model\.norm\.weight: take"
    ):
        checked.load(torch.device("cpu"))
