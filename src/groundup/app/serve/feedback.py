"""Store thumbs from the web page, one JSON line each."""

import asyncio
import json
import os
from datetime import UTC, datetime
from pathlib import Path

from groundup.app.serve.errors import feedback_full
from groundup.app.serve.requests import Feedback


class FeedbackFile:
    """Appended to under a lock, never to more than `max_bytes`; a line that a kill has cut stays alone."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self._lock = asyncio.Lock()

    async def append(self, given: Feedback, fingerprint: str) -> None:
        row = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "system_fingerprint": fingerprint,
            **given.model_dump(),
            "messages": [{"role": message.role, "content": message.text} for message in given.messages],
        }
        line = json.dumps(row, ensure_ascii=False) + "\n"
        async with self._lock:
            await asyncio.to_thread(self._write, line.encode())

    def _write(self, line: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else b"\n" + line
            if file.tell() + len(line) > self.max_bytes:
                raise feedback_full(self.path.name, self.max_bytes)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
