"""Queue, timeouts, disconnecting clients, keys, and the shutdown of a server."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import APIStatusError, AuthenticationError, OpenAI, RateLimitError

from groundup.app.serve.plan import Plan, plan_chat
from groundup.app.serve.search import Found
from tests.app.serve.conftest import Running

HELLO = [{"role": "user", "content": "Hello there!"}]
CHAT = "/v1/chat/completions"
Start = Callable[..., Running]


def ask(server: Running, **changes: Any) -> httpx2.Response:
    return server.http.post(CHAT, json={"model": "aligned", "messages": HELLO, "max_tokens": 100} | changes)


def begin(server: Running, **changes: Any) -> socket.socket:
    """A request whose answer is not read yet."""
    body = json.dumps({"model": "aligned", "messages": HELLO, "max_tokens": 100} | changes)
    client = socket.create_connection(server.listener.getsockname())
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    return client


def test_more_than_may_wait_are_told_to_come_again(slow_server: Start) -> None:
    server = slow_server(max_batch=2, max_queue=2, max_choices=4)
    first = begin(server, n=2)
    assert server.wait_for("groundup_running_replies", 2)
    second = begin(server, n=2)
    assert server.wait_for("groundup_waiting_replies", 2)
    with pytest.raises(
        RateLimitError, match="the server is busy: 2 replies wait already and 2 may; try again"
    ) as told:
        server.openai.chat.completions.create(model="aligned", messages=HELLO)
    assert told.value.response.headers["Retry-After"] == "1"
    first.close()
    assert server.wait_for("groundup_waiting_replies", 0)
    second.close()
    assert server.wait_for("groundup_running_replies", 0)
    assert ask(server, max_tokens=2).status_code == 200


def test_a_request_is_taken_whole_or_not_at_all(slow_server: Start) -> None:
    server = slow_server(max_batch=2, max_queue=2, max_choices=4)
    client = begin(server)
    assert server.wait_for("groundup_running_replies", 1)
    assert ask(server, n=4).status_code == 429
    assert server.metric("groundup_waiting_replies") == 0
    assert ask(server, n=3, max_tokens=2).status_code == 200
    client.close()


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_slots(slow_server: Start, stream: bool) -> None:
    server = slow_server(max_batch=2, max_queue=2)
    client = begin(server, n=2, stream=stream)
    assert server.wait_for("groundup_running_replies", 2)
    if stream:
        while b"data: " not in client.recv(4096):
            pass
    client.close()
    start = time.monotonic()
    assert server.wait_for("groundup_running_replies", 0)
    assert time.monotonic() - start < 1  # the replies would have taken two seconds
    assert server.metric("groundup_cancelled_replies_total") == 2


def test_replies_that_take_too_long_are_given_up(slow_server: Start) -> None:
    server = slow_server(request_timeout=0.3)
    answer = ask(server)
    assert answer.status_code == 504
    assert "not ready within 0.3 seconds" in answer.json()["error"]["message"]
    streamed = ask(server, stream=True)
    events = streamed.text.strip().split("\n\n")
    assert streamed.status_code == 200
    assert len(events) > 3
    assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == "timeout"
    assert server.wait_for("groundup_running_replies", 0)
    assert ask(server, max_tokens=2).status_code == 200


@pytest.fixture
def slow_planning(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Prompts take half a second each; the times at which one was begun."""
    begun: list[float] = []

    def slow(*arguments: Any) -> Plan:
        begun.append(time.monotonic())
        time.sleep(0.5)
        return plan_chat(*arguments)

    monkeypatch.setattr("groundup.app.serve.endpoints.plan_chat", slow)
    return begun


def test_requests_wait_in_the_queue_while_their_prompts_are_made(
    slow_server: Start, slow_planning: list[float]
) -> None:
    """One prompt after the other: long texts, however many, take one core and find the queue full."""
    server = slow_server(max_batch=1, max_queue=2, max_choices=2)
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda _: ask(server, max_tokens=2), range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [429] * 5
    assert len(slow_planning) == 3
    assert all(later - earlier > 0.45 for earlier, later in pairwise(slow_planning))
    assert server.metric("groundup_waiting_replies") == 0


