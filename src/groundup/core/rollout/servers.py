"""Replies from servers that speak vLLM's protocol: token ids in and out, weights by a folder.

No server is trusted: what it says it drew is looked up in the model here, whose log-probabilities count. vLLM itself
has not been run; the tests have a server that speaks its protocol, with our sampler behind it.
"""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from shutil import rmtree
from typing import Any, NamedTuple

import openai
import torch
from openai.types import Completion
from transformers import PreTrainedModel

from groundup.core.model.generation import Replies, Sampler, next_token_logprobs
from groundup.core.model.likelihood import Stretch, stretch_token_nats
from groundup.core.rollout.engine import Builtin, RolloutEngine, Source
from groundup.core.training.ranks import is_first, wait
from groundup.runner.redact import redact

NUM_IN_FLIGHT = 64  # requests to a server at once: it makes batches of them
NUM_RETRIES = 2  # of a request that a busy server turns away
MOST_RATIO = 2.0  # of the probability of a token here to that where it was drawn: larger ones count as this
# Mean difference of the log-probabilities of a token, here and there, above which other weights must be behind it. Of
# precision alone it is about 0.001 nats in bf16.
MOST_DIFFERENCE = 0.1
NEVER = -100  # the lowest bias of a token


class RolloutError(ValueError):
    """Servers of rollouts do not do what they should; the message names the server and a remedy."""


class Drawn(NamedTuple):
    tokens: list[int]
    logprobs: list[float]  # of the distribution they were drawn from
    ended: bool


def open_engine(urls: Sequence[str], folder: Path, timeout: float) -> RolloutEngine:
    """Servers at `urls`, or without any the builtin engine. folder: for weights, where servers can read them."""
    return Servers(urls, folder, timeout) if urls else Builtin()


