"""SFT through TRL's trainer on the tiny model: learns, resumes exactly, publishes adapters."""

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTTrainer

from groundup.core.formats.jsonl import write_jsonl
from groundup.core.model.llama import save_model
from groundup.core.training.cost import read_cost
from groundup.core.training.runtime import NonFiniteLossError
from groundup.runner.checkpoints import SEAL
from groundup.runner.disk import DiskError
from groundup.runner.interruption import Terminated
from groundup.runner.params.training import LoraParams, SftParams
from groundup.sft.chat_examples import tokenize_chat
from groundup.sft.sft import assistant_loss, train_sft
from tests.llamas import tiny_llama
from tests.presets import preset
from tests.resume import Crash, Curve, Wholes, names, saved_bytes
from tests.small_disk import fill, small_disk

PARAMS = preset("smoke")
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


def write_inputs(folder: Path, tokenizer: PreTrainedTokenizerFast) -> dict[str, Path]:
    save_model(tiny_llama(tokenizer), tokenizer, folder / "base", "card")
    for split in ("train", "val"):
        write_jsonl(folder / f"chats/{split}.jsonl", CHATS)
    return {"base": folder / "base", "chats": folder / "chats"}


@pytest.fixture(scope="module")
def inputs(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_inputs(tmp_path_factory.mktemp("inputs"), tiny_tokenizer)


@pytest.fixture(scope="module")
def whole(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Wholes:
    return Wholes(partial(run, inputs), tmp_path_factory.mktemp("whole"))


def run(
    inputs: dict[str, Path], folder: Path, log: Curve, params: SftParams = SFT, precision: str = "fp32"
) -> dict[str, Any]:
    return train_sft(
        **inputs,
        out=folder / "out",
        report=folder / "report",
        params=params,
        runtime=PARAMS.runtime.model_copy(update={"num_threads": 1, "precision": precision}),
        device="cpu",
        checkpoints=log.checkpoints(folder),
        log=log,
    )


def test_bf16_follows_fp32_and_keeps_its_weights_in_fp32(
    inputs: dict[str, Path], whole: Wholes, tmp_path: Path
) -> None:
    low, high = run(inputs, tmp_path / "bf16", Curve(), precision="bf16"), whole(SFT).metrics
    assert low["val_loss"] != high["val_loss"]
    assert low["val_loss"] == pytest.approx(high["val_loss"], rel=0.02)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "bf16/out").state_dict()
    assert {weight.dtype for weight in saved.values()} == {torch.float32}


def test_it_learns_the_replies(whole: Wholes) -> None:
    folder, metrics = whole(SFT).folder, whole(SFT).metrics
    assert metrics["val_loss"] < 0.8 * metrics["val_loss_before"]
    assert metrics["num_examples"] == 16
    assert not (folder / "out/training_args.bin").exists()
    assert "**assistant**" in (folder / "report/samples.md").read_text(encoding="utf-8")
    cost = read_cost(folder / "report")
    assert cost is not None
    assert cost.num_learned_tokens > SFT.num_epochs * metrics["num_trained_tokens"]  # the user's turns are read too
    assert metrics["flops"] == cost.flops


LORA = LoraParams(rank=4, alpha=8.0, dropout=0.1, target_modules=["q_proj", "v_proj"])


@pytest.mark.parametrize(
    ("changes", "crash_at", "left"),
    [
        ({"checkpoint_every": 3}, 5, ["checkpoint-3"]),
        (
            {"checkpoint_every": 4, "log_every": 2, "accumulate": 2, "num_epochs": 4.0},
            14,
            ["checkpoint-12", "checkpoint-8"],
        ),
        ({"checkpoint_every": 4, "log_every": 2, "lora": LORA}, 10, ["checkpoint-4", "checkpoint-8"]),
        ({}, 1, []),
    ],
)
def test_a_killed_run_goes_on_to_the_same_bytes(
    inputs: dict[str, Path],
    whole: Wholes,
    tmp_path: Path,
    changes: dict[str, Any],
    crash_at: int,
    left: list[str],
) -> None:
    params = SFT.model_copy(update=changes)
    expected, cut = whole(params), Curve()
    cut.crash_at = crash_at
    with pytest.raises(Crash):
        run(inputs, tmp_path / "cut", cut, params)
    assert names(tmp_path / "cut") == left
    metrics = run(inputs, tmp_path / "cut", cut, params)
    assert saved_bytes(tmp_path / "cut") == saved_bytes(expected.folder)
    assert cut.rows == expected.rows
    assert metrics["val_loss"] == expected.metrics["val_loss"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_at_the_next_logged_step_and_nothing_is_lost(
    inputs: dict[str, Path], whole: Wholes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """A real signal in the forward pass of step 5; rows are means over two steps, so the run may end after step 6."""
    params = SFT.model_copy(update={"log_every": 2, "checkpoint_every": 100})
    expected, cut = whole(params), Curve()

    class Interrupted(SFTTrainer):
        def training_step(self, *inputs: Any) -> Any:
            if self.state.global_step == 4:
                os.kill(os.getpid(), number)
            return super().training_step(*inputs)

    with monkeypatch.context() as patch:
        patch.setattr("groundup.sft.sft.SFTTrainer", Interrupted)
        with pytest.raises(Terminated) as ended:
            run(inputs, tmp_path / "cut", cut, params)
    assert ended.value.code == 128 + number
    assert names(tmp_path / "cut") == ["checkpoint-6"]
    run(inputs, tmp_path / "cut", cut, params)
    assert saved_bytes(tmp_path / "cut") == saved_bytes(expected.folder)
    assert cut.rows == expected.rows


@pytest.mark.parametrize("leave_bytes", [100_000, 600_000], ids=["weights", "optimizer"])
def test_a_disk_that_fills_up_is_named_and_the_run_goes_on(
    inputs: dict[str, Path], whole: Wholes, tmp_path: Path, leave_bytes: int
) -> None:
    """For whichever library is writing: safetensors the weights, torch the optimizer's state."""
    expected, cut = whole(SFT), Curve()
    with small_disk(tmp_path / "cut/work", megabytes=16) as disk:

        class CurveThatFillsTheDisk(Curve):
            def __call__(self, step: int, **values: float) -> None:
                super().__call__(step, **values)
                if step == 8:
                    fill(disk, leave_bytes)

        filled = CurveThatFillsTheDisk()
        with pytest.raises(DiskError, match=rf"a checkpoint could not be written to {disk}: the disk is full"):
            run(inputs, tmp_path / "cut", filled)
        assert names(tmp_path / "cut") == ["checkpoint-3", "checkpoint-6"]
        (disk / "ballast").unlink()
        run(inputs, tmp_path / "cut", cut)
    assert saved_bytes(tmp_path / "cut") == saved_bytes(expected.folder)
    assert filled.rows | cut.rows == expected.rows


@pytest.mark.parametrize("num_epochs", [2.0, 0.75])
def test_a_run_killed_after_its_last_step_does_not_train_again(
    inputs: dict[str, Path], whole: Wholes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_epochs: float
) -> None:
    """Also if training ends within an epoch, where transformers takes one step too many."""
    params = SFT.model_copy(update={"num_epochs": num_epochs, "lora": LORA})
    expected = whole(params)
    with monkeypatch.context() as patch:
        patch.delattr("groundup.sft.sft.write_samples")
        with pytest.raises(NameError):
            run(inputs, tmp_path / "cut", Curve(), params)
    again = Curve()
    metrics = run(inputs, tmp_path / "cut", again, params)
    assert again.rows == {}
    assert metrics["num_steps"] == expected.metrics["num_steps"]
    assert saved_bytes(tmp_path / "cut") == saved_bytes(expected.folder)


def test_a_torn_checkpoint_is_passed_over(inputs: dict[str, Path], whole: Wholes, tmp_path: Path) -> None:
    """Without its optimizer's state, transformers would silently continue with a fresh one."""
    cut = Curve()
    cut.crash_at = 8
    with pytest.raises(Crash):
        run(inputs, tmp_path / "cut", cut)
    assert names(tmp_path / "cut") == ["checkpoint-3", "checkpoint-6"]
    (tmp_path / "cut/work/checkpoint-6/optimizer.pt").unlink()
    (tmp_path / "cut/work/checkpoint-6" / SEAL).unlink()
    run(inputs, tmp_path / "cut", cut)
    assert saved_bytes(tmp_path / "cut") == saved_bytes(whole(SFT).folder)


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


@pytest.mark.parametrize("log_every", [1, 100])
def test_gradients_that_are_not_finite_stop_before_the_step(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_every: int
) -> None:
    step = SFTTrainer.training_step

    def spoiled(trainer: SFTTrainer, model: torch.nn.Module, *rest: Any) -> torch.Tensor:
        loss = step(trainer, model, *rest)
        if trainer.state.global_step == 2:
            next(weight.grad for weight in model.parameters() if weight.grad is not None).view(-1)[0] = float("nan")
        return loss

    monkeypatch.setattr(SFTTrainer, "training_step", spoiled)
    with pytest.raises(
        NonFiniteLossError, match=r"sft: the norm of the gradients is nan at step 3.*sft\.learning_rate"
    ):
        run(inputs, tmp_path, Curve(), SFT.model_copy(update={"log_every": log_every}))


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
    """In the batches that TRL passes to the model: there is no mask; the positions separate the chats."""
    batches: list[dict[str, Any]] = []

    class Watched(SFTTrainer):
        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            batches.append(inputs)
            return loss

    monkeypatch.setattr("groundup.sft.sft.SFTTrainer", Watched)
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