def test_the_time_of_a_request_runs_while_its_prompt_is_made(slow_server: Start, slow_planning: list[float]) -> None:
    server = slow_server(request_timeout=0.8)
    with ThreadPoolExecutor(3) as clients:
        answers = list(clients.map(lambda _: ask(server, max_tokens=5), range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 504, 504]
    assert len(slow_planning) == 2  # the third was given up before its turn
    assert server.wait_for("groundup_waiting_replies", 0)


def test_a_client_that_leaves_before_its_prompt_is_made_leaves_the_queue(
    slow_server: Start, slow_planning: list[float]
) -> None:
    server = slow_server(max_batch=1, max_queue=3)
    clients = [begin(server) for _ in range(3)]
    assert server.wait_for("groundup_waiting_replies", 3)
    for client in clients:
        client.close()
    assert server.wait_for("groundup_waiting_replies", 0)
    assert len(slow_planning) < 3
    assert ask(server, max_tokens=2).status_code == 200


def test_a_key_is_asked_for(slow_server: Start) -> None:
    server = slow_server(api_key="secret")
    assert server.openai.models.list().data
    with pytest.raises(AuthenticationError, match="the API key is missing or wrong"):
        OpenAI(base_url=f"{server.url}/v1", api_key="other").models.list()
    for path, status in {"/": 200, "/page/chat.js": 200, "/health": 200, "/metrics": 401, "/v1/models": 401}.items():
        assert httpx2.get(server.url + path, trust_env=False).status_code == status, path
    assert httpx2.post(f"{server.url}/feedback", json={}, trust_env=False).status_code == 401


def test_a_stopping_server_finishes_what_it_has_begun(slow_server: Start) -> None:
    server = slow_server()
    with ThreadPoolExecutor(2) as clients:
        whole = clients.submit(ask, server, max_tokens=40)
        streamed = clients.submit(ask, server, max_tokens=40, stream=True)
        assert server.wait_for("groundup_running_replies", 2)
        server.server.should_exit = True
        assert whole.result().json()["usage"]["completion_tokens"] == 40
        assert streamed.result().text.endswith("data: [DONE]\n\n")
    server.thread.join(5)
    assert not server.thread.is_alive()
    with pytest.raises(httpx2.ConnectError):
        server.http.get("/health")


def test_replies_beyond_the_shutdown_timeout_are_cut(slow_server: Start) -> None:
    server = slow_server()
    server.server.config.timeout_graceful_shutdown = 0.2
    client = begin(server, stream=True)
    assert server.wait_for("groundup_running_replies", 1)
    start = time.monotonic()
    server.server.should_exit = True
    server.thread.join(5)
    assert time.monotonic() - start < 1.5
    client.close()


@pytest.mark.parametrize("temperature", [0, 1])
def test_a_model_that_has_diverged_is_told(slow_server: Start, temperature: float) -> None:
    server = slow_server(spoil=True)
    answer = ask(server, temperature=temperature, logprobs=True)
    assert answer.status_code == 500
    assert "its weights have diverged" in answer.json()["error"]["message"]
    assert server.http.get("/health").status_code == 200
    assert server.metric("groundup_running_replies") == 0


def search(model: str, prompt: Sequence[int], method: str, numbers: Mapping[str, Any]) -> Found:
    if numbers.get("num_beams") == 0:
        raise ValueError("num_beams is 0: choose at least 1")
    time.sleep(0.3)
    return Found([72, 73, 74], "length", -1.5, 0.25 if method == "best_of_n" else None)


def test_replies_by_search(slow_server: Start) -> None:
    server = slow_server(search)
    found = ask(server, decoding={"method": "best_of_n", "n": 3}).json()
    choice = found["choices"][0]
    assert (choice["reward"], choice["log_prob"], choice["finish_reason"]) == (0.25, -1.5, "length")
    text = choice["message"]["content"]
    assert found["usage"]["completion_tokens"] == 3
    assert len(text) > 0
    streamed = ask(server, decoding={"method": "beam"}, stream=True).text.split("\n\n")
    assert json.loads(streamed[0].removeprefix("data: "))["choices"][0]["delta"]["content"] == text
    assert streamed[1:] == ["data: [DONE]", ""]
    bad = ask(server, decoding={"method": "beam", "num_beams": 0})
    assert (bad.status_code, bad.json()["error"]["message"]) == (400, "num_beams is 0: choose at least 1")
    large = ask(server, decoding={"method": "tree", "budget_tokens": 10**6})
    assert "this server spends at most 1000" in large.json()["error"]["message"]


def test_searches_wait_in_a_bounded_queue(slow_server: Start) -> None:
    server = slow_server(search, max_queue=1, max_choices=1)
    with ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(lambda _: ask(server, decoding={"method": "tree"}), range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429]
    late = slow_server(search, request_timeout=0.1)
    assert ask(late, decoding={"method": "tree"}).status_code == 504


def test_the_feedback_file_has_a_limit(slow_server: Start, tmp_path: Path) -> None:
    log = tmp_path / "feedback.jsonl"
    server = slow_server(feedback_file=log, max_feedback_bytes=1400)
    thumb = {"model": "aligned", "decoding": "sample", "messages": HELLO, "reply": "x" * 300, "rating": "up"}
    answers = [server.http.post("/feedback", json=thumb) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [204, 204, 507, 507]
    told = answers[-1].json()["error"]
    assert told["code"] == "feedback_full"
    assert "feedback.jsonl would have more than 1400 bytes" in told["message"]
    assert [json.loads(line)["reply"] for line in log.read_text(encoding="utf-8").splitlines()] == ["x" * 300] * 2
    assert server.http.post("/feedback", json=thumb | {"reply": "short"}).status_code == 204
    log.unlink()
    assert server.http.post("/feedback", json=thumb).status_code == 204


def test_a_thumb_after_a_torn_line_has_a_line_of_its_own(slow_server: Start, tmp_path: Path) -> None:
    log = tmp_path / "feedback.jsonl"
    log.write_text('{"time": "20', encoding="utf-8")
    server = slow_server(feedback_file=log)
    thumb = {"model": "aligned", "decoding": "sample", "messages": HELLO, "reply": "hm", "rating": "up"}
    for _ in range(2):
        assert server.http.post("/feedback", json=thumb).status_code == 204
    torn, *whole = log.read_text(encoding="utf-8").splitlines()
    assert torn == '{"time": "20'
    assert [json.loads(line)["reply"] for line in whole] == ["hm", "hm"]


def test_many_clients_that_leave_at_any_moment_leave_nothing_behind(slow_server: Start) -> None:
    server = slow_server(max_batch=4, max_queue=40)

    async def leave(client: httpx2.AsyncClient, i: int) -> None:
        body = {"model": "aligned", "messages": HELLO, "max_tokens": 60, "stream": i % 2 == 0, "n": 1 + i % 2}
        with contextlib.suppress(TimeoutError, httpx2.HTTPError):
            await asyncio.wait_for(client.post(CHAT, json=body), timeout=0.02 * i)

    async def storm() -> None:
        async with httpx2.AsyncClient(base_url=server.url, trust_env=False) as client:
            await asyncio.gather(*(leave(client, i) for i in range(24)))

    asyncio.run(storm())
    assert ask(server, max_tokens=2).status_code == 200  # after all others in the queue
    assert server.wait_for("groundup_waiting_replies", 0)
    assert server.wait_for("groundup_running_replies", 0)


def test_an_error_status_has_the_form_that_the_client_knows(server: Running) -> None:
    with pytest.raises(APIStatusError) as told:
        server.openai.chat.completions.create(model="aligned", messages=[], max_tokens=2)
    assert told.value.body["param"] == "messages"
    assert told.value.code == "invalid_value"