class Servers:
    """Several share the prompts. A reply depends on its place, not on the server, so another one can step in."""

    def __init__(self, urls: Sequence[str], folder: Path, timeout: float) -> None:
        self.urls = list(urls)
        self.folder = folder.resolve()
        self.clients = [
            openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=timeout, max_retries=NUM_RETRIES)
            for url in self.urls
        ]
        self.check()
        self.source: Source | None = None
        self.version: str | None = None  # of the weights that all servers have; None: not known
        self.adapter = ""  # that they have loaded
        self._figures = {"generation_kl": 0.0, "clamped_share": 0.0}

    def check(self) -> None:
        self.served = [self._served(url, client) for url, client in zip(self.urls, self.clients, strict=True)]

    @property
    def figures(self) -> dict[str, float]:
        return self._figures

    def push(self, source: Source) -> str:
        self.source, version = source, source.version
        if version != self.version:
            if is_first():
                self._send(source, version)
            wait()
            self.version = version
            self.adapter = version if source.is_adapter else ""
        return version

    def generate(
        self, prompts: Sequence[Sequence[int]], seed: int, sampler: Sampler, places: Sequence[int] | None = None
    ) -> Replies:
        assert self.source is not None, "push comes first"
        places = range(len(prompts)) if places is None else places
        draw = partial(self._draw, prompts, seed, sampler, self.source.model)
        with ThreadPoolExecutor(NUM_IN_FLIGHT * len(self.urls)) as threads:
            drawn = list(threads.map(draw, places))
        own = self._own_logprobs([prompts[place] for place in places], drawn, sampler)
        there, here = (torch.tensor(list(chain.from_iterable(of))) for of in ([it.logprobs for it in drawn], own))
        ratios = (here - there).exp()
        self._figures = {
            "generation_kl": float((there - here).mean()) if len(here) else 0.0,
            "clamped_share": float((ratios > MOST_RATIO).float().mean()) if len(here) else 0.0,
        }
        difference = float((there - here).abs().mean()) if len(here) else 0.0
        if difference > MOST_DIFFERENCE:
            raise RolloutError(
                f"{self._named()}: the log-probabilities of {len(here)} tokens differ from those of the model here by "
                f"{difference:.3f} nats in the mean, and {MOST_DIFFERENCE} is allowed: a server has other weights, or "
                "changes the distribution. Start it with the model of artifacts/sft, and vLLM with --logprobs-mode "
                "processed_logprobs"
            )
        lengths = [len(it.tokens) for it in drawn]
        return Replies(
            tokens=[it.tokens for it in drawn],
            logprobs=own,
            ended=[it.ended for it in drawn],
            ratios=[part.tolist() for part in ratios.clamp(max=MOST_RATIO).split(lengths)],
        )

    def _draw(
        self, prompts: Sequence[Sequence[int]], seed: int, sampler: Sampler, model: PreTrainedModel, place: int
    ) -> Drawn:
        prompt = list(prompts[place])
        never = model.generation_config.suppress_tokens or []
        problems = []
        for i in range(len(self.urls)):  # its own server first
            server = (place + i) % len(self.urls)
            url, name = self.urls[server], self.adapter or self.served[server]
            try:
                answer = self.clients[server].completions.create(
                    model=name,
                    prompt=prompt,
                    max_tokens=sampler.max_new_tokens,
                    temperature=sampler.temperature,
                    top_p=1.0,
                    logprobs=1,
                    logit_bias={str(token): NEVER for token in never} or None,
                    seed=row_seed(seed, place),
                    extra_body={
                        "top_k": -1,
                        "min_p": 0.0,
                        "repetition_penalty": 1.0,
                        "stop_token_ids": [sampler.eos_token_id],
                        "add_special_tokens": False,
                        "return_token_ids": True,
                    },
                )
            except openai.APIError as error:
                problems.append(f"{redact(url)}: {reason(error)}")
            else:
                return drawn_of(answer, redact(url), name, prompt, sampler, model)
        raise RolloutError(
            f"no server of rollouts draws a reply ({'; '.join(problems)}): start it again, or take it out of "
            "`rollouts` in launch.yaml; the stage then goes on from its last checkpoint"
        )

    def _own_logprobs(
        self, prompts: Sequence[Sequence[int]], drawn: Sequence[Drawn], sampler: Sampler
    ) -> list[list[float]]:
        assert self.source is not None
        model = self.source.model
        distribution = partial(next_token_logprobs, model, temperature=sampler.temperature)
        stretches = [Stretch([*p, *it.tokens], len(it.tokens)) for p, it in zip(prompts, drawn, strict=True)]
        nats = stretch_token_nats(model, stretches, sampler.batch_size, distribution)
        return [[-value for value in of_reply] for of_reply in nats]

    def _send(self, source: Source, version: str) -> None:
        """To every server, or RolloutError."""
        if source.save is None:
            if not self.version or self.adapter:  # nothing was pushed yet, or adapters alone
                return
            raise RolloutError(f"{self._named()}: the model that it was started with has been replaced")
        path = self.folder / version
        path.mkdir(parents=True, exist_ok=True)
        source.save(path)
        for url, client in zip(self.urls, self.clients, strict=True):
            if source.is_adapter:
                if version not in self._names(url, client):  # it may have it from before this process was killed
                    call = {"lora_name": version, "lora_path": str(path)}
                    self._post(url, client, "/load_lora_adapter", call, ADAPTERS)
                if version not in (names := self._names(url, client)):
                    raise RolloutError(f"{redact(url)} took the adapter {version} and has only {', '.join(names)}")
                if self.adapter:
                    self._post(url, client, "/unload_lora_adapter", {"lora_name": self.adapter}, ADAPTERS)
            else:
                reload = {"method": "reload_weights", "kwargs": {"weights_path": str(path)}}
                self._post(url, client, f"{url}/collective_rpc", reload, DEVELOPMENT)
                self._post(url, client, f"{url}/reset_prefix_cache", {}, DEVELOPMENT)
        for other in sorted(self.folder.iterdir()):
            if other != path:
                rmtree(other)

    def _served(self, url: str, client: openai.OpenAI) -> str:
        """The name of the model that a server was started with."""
        models = self._ask(url, client.models.list).data
        named = [model.id for model in models if not getattr(model, "parent", None)]
        if not named:
            raise RolloutError(f"{redact(url)} serves no model")
        return named[0]

    def _names(self, url: str, client: openai.OpenAI) -> list[str]:
        return [model.id for model in self._ask(url, client.models.list).data]

    def _post(self, url: str, client: openai.OpenAI, path: str, body: dict[str, Any], remedy: str) -> None:
        try:
            client.post(path, cast_to=object, body=body)
        except openai.APIStatusError as error:
            raise RolloutError(
                f"{redact(url)} refuses {path.removeprefix(url)} ({reason(error)}): {remedy}"
            ) from error
        except openai.APIError as error:
            raise RolloutError(f"{redact(url)} does not answer ({reason(error)}): {STARTED}") from error

    def _ask(self, url: str, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except openai.APIError as error:
            raise RolloutError(f"{redact(url)} does not answer ({reason(error)}): {STARTED}") from error

    def _named(self) -> str:
        return ", ".join(map(redact, self.urls))


STARTED = "start a server there, or take it out of `rollouts` in launch.yaml"
ADAPTERS = "start vLLM with --enable-lora, VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, and the weights' folder in reach"
DEVELOPMENT = "start vLLM with VLLM_SERVER_DEV_MODE=1, and the weights' folder in reach"


def row_seed(seed: int, place: int) -> int:
    """Of the reply to the prompt at a place, for a server that sees this prompt alone: 63 bits."""
    digest = hashlib.sha256(f"{seed} {place}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def drawn_of(
    answer: Completion, url: str, name: str, prompt: list[int], sampler: Sampler, model: PreTrainedModel
) -> Drawn:
    """What the server says it drew; RolloutError if that cannot be."""

    def refuse(problem: str) -> RolloutError:
        return RolloutError(f"{url} {problem}: it is no vLLM of the version that docs/scaling.md names, or is broken")

    if answer.model != name:
        raise refuse(f"was asked for {name} and answers as {answer.model}")
    if len(answer.choices) != 1:
        raise refuse(f"gives {len(answer.choices)} replies instead of one")
    (choice,) = answer.choices
    tokens = getattr(choice, "token_ids", None)
    logprobs = choice.logprobs.token_logprobs if choice.logprobs else None
    if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
        raise refuse("gives no token_ids")
    if getattr(choice, "prompt_token_ids", prompt) not in (None, prompt):
        raise refuse("read another prompt than it was given")
    if not logprobs or len(logprobs) != len(tokens) or any(value is None or not value <= 0 for value in logprobs):
        raise refuse("gives no log-probability for each token")
    if len(tokens) > sampler.max_new_tokens:
        raise refuse(f"gives {len(tokens)} tokens, {sampler.max_new_tokens} were allowed")
    ended = tokens[-1] == sampler.eos_token_id
    if sampler.eos_token_id in tokens[:-1] or (not ended and len(tokens) < sampler.max_new_tokens):
        raise refuse("gives a reply that goes on after its end, or stops before it")
    allowed = set(range(model.config.vocab_size)) - set(model.generation_config.suppress_tokens or ())
    if others := [token for token in tokens if token not in allowed]:
        raise refuse(f"draws the token {others[0]}, which no reply may hold")
    return Drawn(tokens, [float(value) for value in logprobs], ended)


def reason(error: openai.APIError) -> str:
    return " ".join(redact(str(error)).split())[:200]
