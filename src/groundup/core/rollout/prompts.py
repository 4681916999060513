"""Prompts of a split, as token ids that end with the assistant marker."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from groundup.core.formats.chat_format import render
from groundup.core.formats.jsonl import read_jsonl
from groundup.core.formats.records import Message

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prompt:
    conversation_id: str
    messages: list[Message]
    ids: list[int]
    human_reply: str | None = None  # the person's answer, if there is one


def load_prompts(path: Path, tokenizer: PreTrainedTokenizerFast, max_prompt_tokens: int) -> list[Prompt]:
    """All prompts of a file that are short enough; ValueError if there is none."""
    prompts = [
        Prompt(
            row["conversation_id"], row["messages"], render(tokenizer, row["messages"], reply_next=True), row["reply"]
        )
        for row in read_jsonl(path, ("conversation_id", "messages", "reply"))
    ]
    short = [prompt for prompt in prompts if len(prompt.ids) <= max_prompt_tokens]
    if not short:
        raise ValueError(
            f"{path.name}: none of its {len(prompts)} prompts has at most {max_prompt_tokens} tokens; "
            "raise align.rollout.max_prompt_tokens, lower prepare.prompts.turns or add chats"
        )
    logger.info("align: %s: %d prompts, %d too long", path.name, len(short), len(prompts) - len(short))
    return short


class PromptBatches:
    """Prompt ids for each iteration (counted from 1): epochs over all prompts, each in its own order.

    The order is a function of (seed, iteration). Not a list, which Lightning would treat as several data loaders.
    """

    def __init__(self, prompts: list[Prompt], batch_size: int, seed: int, iterations: range) -> None:
        self.prompts = prompts
        self.batch_size = batch_size
        self.seed = seed
        self.iterations = iterations

    def __len__(self) -> int:
        return len(self.iterations)

    def __iter__(self) -> Iterator[list[list[int]]]:
        for batch in self.prompts_by_batch():
            yield [prompt.ids for prompt in batch]

    def prompts_by_batch(self) -> Iterator[list[Prompt]]:
        for iteration in self.iterations:
            yield [self.prompts[i] for i in self._indices(iteration)]

    def _indices(self, iteration: int) -> list[int]:
        num_prompts = len(self.prompts)
        first = (iteration - 1) * self.batch_size
        epochs = range(first // num_prompts, (first + self.batch_size - 1) // num_prompts + 1)
        order = np.concatenate(
            [np.random.default_rng([self.seed, epoch]).permutation(num_prompts) for epoch in epochs]
        )
        start = first - epochs.start * num_prompts
        return order[start : start + self.batch_size].tolist()
