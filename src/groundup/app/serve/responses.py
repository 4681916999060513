"""Responses in OpenAI's format."""

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from groundup.app.serve.batch import Token
from groundup.app.serve.choices import ShownToken
from groundup.app.serve.served import ServedModel

Json = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """Data shared by all parts of an answer; `kind` is chat.completion or text_completion."""

    kind: str
    model: ServedModel
    wants_logprobs: bool
    extra: Json  # fields that OpenAI does not have
    created: int = field(default_factory=lambda: int(time.time()))
    name: str = field(default_factory=lambda: secrets.token_hex(12))

    @property
    def is_chat(self) -> bool:
        return self.kind == "chat.completion"

    def whole(self, choices: Sequence[Json], usage: Json) -> Json:
        return self._part(self.kind, choices) | {"usage": usage}

    def chunk(self, choices: Sequence[Json], usage: Json | None = None) -> Json:
        part = self._part("chat.completion.chunk" if self.is_chat else self.kind, choices)
        return part | {"usage": usage} if usage else part

    def choice(self, index: int, text: str, tokens: Sequence[ShownToken], finish_reason: str | None) -> Json:
        said = {"message": {"role": "assistant", "content": text}} if self.is_chat else {"text": text}
        return self._choice(index, said, tokens, finish_reason)

    def delta(
        self, index: int, text: str, tokens: Sequence[ShownToken], finish_reason: str | None, is_first: bool
    ) -> Json:
        if not self.is_chat:
            return self._choice(index, {"text": text}, tokens, finish_reason)
        role = {"role": "assistant"} if is_first else {}
        content = {"content": text} if text or is_first else {}
        return self._choice(index, {"delta": role | content}, tokens, finish_reason)

    def _choice(self, index: int, said: Json, tokens: Sequence[ShownToken], finish_reason: str | None) -> Json:
        logprobs = None
        if self.wants_logprobs:
            of_kind = chat_logprobs if self.is_chat else completion_logprobs
            logprobs = of_kind(tokens, self.model.token_bytes)
        return {"index": index, **said, "logprobs": logprobs, "finish_reason": finish_reason}

    def _part(self, kind: str, choices: Sequence[Json]) -> Json:
        prefix = "chatcmpl" if self.is_chat else "cmpl"
        return {
            "id": f"{prefix}-{self.name}",
            "object": kind,
            "created": self.created,
            "model": self.model.name,
            "system_fingerprint": self.model.fingerprint,
            "choices": list(choices),
            **self.extra,
        }


def usage(num_prompt_tokens: int, num_completion_tokens: int) -> Json:
    return {
        "prompt_tokens": num_prompt_tokens,
        "completion_tokens": num_completion_tokens,
        "total_tokens": num_prompt_tokens + num_completion_tokens,
    }


def chat_logprobs(tokens: Sequence[ShownToken], token_bytes: Sequence[bytes]) -> Json:
    def entry(token: int, logprob: float) -> Json:
        piece = token_bytes[token]
        return {"token": piece.decode(errors="replace"), "logprob": logprob, "bytes": list(piece)}

    content = [
        entry(shown.token.id, shown.token.logprob)
        | {"top_logprobs": [entry(token, logprob) for token, logprob in shown.token.top]}
        for shown in tokens
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(tokens: Sequence[ShownToken], token_bytes: Sequence[bytes]) -> Json:
    def text(token: int) -> str:
        return token_bytes[token].decode(errors="replace")

    def top(token: Token) -> dict[str, float]:
        return {text(other): logprob for other, logprob in token.top}

    return {
        "tokens": [text(shown.token.id) for shown in tokens],
        "token_logprobs": [shown.token.logprob for shown in tokens],
        "top_logprobs": [top(shown.token) for shown in tokens],
        "text_offset": [shown.offset for shown in tokens],
    }


def event(part: Json) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(part, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
