"""A mirror of the hub on 127.0.0.1 with one small repository: what `groundup fetch` asks of the hub's API."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from huggingface_hub.utils.sha import git_hash

REVISION = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "owner/tiny"


@dataclass
class Mirror:
    """`tear`: bytes of the weights after which the connection breaks; then `after_tear` is the answer, if set."""

    files: dict[str, bytes]
    licence: str | None = "apache-2.0"
    gated: str | bool = False
    token: str | None = None  # that a request must bring
    refuses: str | None = None  # code of the hub's error
    tear: int | None = None
    after_tear: int | None = None
    address: str = ""
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # (path, range)

    @property
    def downloads(self) -> list[str]:
        return [path.rpartition("/")[2] for path, _ in self.requests if "/resolve/" in path]

    def described(self) -> dict[str, Any]:
        card = {"license": self.licence} if self.licence else {}
        return {"_id": "1", "id": REPOSITORY, "sha": REVISION, "private": False, "gated": self.gated} | {
            "cardData": card,
            "siblings": [self._sibling(name, content) for name, content in self.files.items()],
        }

    def _sibling(self, name: str, content: bytes) -> dict[str, Any]:
        sibling: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": git_hash(content)}
        if name.endswith(".safetensors"):
            digest = hashlib.sha256(content).hexdigest()
            sibling["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 130}
        return sibling


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def serving(mirror: Mirror) -> Iterator[Mirror]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            mirror.requests.append((self.path, self.headers.get("Range")))
            if mirror.token and self.headers.get("Authorization") != f"Bearer {mirror.token}":
                self.answer(401, b"", {"X-Error-Code": "RepoNotFound"})
            elif mirror.refuses:
                self.answer(403 if mirror.refuses == "GatedRepo" else 404, b"", {"X-Error-Code": mirror.refuses})
            elif self.path.startswith(f"/api/models/{REPOSITORY}/revision/{REVISION}"):
                self.answer(200, json.dumps(mirror.described()).encode(), {"Content-Type": "application/json"})
            elif self.path.startswith(prefix := f"/{REPOSITORY}/resolve/{REVISION}/"):
                self.send_file(self.path.removeprefix(prefix))
            else:
                self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})

        def send_file(self, name: str) -> None:
            content = mirror.files[name]
            start = int(re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "bytes=0-")[1])
            if start and mirror.after_tear:
                self.answer(mirror.after_tear, b"", {})
                return
            headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
            if mirror.tear and name.endswith(".safetensors") and not start:
                self.answer(200, content[: mirror.tear], headers, length=len(content))
                self.close_connection = True
            else:
                self.answer(206 if start else 200, content[start:], headers)

        def answer(self, status: int, body: bytes, headers: dict[str, str], length: int | None = None) -> None:
            self.send_response(status)
            for key, value in (headers | {"Content-Length": str(length or len(body))}).items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    mirror.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield mirror
    finally:
        server.shutdown()
        server.server_close()
