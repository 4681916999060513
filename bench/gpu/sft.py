"""Fine-tuning by TRL on packed chats: its attention is quadratic in the tokens of a batch."""

import tempfile
from collections.abc import Iterator
from functools import partial
from typing import Any

from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from bench.gpu.machine import Machine, kernels
from bench.gpu.rows import Figures, Measurement

CHATS_A_STEP = 16  # of packed rows


def measurements(machine: Machine) -> Iterator[Measurement]:
    for batch_size in (1, CHATS_A_STEP):
        yield Measurement(
            f"{CHATS_A_STEP} packed rows a step, {batch_size} at a time",
            "the other number of rows at a time",
            partial(trained, machine, batch_size),
        )


def trained(machine: Machine, batch_size: int) -> Figures:
    num_steps = 1 if machine.is_toy else 5
    words = {"<pad>": 0, "<bos>": 1, "<eos>": 2}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, "<eos>")), pad_token="<pad>", eos_token="<eos>"
    )
    context = machine.sizes.context_length
    chats = machine.chats(3 * CHATS_A_STEP * num_steps, context * 2 // 3, seed=0)
    rows: list[dict[str, Any]] = [
        {"input_ids": chat, "assistant_masks": [0] * (len(chat) // 2) + [1] * (len(chat) - len(chat) // 2)}
        for chat in chats
    ]
    with tempfile.TemporaryDirectory() as folder, kernels():
        trainer = SFTTrainer(
            model=machine.model(),
            processing_class=tokenizer,
            train_dataset=Dataset.from_list(rows),
            args=SFTConfig(
                output_dir=folder,
                per_device_train_batch_size=batch_size,
                gradient_accumulation_steps=CHATS_A_STEP // batch_size,
                max_steps=num_steps,
                max_length=context,
                packing=True,
                bf16=machine.has_gpu,
                use_cpu=not machine.has_gpu,
                activation_checkpointing=False,
                report_to="none",
                save_strategy="no",
                disable_tqdm=True,
            ),
        )
        found = trainer.train().metrics
    seconds = found["train_runtime"] / num_steps
    tokens = CHATS_A_STEP * context
    return {
        "seconds a step": seconds,
        "tokens/s at most": tokens / seconds,
        "loss": found["train_loss"],
    } | machine.peak_memory()
