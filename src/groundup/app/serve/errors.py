"""Errors as sentences, in the format of OpenAI's API."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Response


class ApiError(Exception):
    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        kind = "invalid_request_error" if self.status < 500 and self.status != 429 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        # ASCII, because a message can quote half a surrogate pair, which cannot be encoded as UTF-8
        content = json.dumps(self.body, ensure_ascii=True)
        return Response(content, self.status, media_type="application/json", headers=self.headers)


def invalid(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    return ApiError(400, message, code, param)


def too_long(message: str, param: str) -> ApiError:
    return invalid(message, param, code="context_length_exceeded")


def busy(reason: str) -> ApiError:
    return ApiError(429, f"the server is busy: {reason}; try again", "server_busy", headers={"Retry-After": "1"})


def closing() -> ApiError:
    return ApiError(503, "the server is shutting down: try again later", "shutting_down")


def late(request_timeout: float) -> ApiError:
    return ApiError(
        504, f"not ready within {request_timeout:g} seconds: ask for fewer or shorter replies, or later", "timeout"
    )


def feedback_full(name: str, max_bytes: int) -> ApiError:
    return ApiError(
        507,
        f"the thumb was not saved: {name} would have more than {max_bytes} bytes; whoever runs the server can make "
        "pairs of it by `groundup feedback import`, then delete it",
        "feedback_full",
    )


def of_validation(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """All problems that pydantic found in a body, one sentence each."""
    if errors and errors[0]["type"] == "json_invalid":
        return invalid(f"the body is not JSON: {errors[0]['ctx']['error']} at character {errors[0]['loc'][-1]}")
    sentences: dict[str, None] = {}
    for error in errors:
        place = path(error["loc"])
        match error["type"]:
            case "extra_forbidden":
                sentence = f"{place} is not supported: leave it out"
            case "missing":
                sentence = f"{place or 'a JSON body'} is missing"
            case "value_error":  # from our own validators, already a sentence
                said = str(error["msg"]).removeprefix("Value error, ")
                sentence = f"{place}: {said}" if place else said
            case _:
                sentence = f"{place or 'body'}: {error['msg']}"
        sentences[sentence] = None
    return invalid("; ".join(sentences), path(errors[0]["loc"]) or None if errors else None)


def path(location: Sequence[str | int]) -> str:
    """('body', 'messages', 0, 'role') -> messages[0].role, without the names of union members."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part not in ("body", "str", "constrained-str") and "[" not in part:
            text += f".{part}" if text else part
    return text
