"""Connects the engine's thread to asyncio."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from groundup.app.serve.batch import Batch, Event, Generation
from groundup.app.serve.choices import Choices, Piece
from groundup.app.serve.engine import Engine
from groundup.app.serve.errors import ApiError, invalid, late
from groundup.app.serve.metrics import Metrics
from groundup.app.serve.plan import Plan, check_limits, find_model
from groundup.app.serve.requests import ChatRequest, CompletionRequest
from groundup.app.serve.served import ServedModel
from groundup.app.serve.settings import Settings

R = TypeVar("R", ChatRequest, CompletionRequest)


class Service:
    def __init__(self, models: dict[str, ServedModel], settings: Settings) -> None:
        self.models = models
        self.settings = settings
        self.metrics = Metrics()
        batches = {
            name: Batch(served.model, served.tokenizer.eos_token_id, settings.max_batch)
            for name, served in models.items()
        }
        self.engine = Engine(batches, settings.max_queue, self._deliver, self._observe)
        self.metrics.running.set_function(lambda: self.engine.num_running)
        self.metrics.waiting.set_function(lambda: self.engine.num_waiting)
        self._inboxes: dict[Generation, Choices] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._planner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="plan")

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.engine.start()

    async def close(self) -> None:
        """What is still in the making fails."""
        self._planner.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self.engine.close)

    async def plan(self, make: Callable[[R, ServedModel, Settings], Plan], request: R, start: float) -> Plan:
        """What to compute for a request that came at `start`.

        A long text takes its time to tokenize. One thread does it, so that such requests never take more than one
        core; meanwhile they hold their places in the queue, and their time runs.
        """
        model = find_model(request.model, self.models)
        check_limits(request, model, self.settings)
        loop = asyncio.get_running_loop()
        try:
            with self.engine.reserved(model.name, request.num_replies):
                async with asyncio.timeout_at(start + self.settings.request_timeout):
                    return await loop.run_in_executor(self._planner, make, request, model, self.settings)
        except ValueError as error:
            raise invalid(str(error)) from None
        except TimeoutError:
            raise late(self.settings.request_timeout) from None

    def submit(self, plan: Plan, stops: list[str], start: float) -> Choices:
        """Puts the replies into the queue; 429 where they find no room. `release` must follow."""
        choices = Choices(plan.generations, stops, plan.model.token_bytes, start)
        self.engine.submit(plan.model.name, plan.generations)
        for generation in plan.generations:  # what is made of them comes later, through the event loop
            self._inboxes[generation] = choices
        self.metrics.prompt_tokens.labels(plan.model.name).inc(plan.num_prompt_tokens)
        return choices

    async def pieces(self, choices: Choices) -> AsyncIterator[Piece]:
        """Every piece of every reply; ApiError if they fail."""
        loop = asyncio.get_running_loop()
        is_first = True
        try:
            async for piece in choices.pieces(choices.start + self.settings.request_timeout):
                if is_first:
                    self.metrics.first_token.observe(loop.time() - choices.start)
                    is_first = False
                choice = choices.choices[piece.index]
                if choice.stream.stopped:
                    self.engine.cancel([choice.generation])  # the text after the stop string is not needed
                yield piece
        except TimeoutError:
            raise late(self.settings.request_timeout) from None
        except ValueError as error:  # of a model that gives no finite probabilities
            raise ApiError(500, f"the model failed: {error}", "model_failed") from None

    def release(self, choices: Choices) -> None:
        """Free the slots of unfinished replies; a second call does nothing."""
        for choice in choices.choices:
            self._inboxes.pop(choice.generation, None)
        if unfinished := choices.unfinished:
            self.metrics.cancelled.inc(len(unfinished))
            self.engine.cancel(unfinished)

    def _deliver(self, events: list[Event]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._dispatch, events)

    def _dispatch(self, events: list[Event]) -> None:
        for generation, event in events:
            if choices := self._inboxes.get(generation):
                choices.inbox.put_nowait((generation, event))

    def _observe(self, model: str, num_rows: int, num_tokens: int) -> None:
        self.metrics.batch_size.labels(model).observe(num_rows)
        self.metrics.generated_tokens.labels(model).inc(num_tokens)
