"""Supervised fine-tuning: TRL's SFTTrainer on multi-turn chats, loss on the assistant's tokens only."""

import logging
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch.nn.functional import nll_loss
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from groundup.core.formats.chat_format import load_tokenizer, render
from groundup.core.formats.jsonl import Row, read_jsonl, write_jsonl
from groundup.core.formats.origin import as_parent
from groundup.core.model.check import CAUSAL, check_model
from groundup.core.model.generation import Sampler
from groundup.core.model.likelihood import own_distribution, token_nats
from groundup.core.model.llama import load_causal_lm, num_parameters, save_model
from groundup.core.training.adapters import add_adapter, merge_adapter, num_adapter_weights
from groundup.core.training.cost import Cost, write_cost
from groundup.core.training.ranks import by_share, is_first, wait
from groundup.core.training.runtime import Log, draw, set_up
from groundup.core.training.trl_callbacks import Curves, epoch_settings, fit, keep_whole_steps
from groundup.runner.checkpoints import Checkpoints
from groundup.runner.params.training import RuntimeParams, SftParams
from groundup.sft.chat_examples import ChatExample, check_chats, tokenize_chats

logger = logging.getLogger(__name__)

VALIDATION_BATCH = 16
CARD = """---
library_name: transformers
---
# groundup SFT model

The base model, fine-tuned on human conversations and encyclopedia questions (artifacts/reports/prepare has sources and
licences) to take the assistant's part. It is small: it keeps to the form of a chat and is often wrong about the world.
"""


def train_sft(
    base: Path,
    chats: Path,
    out: Path,
    report: Path,
    params: SftParams,
    runtime: RuntimeParams,
    device: str,
    checkpoints: Checkpoints,
    log: Log,
) -> dict[str, Any]:
    """Fine-tune, from the newest checkpoint if there is one; val_loss is the mean over assistant tokens."""
    torch_device = set_up(runtime, device, params.seed)
    check_model(base, CAUSAL)
    tokenizer = load_tokenizer(str(base))
    rows = {
        split: draw(list(read_jsonl(chats / f"{split}.jsonl", ("messages",))), limit, params.seed)
        for split, limit in (("train", params.max_chats), ("val", params.num_validation_chats))
    }
    train = tokenize_chats(tokenizer, rows["train"], params.max_length)
    val = tokenize_chats(tokenizer, rows["val"], params.max_length)
    check_chats(tokenizer, train)
    if not val.examples:
        raise ValueError(
            "sft: no val chat fits sft.max_length, so there is nothing to validate on: raise prepare.splits.val, "
            "sft.num_validation_chats or sft.max_length"
        )
    logger.info(
        "sft: %d chats in %d examples, %d split between turns, %d exchanges over %d tokens dropped",
        len(rows["train"]),
        len(train.examples),
        train.num_split,
        train.num_dropped_exchanges,
        params.max_length,
    )
    model = load_causal_lm(base, torch_device)
    before = assistant_loss(model, val.examples, tokenizer.pad_token_id)
    trainer = SFTTrainer(
        model=add_adapter(model, params.lora) if params.lora else model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(
            [{"input_ids": e.input_ids, "assistant_masks": e.assistant_masks} for e in train.examples]
        ),
        args=SFTConfig(
            **epoch_settings("sft", params, checkpoints, runtime, torch_device),
            packing=True,  # the loss is on the assistant's tokens only: the examples bring assistant_masks
        ),
    )
    curves = Curves(
        "sft",
        log,
        params.validate_every,
        lambda trained: {"val_loss": assistant_loss(trained, val.examples, tokenizer.pad_token_id)},
    )
    keep_whole_steps(trainer, "sft")
    seconds = fit(trainer, curves, checkpoints, num_copies=3, learning_rate="sft.learning_rate")
    num_trained = num_adapter_weights(trainer.model)
    if is_first():
        save_model(merge_adapter(trainer.model, out / "adapter"), tokenizer, out, as_parent(CARD, base))
    wait()
    # TRL patches the forward of the trainer's model, so figures and samples use the saved model.
    model = load_causal_lm(out, torch_device).eval()
    after = assistant_loss(model, val.examples, tokenizer.pad_token_id)
    if not is_first():
        return {}
    write_samples(model, tokenizer, rows["val"], report, params)
    num_tokens = sum(len(example.input_ids) for example in train.examples)
    cost = Cost(num_parameters(model), round(params.num_epochs * num_tokens), 0, num_trained)
    write_cost(cost, report)
    return {
        "val_loss": after,
        "val_loss_before": before,
        "num_chats": len(rows["train"]),
        "num_examples": len(train.examples),
        "num_split_chats": train.num_split,
        "num_dropped_exchanges": train.num_dropped_exchanges,
        "num_trained_tokens": sum(sum(example.assistant_masks) for example in train.examples),
        "num_steps": trainer.state.global_step,
        "flops": cost.flops,
        "train_seconds": seconds,
        "checkpoint_seconds": checkpoints.seconds,
    }


