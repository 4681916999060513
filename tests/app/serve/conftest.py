"""Servers in a thread, each on its own port, and models to serve."""

import dataclasses
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from openai import OpenAI
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from uvicorn import Config, Server

from groundup.app.serve.app import create_app
from groundup.app.serve.search import Find
from groundup.app.serve.served import ServedModel
from groundup.app.serve.settings import Settings
from groundup.app.serve.text import bytes_of_tokens
from groundup.core.formats.chat_format import END, SPECIAL_TOKENS
from tests.llamas import tiny_shape

CONTEXT = 128


class Running:
    """A running server; `stop` ends it as a signal would."""

    def __init__(self, models: dict[str, ServedModel], settings: Settings, find: Find | None = None) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        app = create_app(models, settings, find)
        self.server: Any = Server(Config(app, log_config=None, timeout_graceful_shutdown=5))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]})
        self.thread.start()
        headers = {"Authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
        self.http = httpx2.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)
        assert self.http.get("/health").json() == {"status": "ok"}
        self.openai: Any = OpenAI(base_url=f"{self.url}/v1", api_key=settings.api_key or "none", max_retries=0)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join()
        self.http.close()
        self.openai.close()
        self.listener.close()

    def metric(self, name: str) -> float:
        lines = self.http.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))

    def wait_for(self, name: str, value: float) -> bool:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            if self.metric(name) == value:
                return True
            time.sleep(0.01)
        return False


def random_llama(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """Grouped-query attention, as in larger models; never generates markers of the template, and rarely ends."""
    torch.manual_seed(seed)
    config = LlamaConfig(**tiny_shape(tokenizer, max_position_embeddings=CONTEXT))
    model = LlamaForCausalLM(config).eval()
    model.generation_config.suppress_tokens = [
        tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS if token != END
    ]
    return model


def served(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, name: str = "aligned") -> ServedModel:
    return ServedModel(name, model, tokenizer, bytes_of_tokens(tokenizer), "fp_test", 0)


@pytest.fixture(scope="session")
def random_model(tiny_tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    return random_llama(tiny_tokenizer, seed=1)


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        max_batch=16,
        max_queue=64,
        max_choices=8,
        max_tokens=100,
        max_search_tokens=1000,
        max_body_bytes=20_000,
        request_timeout=20.0,
        body_timeout=0.5,
        api_key=None,
        allowed_hosts=["127.0.0.1", "localhost"],
        feedback_file=tmp_path_factory.mktemp("feedback") / "feedback.jsonl",
        max_feedback_bytes=1_000_000,
    )


@pytest.fixture(scope="session")
def server(
    random_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, settings: Settings
) -> Iterator[Running]:
    models = {
        "aligned": served(random_model, tiny_tokenizer),
        "sft": served(random_llama(tiny_tokenizer, seed=2), tiny_tokenizer, "sft"),
    }
    running = Running(models, settings)
    yield running
    running.stop()


@pytest.fixture
def slow_server(
    tiny_tokenizer: PreTrainedTokenizerFast, settings: Settings, tmp_path: Path
) -> Iterator[Callable[..., Running]]:
    """Start servers whose replies of 100 tokens take at least two seconds."""
    started = []

    def start(find: Find | None = None, spoil: bool = False, **changes: object) -> Running:
        model = random_llama(tiny_tokenizer, seed=3)
        if spoil:
            model.model.norm.weight.data.fill_(torch.nan)
        model.generation_config.suppress_tokens.append(tiny_tokenizer.eos_token_id)
        model.lm_head.register_forward_hook(lambda *_: time.sleep(0.02))
        models = {"aligned": served(model, tiny_tokenizer)}
        started.append(Running(models, dataclasses.replace(settings, **changes), find))
        return started[-1]

    yield start
    for running in started:
        running.stop()
