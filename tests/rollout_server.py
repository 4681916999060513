"""A server that speaks vLLM's protocol as core/rollout/servers.py uses it, with our sampler behind it."""

import copy
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from groundup.core.model.generation import Replies, Sampler
from groundup.core.rollout.engine import Builtin
from groundup.core.rollout.servers import row_seed
from tests.servers import free_port, wait_for

SERVED = "served"


class ByPlace(Builtin):
    """Draws here what servers draw: a prompt at a time, each with its own seed."""

    def generate(self, prompts: Any, seed: int, sampler: Sampler, places: Any = None) -> Replies:
        places = range(len(prompts)) if places is None else places
        rows = [sampler.sample(self.model, [prompts[place]], row_seed(seed, place)) for place in places]
        tokens, logprobs, ended = ([getattr(row, name)[0] for row in rows] for name in ("tokens", "logprobs", "ended"))
        return Replies(tokens, logprobs, ended)


class FakeVllm:
    """It holds the model of `folder`, and is as slow or as wrong as a test wants it."""

    def __init__(self, folder: Path) -> None:
        self.models: dict[str, PreTrainedModel] = {SERVED: self._load(folder)}
        self.eos_token_id = AutoTokenizer.from_pretrained(folder).eos_token_id
        self.lock = threading.Lock()  # a model's suppressed tokens are of a request
        self.requests: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.seconds = 0.0  # of a reply
        self.change: dict[str, Any] = {}  # of an answer's choice
        self.says_it_is: str | None = None
        self.takes_weights = True  # else it says so, and keeps those it has
        self.refuses: tuple[str, ...] = ()
        self.fails_after = 10**9  # replies
        self.app = FastAPI()
        for path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/collective_rpc", "/reset_prefix_cache"):
            self.app.post(path)(self.take)
        self.app.get("/v1/models")(self.list)
        self.app.post("/v1/completions")(self.complete)

    @staticmethod
    def _load(folder: Path) -> PreTrainedModel:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def list(self) -> dict[str, Any]:
        return {
            "object": "list",
            "data": [
                {"id": name, "object": "model", "created": 0, "owned_by": "vllm", "parent": SERVED if i else None}
                for i, name in enumerate(self.models)
            ],
        }

    async def take(self, request: Request) -> dict[str, str]:
        path, body = request.url.path, await request.json()
        self.calls.append(path)
        if path in self.refuses:
            raise HTTPException(403, "not on this server")
        served = self.models[SERVED]
        match path:
            case "/v1/load_lora_adapter":
                assert body["lora_name"] not in self.models, "vLLM refuses a name that it has"
                model = copy.deepcopy(served)
                if self.takes_weights:
                    model = PeftModel.from_pretrained(model, body["lora_path"]).merge_and_unload().eval()
                self.models[body["lora_name"]] = model
            case "/v1/unload_lora_adapter":
                del self.models[body["lora_name"]]
            case "/collective_rpc":
                assert body["method"] == "reload_weights"
                if self.takes_weights:
                    self.models[SERVED] = self._load(Path(body["kwargs"]["weights_path"]))
        return {}

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        time.sleep(self.seconds)
        if len(self.requests) >= self.fails_after:
            raise HTTPException(500, "out of memory")
        self.requests.append(body)
        assert (body["top_k"], body["top_p"], body["min_p"], body["repetition_penalty"]) == (-1, 1.0, 0.0, 1.0)
        assert body["return_token_ids"]
        assert body["stop_token_ids"] == [self.eos_token_id]
        if body["model"] not in self.models:
            raise HTTPException(404, f"The model {body['model']} does not exist")
        model = self.models[body["model"]]
        with self.lock:
            model.generation_config.suppress_tokens = [int(token) for token in body["logit_bias"] or {}]
            sampler = Sampler(self.eos_token_id, 0, body["max_tokens"], body["temperature"], batch_size=1)
            drawn = sampler.sample(model, [body["prompt"]], body["seed"])
        choice = {
            "index": 0,
            "text": "",
            "finish_reason": "stop" if drawn.ended[0] else "length",
            "token_ids": drawn.tokens[0],
            "prompt_token_ids": body["prompt"],
            "logprobs": {"token_logprobs": drawn.logprobs[0]},
        }
        return {
            "id": "0",
            "object": "text_completion",
            "created": 0,
            "model": self.says_it_is or body["model"],
            "choices": [choice | self.change],
        }


@contextmanager
def serving(fake: FakeVllm) -> Iterator[str]:
    """Its URL."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(fake.app, port=int(port), log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