@torch.no_grad()
def assistant_loss(model: PreTrainedModel | PeftModel, examples: list[ChatExample], pad_id: int) -> float:
    """Mean negative log-likelihood per assistant token, in nats; each rank reads its share."""
    plain = model.get_base_model() if isinstance(model, PeftModel) else model  # with the adapter in its layers
    ordered = sorted(examples, key=lambda example: len(example.input_ids))
    batches = [ordered[start : start + VALIDATION_BATCH] for start in range(0, len(ordered), VALIDATION_BATCH)]
    total, count = 0.0, 0
    for nats, num_tokens in by_share(lambda own: [_batch_nats(plain, batch, pad_id) for batch in own], batches):
        total += nats
        count += num_tokens
    return total / count


def _batch_nats(model: PreTrainedModel, batch: list[ChatExample], pad_id: int) -> tuple[float, int]:
    """(nats of the assistant tokens, their number); the last example of the batch is the longest."""
    width = len(batch[-1].input_ids)
    ids = torch.tensor([e.input_ids + [pad_id] * (width - len(e.input_ids)) for e in batch], device=model.device)
    mask = torch.tensor([e.assistant_masks + [0] * (width - len(e.input_ids)) for e in batch], device=model.device)
    hidden = model.base_model(input_ids=ids, attention_mask=(ids != pad_id).long(), use_cache=False)[0]
    trained = mask[:, 1:].bool()
    nats = token_nats(model, hidden[:, :-1][trained], ids[:, 1:][trained], own_distribution)
    # Added in the order of cross_entropy, which is not that of sum(): committed figures hold every digit.
    return float(nll_loss(-nats[:, None], torch.zeros_like(nats, dtype=torch.long), reduction="sum")), len(nats)


def write_samples(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, rows: list[Row], report: Path, params: SftParams
) -> None:
    """Replies to the first turns of val chats, as samples.jsonl and samples.md."""
    chosen = rows[:: max(1, len(rows) // params.num_samples)][: params.num_samples]
    prompts = [
        row["messages"][: 1 + next(i for i, m in enumerate(row["messages"]) if m["role"] == "user")] for row in chosen
    ]
    sampler = Sampler.of(tokenizer, params.sample_tokens, params.sample_temperature, VALIDATION_BATCH)
    replies = sampler.sample(model, [render(tokenizer, prompt, reply_next=True) for prompt in prompts], params.seed)
    samples = [
        {"messages": prompt, "reply": tokenizer.decode(tokens, skip_special_tokens=True)}
        for prompt, tokens in zip(prompts, replies.tokens, strict=True)
    ]
    write_jsonl(report / "samples.jsonl", samples)
    blocks = [
        "\n>\n".join(
            f"> **{m['role']}** {m['content']}" for m in [*s["messages"], {"role": "assistant", "content": s["reply"]}]
        )
        for s in samples
    ]
    (report / "samples.md").write_text(
        f"# Samples of the SFT model\n\nUnedited, temperature {params.sample_temperature}.\n\n"
        + "\n\n".join(blocks)
        + "\n",
        encoding="utf-8",
    )
