"""The models that a server offers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from groundup.app.chat.loading import Models, model_path
from groundup.app.serve.search import Find, Found, end_when_abandoned
from groundup.app.serve.text import bytes_of_tokens
from groundup.core.decoding import make_decoding, reply_to_prompt
from groundup.core.decoding.assistant import Assistant
from groundup.core.decoding.settings import REWARDED
from groundup.core.model.context import context_length
from groundup.runner.files import digest_path
from groundup.runner.params.decoding import DecodingNumbers


@dataclass(frozen=True)
class ServedModel:
    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    token_bytes: Sequence[bytes]
    fingerprint: str  # of its files: a request and seed that give one reply give another where this differs
    modified: int  # seconds since 1970

    @property
    def context_length(self) -> int:
        return context_length(self.model, self.tokenizer)


def load_models(models: Models, names: Sequence[str]) -> dict[str, ServedModel]:
    """Load the models; ValueError names what is wrong with a directory."""
    return {
        name: _serve(name, models.assistant(name, rewarded=False), model_path(models.root, name)) for name in names
    }


def _serve(name: str, assistant: Assistant, path: Path) -> ServedModel:
    end_when_abandoned(assistant.model)
    return ServedModel(
        name,
        assistant.model,
        assistant.tokenizer,
        bytes_of_tokens(assistant.tokenizer),
        f"fp_{digest_path(path)[:12]}",
        int((path / "config.json").stat().st_mtime),
    )


def make_find(models: Models, numbers: DecodingNumbers, max_search_tokens: int) -> Find:
    """Replies by search, with `numbers` where a request gives none; none spends more than `max_search_tokens`."""

    def find(model: str, prompt: Sequence[int], method: str, given: Mapping[str, Any]) -> Found:
        changes = dict(given)
        if "budget_tokens" not in changes:  # scale the budget with the length of the reply
            share = changes["max_new_tokens"] / numbers.max_new_tokens
            changes["budget_tokens"] = min(ceil(numbers.budget_tokens * share), max_search_tokens)
        decoding = make_decoding(method, numbers, changes)
        reply = reply_to_prompt(models.assistant(model, rewarded=decoding.method in REWARDED), prompt, decoding)
        return Found(reply.token_ids, reply.finish_reason, reply.log_prob, reply.reward)

    return find
