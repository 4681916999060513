"""SFT through TRL's trainer on the tiny model: learns, resumes exactly, publishes adapters."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTTrainer

from groundup.data.jsonl import write_jsonl
from groundup.frame.params import load_params
from groundup.frame.params.training import LoraParams, SftParams
from groundup.model.llama import save_model
from groundup.train.chat_examples import tokenize_chat
from groundup.train.sft import assistant_loss, train_sft
from tests.conftest import ROOT
from tests.train.test_pretrain import Curve, assert_same, weights

PARAMS = load_params(ROOT / "presets/smoke.yaml")
SFT = PARAMS.sft.model_copy(
    update={
        "max_chats": None,
        "num_epochs": 2.0,
        "batch_size": 1,
        "accumulate": 1,
        "max_length": 64,
        "validate_every": 4,
        "checkpoint_every": 3,
        "log_every": 1,
    }
)
CHATS = [
    {
        "id": str(i),
        "source": "a",
        "messages": [
            {"role": "user", "content": f"hello {i}"},
            {"role": "assistant", "content": f"yes {i} I like music very much"},
        ],
    }
    for i in range(16)
]


@pytest.fixture
def inputs(tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> dict[str, Path]:
    save_model(tiny_model, tiny_tokenizer, tmp_path / "base", "card")
    for split in ("train", "val"):
        write_jsonl(tmp_path / f"chats/{split}.jsonl", CHATS)
    return {"base": tmp_path / "base", "chats": tmp_path / "chats"}


def run(inputs: dict[str, Path], folder: Path, log: Curve, params: SftParams = SFT) -> dict[str, Any]:
    return train_sft(
        **inputs,
        out=folder / "out",
        report=folder / "report",
        params=params,
        runtime=PARAMS.runtime.model_copy(update={"num_threads": 1}),
        device="cpu",
        work=folder / "work",
        log=log,
    )


def test_it_learns_the_replies(inputs: dict[str, Path], tmp_path: Path) -> None:
    metrics = run(inputs, tmp_path, Curve())
    assert metrics["val_loss"] < 0.8 * metrics["val_loss_before"]
    assert metrics["num_examples"] == 16
    assert not (tmp_path / "out/training_args.bin").exists()
    assert "**assistant**" in (tmp_path / "report/samples.md").read_text(encoding="utf-8")


def test_a_killed_run_goes_on_to_the_same_bytes(inputs: dict[str, Path], tmp_path: Path) -> None:
    run(inputs, tmp_path / "whole", Curve())
    with pytest.raises(KeyboardInterrupt):
        run(inputs, tmp_path / "cut", Curve(stop_at=5))
    run(inputs, tmp_path / "cut", Curve())
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


def test_a_torn_checkpoint_is_passed_over(inputs: dict[str, Path], tmp_path: Path) -> None:
    run(inputs, tmp_path / "whole", Curve())
    with pytest.raises(KeyboardInterrupt):
        run(inputs, tmp_path / "cut", Curve(stop_at=5))
    torn = tmp_path / "cut/work/trainer/checkpoint-4"
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"half")
    run(inputs, tmp_path / "cut", Curve())
    assert not torn.exists()
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


def test_lora_publishes_the_adapter_and_the_merged_model(inputs: dict[str, Path], tmp_path: Path) -> None:
    from peft import PeftModel

    lora = LoraParams(rank=4, alpha=8.0, dropout=0.0, target_modules=["q_proj", "v_proj"])
    metrics = run(inputs, tmp_path, Curve(), SFT.model_copy(update={"lora": lora, "learning_rate": 0.01}))
    assert metrics["val_loss"] < metrics["val_loss_before"]
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    base = AutoModelForCausalLM.from_pretrained(inputs["base"])
    adapted = PeftModel.from_pretrained(base, tmp_path / "out/adapter")
    ids = torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, adapted(ids).logits, atol=1e-4, rtol=1e-4)
    assert str(tmp_path) not in (tmp_path / "out/adapter/adapter_config.json").read_text()


def test_assistant_loss_is_the_mean_over_tokens(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    examples = [tokenize_chat(tiny_tokenizer, row["messages"]) for row in CHATS[:3]]
    total, count = 0.0, 0
    for example in examples:
        with torch.no_grad():
            logprobs = tiny_model(torch.tensor([example.input_ids])).logits[0].log_softmax(-1)
        for i, trained in enumerate(example.assistant_masks):
            if trained:
                total -= logprobs[i - 1, example.input_ids[i]].item()
                count += 1
    assert assistant_loss(tiny_model, examples, tiny_tokenizer.pad_token_id) == pytest.approx(total / count, rel=1e-4)


def test_packed_chats_do_not_see_each_other(
    inputs: dict[str, Path], tmp_path: Path, tiny_model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the very batches that TRL hands to the model: no mask, the positions tell the chats apart."""
    batches: list[dict[str, Any]] = []

    class Watched(SFTTrainer):
        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            batches.append(inputs)
            return loss

    monkeypatch.setattr("groundup.train.sft.SFTTrainer", Watched)
    run(inputs, tmp_path, Curve(), SFT.model_copy(update={"num_epochs": 1.0, "max_length": 100}))
    batch = next(b for b in batches if (b["position_ids"] == 0).sum() > 1)
    assert "attention_mask" not in batch
    assert batch["use_cache"] is False

    ids, positions = batch["input_ids"], batch["position_ids"]
    start = int((positions[0, 1:] == 0).nonzero()[0]) + 1
    changed = ids.clone()
    changed[0, 1 : start - 1] = 7
    rest = {name: value for name, value in batch.items() if name not in ("input_ids", "labels")}
    with torch.no_grad():
        before, after = (tiny_model(input_ids=x, **rest).logits[0] for x in (ids, changed))
        alone = tiny_model(input_ids=ids[:, start:], use_cache=False).logits[0]
    length = next((i for i in range(1, len(alone)) if positions[0, start + i] == 0), len(alone))
    assert torch.equal(before[start:], after[start:])
    assert not torch.allclose(before[2:start], after[2:start])
    torch.testing.assert_close(before[start : start + length], alone[:length], atol=1e-4, rtol=1e-4)
