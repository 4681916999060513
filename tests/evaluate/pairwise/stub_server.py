"""An OpenAI-compatible server on 127.0.0.1 that prefers the reply with more `lovely`, or acts as a test sets it."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, Any]]


def completion(text: str, prompt_tokens: int = 100, completion_tokens: int = 1) -> Answer:
    return 200, {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "stub",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}},
        ],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    }


def fair(case: dict[str, Any]) -> Answer:
    a, b = (case[f"reply_{side}"].count("lovely") for side in "ab")
    return completion("C" if a == b else "A" if a > b else "B")


@dataclass
class Stub:
    url: str
    answer: Callable[[dict[str, Any]], Answer] = fair
    cases: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def serving() -> Iterator[Stub]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            case = json.loads(body["messages"][1]["content"])
            stub.bodies.append(body)
            stub.cases.append(case)
            stub.headers.append({name.lower(): value for name, value in self.headers.items()})
            status, answer = stub.answer(case)
            payload = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.send_header("retry-after-ms", "5")
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Ignore clients that have disconnected."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    stub = Stub(f"http://127.0.0.1:{server.server_address[1]}/v1")
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
