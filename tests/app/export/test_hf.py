"""An export loads where groundup is not installed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.app.export.hf import export_adapter, export_hf
from groundup.core.formats.origin import with_base
from groundup.core.model.llama import save_model
from groundup.core.training.adapters import add_adapter, merge_adapter
from groundup.runner.base import Base
from groundup.runner.files import dvc_md5
from groundup.runner.params.training import LoraParams
from tests.smoke_run import environment

ELSEWHERE = """
import sys
sys.modules["groundup"] = None  # any import of it fails
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline
from trl import SFTConfig, SFTTrainer

model = AutoModelForCausalLM.from_pretrained("aligned")
tokenizer = AutoTokenizer.from_pretrained("aligned")
chat = [{"role": "user", "content": "How are you?"}]
(answer,) = pipeline("text-generation", model=model, tokenizer=tokenizer)(chat, max_new_tokens=3)
assert [message["role"] for message in answer["generated_text"]] == ["user", "assistant"]

adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("sft"), "adapter").merge_and_unload()
ids = torch.tensor([tokenizer.apply_chat_template(chat, return_dict=False)])
assert AutoTokenizer.from_pretrained("adapter").apply_chat_template(chat, return_dict=False) == ids[0].tolist()
torch.testing.assert_close(adapted(ids).logits, model(ids).logits)

lora = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"]))
assert lora.get_nb_trainable_parameters()[0] > 0
rows = Dataset.from_list([{"messages": chat + [{"role": "assistant", "content": "Well."}]}] * 2)
settings = SFTConfig("trained", max_steps=1, per_device_train_batch_size=2, assistant_only_loss=True, use_cpu=True,
                     report_to="none", bf16=False, save_strategy="no")
before = AutoModelForCausalLM.from_pretrained("aligned")
trainer = SFTTrainer(AutoModelForCausalLM.from_pretrained("aligned"), settings, train_dataset=rows,
                     processing_class=tokenizer)
trainer.train()
changed = [not torch.equal(a, b) for a, b in zip(before.parameters(), trainer.model.parameters(), strict=True)]
assert any(changed)
print("all of it")
"""


def test_the_card_of_a_model_from_an_open_one_names_the_licences_of_its_data(
    tmp_path: Path, tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    card = "---\nlibrary_name: transformers\n---\n# The card\n"
    base = Base(name="a", source="a", revision="1", licence="MIT", licence_accepted=False, files={})
    prepared = tmp_path / "report.json"
    sources = [{"name": "talk", "licence": "CC-BY-4.0"}, {"name": "own", "licence": None}]
    prepared.write_text(json.dumps({"sources": sources}), encoding="utf-8")
    for name, origin in (("own", None), ("open", base)):
        save_model(tiny_model, tiny_tokenizer, tmp_path / name, with_base(card, origin))
        export_hf(tmp_path / name, tmp_path / f"{name}-hf", prepared)
    named = (tmp_path / "open-hf/README.md").read_text(encoding="utf-8")
    assert named.endswith("\n## Licences of the data\n\n- talk: CC-BY-4.0\n- own: no licence given\n")
    assert "license: mit" in named
    assert (tmp_path / "own-hf/README.md").read_text(encoding="utf-8") == card


def test_plain_transformers_trl_and_peft_load_it(
    tmp_path: Path, tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    made, there = tmp_path / "made", tmp_path / "there"
    card = "---\nlibrary_name: transformers\n---\n# The card\n"
    save_model(tiny_model, tiny_tokenizer, made / "sft", card)
    lora = LoraParams(rank=2, alpha=8.0, dropout=0.0, target_modules=["q_proj", "down_proj"])
    adapted = add_adapter(tiny_model, lora)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            weight.data.fill_(0.05)  # as after training: it begins at zero
    (made / "aligned").mkdir()
    save_model(merge_adapter(adapted, made / "aligned/adapter"), tiny_tokenizer, made / "aligned", card)
    for name in ("sft", "aligned"):
        export_hf(made / name, there / name)
    export_adapter(made / "aligned", "aligned", there / "adapter")
    assert not (there / "aligned/adapter").exists()
    assert {path.name for path in (there / "adapter").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "README.md", "tokenizer.json", "tokenizer_config.json",
        "chat_template.jinja",
    }  # fmt: skip
    readme = (there / "adapter/README.md").read_text(encoding="utf-8")
    assert "on top of the groundup sft model" in readme
    assert "# The card" in readme
    result = subprocess.run(
        [sys.executable, "-I", "-c", ELSEWHERE],
        cwd=there,
        env=environment(HF_HUB_OFFLINE="1"),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.stdout.endswith("all of it\n"), result.stderr[-3000:]


def test_the_weights_are_the_same_bytes_and_the_tokenizer_is_of_any_version(model: Path, tmp_path: Path) -> None:
    export_hf(model, tmp_path / "out/hf")
    for name in ("model.safetensors", "tokenizer.json", "config.json", "generation_config.json", "README.md"):
        assert dvc_md5(tmp_path / "out/hf" / name) == dvc_md5(model / name)
    tokenizer = json.loads((tmp_path / "out/hf/tokenizer_config.json").read_text(encoding="utf-8"))
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert "local_files_only" not in tokenizer


def test_no_adapter(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="aligned has no LoRA adapter: all its weights were trained"):
        export_adapter(model, "aligned", tmp_path / "adapter")


def test_where_nothing_can_be_written(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(ValueError, match="file already exists: remove it, or name another place with --out"):
        export_hf(model, tmp_path / "file")
    with pytest.raises(ValueError, match=r"file/deep cannot be written \((File exists|Not a directory)\)"):
        export_hf(model, tmp_path / "file/deep")

    def refuse(source: Path, target: Path, ignore: object) -> None:
        target.mkdir()
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("shutil.copytree", refuse)
    with pytest.raises(ValueError, match=r"hf cannot be written \(Permission denied\): make room, correct"):
        export_hf(model, tmp_path / "hf")
    assert {path.name for path in tmp_path.iterdir()} == {"aligned", "file"}
