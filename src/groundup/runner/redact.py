"""Secrets stay out of what is logged, tracked or reported: all of that goes through `redact`."""

import io
import os
import re
import sys
from typing import Any, TextIO
from urllib.parse import quote, unquote, urlsplit

from groundup.runner.environment import SECRETS, TRACKING_URI

HIDDEN = "***"
MIN_LENGTH = 4  # a shorter secret is indistinguishable from ordinary text
MIN_LENGTH_INSIDE = 8  # a shorter secret is matched only as a whole word: it may be part of an ordinary one
USERINFO = re.compile(r"(?<=://)[^/?#\s'\"]+(?=@)")
PARAMETER = re.compile(
    r"([?&#;][\w.%-]*(?:token|password|passwd|pwd|secret|signature|sig|key|credential)[\w.%-]*=)[^&#;\s'\"]+", re.I
)


def redact(text: str) -> str:
    """`text` without the secrets of the environment, user:password@ of any URL and ?token= and the like in it."""
    for secret in _secrets():
        if len(secret) >= MIN_LENGTH_INSIDE:
            text = text.replace(secret, HIDDEN)
        else:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", HIDDEN, text)
    return PARAMETER.sub(rf"\1{HIDDEN}", USERINFO.sub(HIDDEN, text))


def _secrets() -> set[str]:
    """The secrets, plain and as quoted in a URL."""
    known = {os.environ.get(name, "") for name in SECRETS}
    if password := re.match(r"[^:]+://[^/?#]*?:([^/?#]*)@", os.environ.get(TRACKING_URI, "")):
        known |= {password[1], unquote(password[1])}
    known |= {quote(secret, safe="") for secret in known}
    return {secret for secret in known if len(secret) >= MIN_LENGTH}


def redact_all(value: Any) -> Any:
    """Redact every string inside lists and dicts."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: redact_all(entry) for key, entry in value.items()}
    return [redact_all(entry) for entry in value] if isinstance(value, list | tuple) else value


def without_userinfo(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


class RedactedStream(io.TextIOWrapper):
    """Redacts all that is written to it, also by libraries and in tracebacks."""

    def write(self, text: str) -> int:
        return super().write(redact(text))


def redact_streams() -> None:
    """From here on, stdout and stderr of this process show no secret."""
    sys.stdout, sys.stderr = _redacted(sys.__stdout__), _redacted(sys.__stderr__)


def _redacted(stream: TextIO | None) -> TextIO:
    assert stream is not None
    return RedactedStream(stream.buffer, encoding=stream.encoding, errors=stream.errors, line_buffering=True)
