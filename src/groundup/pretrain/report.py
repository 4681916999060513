"""Samples and model card of the base model."""

import re
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from groundup.core.formats.chat_format import document_ends, encode_text
from groundup.core.formats.jsonl import Row, write_jsonl
from groundup.core.model.generation import Sampler
from groundup.runner.params.training import PretrainParams

PROMPT_WORDS = 8

CARD = """---
library_name: transformers
---
# groundup base model

A small Llama trained by next-token prediction on the text that artifacts/reports/prepare describes, with its licences.
It continues text; it has not been taught to answer. It knows very little, and what it says is often false.
"""


OPEN_MODEL_CARD = """---
library_name: transformers
---
# groundup base model

The open model {name}, {what}; its licence holds for this one too. What it says can be false.
"""


def open_model_card(name: str, num_steps: int) -> str:
    further = "the text that artifacts/reports/prepare describes, with its licences"
    what = (
        f"trained for {num_steps} further steps on {further}"
        if num_steps
        else "with the weights it was published with"
    )
    return OPEN_MODEL_CARD.format(name=name, what=what)


def first_words(text: str, num_words: int) -> str:
    """The text up to the end of its num_words-th word, with its line breaks."""
    words = list(re.finditer(r"\S+", text))[:num_words]
    return text[: words[-1].end()] if words else text


def write_samples(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    documents: list[Row],
    report: Path,
    params: PretrainParams,
) -> None:
    """Continuations of the first words of val documents, as samples.jsonl and samples.md."""
    chosen = documents[:: max(1, len(documents) // params.num_samples)][: params.num_samples]
    prompts = [first_words(row["text"], PROMPT_WORDS) for row in chosen]
    ids = [[document_ends(tokenizer)[0], *encode_text(tokenizer, prompt)] for prompt in prompts]
    sampler = Sampler.of(tokenizer, params.sample_tokens, params.sample_temperature, batch_size=16)
    replies = sampler.sample(model.eval(), ids, params.seed)
    texts = [tokenizer.decode(tokens, skip_special_tokens=True) for tokens in replies.tokens]
    rows = [{"prompt": prompt, "continuation": text} for prompt, text in zip(prompts, texts, strict=True)]
    write_jsonl(report / "samples.jsonl", rows)
    blocks = "\n\n".join(f"> **{row['prompt']}**{row['continuation']}".replace("\n", "  \n> ") for row in rows)
    (report / "samples.md").write_text(
        f"# Samples of the base model\n\nUnedited, temperature {params.sample_temperature}; the prompt is bold."
        f"\n\n{blocks}\n",
        encoding="utf-8",
    )
