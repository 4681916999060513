"""The text of the replies to one request, in pieces."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from groundup.app.serve.batch import Event, Generation, Token
from groundup.app.serve.text import TextStream


@dataclass(frozen=True)
class ShownToken:
    token: Token
    offset: int  # characters of the reply before this token


@dataclass(frozen=True)
class Piece:
    """New text of one reply, possibly empty, with its tokens."""

    index: int
    text: str
    tokens: list[ShownToken]
    finish_reason: str | None


@dataclass
class Choice:
    index: int
    generation: Generation
    stream: TextStream
    num_tokens: int = 0  # tokens generated; those after a stop string do not count
    finish_reason: str | None = None
    _held: list[ShownToken] = field(default_factory=list)  # tokens whose text may still become a stop string

    def add(self, token: Token, token_bytes: Sequence[bytes]) -> Piece | None:
        """None where there is nothing to show yet."""
        self.num_tokens += 1
        piece = token_bytes[token.id]
        if piece:
            self._held.append(ShownToken(token, len(self.stream.text)))
        text = self.stream.add(piece)
        self.finish_reason = "stop" if self.stream.stopped else token.finish_reason
        if self.finish_reason:
            text += self.stream.end()
        end = self.stream.num_shown
        shown = [held for held in self._held if held.offset < end]
        self._held = self._held[len(shown) :]
        if not text and not self.finish_reason:
            self._held = shown + self._held
            return None
        return Piece(self.index, text, shown, self.finish_reason)


class Choices:
    """The replies to one request; `inbox` receives the engine's events for them."""

    def __init__(
        self, generations: Sequence[Generation], stops: Sequence[str], token_bytes: Sequence[bytes], start: float
    ) -> None:
        self.start = start  # when the request came, by the clock of the event loop
        self.choices = [Choice(i, generation, TextStream(stops)) for i, generation in enumerate(generations)]
        self.inbox: asyncio.Queue[Event] = asyncio.Queue()
        self._token_bytes = token_bytes
        self._choice_of = {choice.generation: choice for choice in self.choices}

    @property
    def unfinished(self) -> list[Generation]:
        return [choice.generation for choice in self.choices if choice.finish_reason is None]

    @property
    def num_tokens(self) -> int:
        return sum(choice.num_tokens for choice in self.choices)

    async def pieces(self, deadline: float) -> AsyncIterator[Piece]:
        """Pieces until every reply has ended. Raises TimeoutError at the deadline, and errors of the engine."""
        while self.unfinished:
            if self.inbox.empty():
                async with asyncio.timeout_at(deadline):
                    generation, event = await self.inbox.get()
            else:
                generation, event = self.inbox.get_nowait()
            if isinstance(event, Exception):
                raise event
            choice = self._choice_of[generation]
            if choice.finish_reason is None and (piece := choice.add(event, self._token_bytes)):
                yield piece
