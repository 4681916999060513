"""Connects the engine's thread to asyncio."""

import asyncio
from collections.abc import AsyncIterator

from groundup.app.serve.batch import Batch, Event, Generation
from groundup.app.serve.choices import Choices, Piece
from groundup.app.serve.engine import ClosedError, Engine, QueueFullError
from groundup.app.serve.errors import ApiError, busy, closing, late
from groundup.app.serve.metrics import Metrics
from groundup.app.serve.plan import Plan
from groundup.app.serve.served import ServedModel
from groundup.app.serve.settings import Settings


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

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.engine.start()

    async def close(self) -> None:
        """Stop the engine; unfinished replies fail with ClosedError."""
        await asyncio.to_thread(self.engine.close)

    def submit(self, plan: Plan, stops: list[str]) -> Choices:
        """Queue the replies; 429 if the queue is full. `release` must follow."""
        choices = Choices(plan.generations, stops, plan.model.token_bytes)
        for generation in plan.generations:
            self._inboxes[generation] = choices
        try:
            self.engine.submit(plan.model.name, plan.generations)
        except QueueFullError as error:
            self.release(choices)
            raise busy(error) from None
        except ClosedError as error:
            self.release(choices)
            raise closing(error) from None
        self.metrics.prompt_tokens.labels(plan.model.name).inc(plan.num_prompt_tokens)
        return choices

    async def pieces(self, choices: Choices) -> AsyncIterator[Piece]:
        """Every piece of every reply; ApiError if they fail."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        is_first = True
        try:
            async for piece in choices.pieces(start + self.settings.request_timeout):
                if is_first:
                    self.metrics.first_token.observe(loop.time() - start)
                    is_first = False
                choice = choices.choices[piece.index]
                if choice.stream.stopped:
                    self.engine.cancel([choice.generation])  # the text after the stop string is not needed
                yield piece
        except TimeoutError:
            raise late(self.settings.request_timeout) from None
        except ClosedError as error:
            raise closing(error) from None
        except ValueError as error:  # the model gave no finite probabilities
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
