"""`groundup serve` as a process, and the settings that it refuses."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from typer.testing import CliRunner

from groundup.app.cli.main import app
from groundup.app.cli.serve import listen
from groundup.core.model.llama import save_model
from tests.conftest import ROOT
from tests.presets import preset_text


@pytest.fixture
def checkout(
    tiny_model: LlamaForCausalLM,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Path]:
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "stages").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "params.yaml").write_text(preset_text("smoke"), encoding="utf-8")
    for name in ("aligned", "base"):
        save_model(tiny_model, tiny_tokenizer, tmp_path / "artifacts" / name, "card")
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    os.environ.pop("GROUNDUP_API_KEY", None)
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["serve", *arguments])
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


@pytest.mark.services
def test_a_server_from_start_to_sigterm(checkout: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "groundup.app.cli.main", "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "COLUMNS": "200", "PYTHONUNBUFFERED": "1"},
    )
    try:
        line = process.stdout.readline()
        told = re.match(r"aligned, base on (http://127\.0\.0\.1:\d+) ", line)
        assert told, line + process.stderr.read()
        with httpx2.Client(base_url=told[1], trust_env=False, timeout=30) as client:
            body = {"model": "base", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}
            assert client.post("/v1/chat/completions", json=body).status_code == 200
            beam = client.post("/v1/chat/completions", json=body | {"decoding": {"method": "beam"}}).json()
            assert beam["choices"][0]["log_prob"] < 0
            tree = client.post("/v1/chat/completions", json=body | {"decoding": {"method": "tree"}})
            assert (tree.status_code, "train one with `dvc repro`" in tree.text) == (400, True)  # no reward model here
            thumb = {"messages": body["messages"], "model": "base", "decoding": "sample", "rating": "up"}
            assert client.post("/feedback", json=thumb | {"reply": "a", "beside": "b"}).status_code == 204
            assert client.post("/feedback", json=thumb | {"reply": ""}).status_code == 400
            with client.stream(
                "POST", "/v1/chat/completions", json=body | {"stream": True, "max_tokens": 60}
            ) as reply:
                process.send_signal(signal.SIGTERM)
                assert reply.read().endswith(b"data: [DONE]\n\n")
        assert process.wait(10) in (-signal.SIGTERM, 128 + signal.SIGTERM)
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()

    result = CliRunner().invoke(app, ["feedback", "import"])
    assert result.exit_code == 0, result.output
    assert (
        "1 rated replies to 1 prompts gave 1 pairs; data/feedback/preferences.jsonl now has 1 pairs" in result.output
    )
    assert 'paths: ["feedback/preferences.jsonl"]' in result.output
    row = json.loads((checkout / "data/feedback/preferences.jsonl").read_text(encoding="utf-8"))
    assert (row["chosen"], row["rejected"]) == ("a", "b")


def test_others_get_in_only_with_a_key(checkout: Path) -> None:
    everywhere = "0.0.0" + ".0"
    assert f"--host {everywhere} lets others reach this server: set a key in GROUNDUP_API_KEY" in refused(
        "--host", everywhere
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--model", "nothing"], "unknown model 'nothing': choose base, sft, aligned, champion"),
        (["--model", "sft"], "artifacts/sft: train one with `dvc repro`"),
        (["--host", "example"], "--host example is not an address: give an IP address, such as 127.0.0.1"),
        (["--max-batch", "0", "--request-timeout", "-1"], "max_batch is 0: choose more than 0; request_timeout is"),
        (["--max-queue", "-1"], "max_queue is -1: choose 0 (nobody waits) or more"),
        (["--max-choices", "100"], "max_choices is 100: choose at most 80"),
        (["--api-key", ""], "the API key must be ASCII characters, at least one"),
    ],
)
def test_what_cannot_work_is_told(checkout: Path, arguments: list[str], expected: str) -> None:
    assert expected in refused("--port", "0", *arguments)


def test_a_taken_port_is_told(checkout: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"cannot listen on 127.0.0.1, port {port} (Address already in use)" in refused("--port", port)


def test_no_token_waits_for_an_acknowledgement() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_without_models_the_remedy_is_named(checkout: Path) -> None:
    (checkout / "artifacts").rename(checkout / "gone")
    assert "train one with `dvc repro`" in refused()


def test_feedback_before_any_thumb(checkout: Path) -> None:
    result = CliRunner().invoke(app, ["feedback", "import"])
    assert result.exit_code == 1
    assert "give thumbs on the page of `groundup serve` first" in " ".join(result.output.split())
