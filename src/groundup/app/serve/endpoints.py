"""Answer validated requests, in one response or as a stream."""

import asyncio
from collections.abc import AsyncIterator, Awaitable

from fastapi import Request as HttpRequest
from fastapi import Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from groundup.app.serve.choices import Choices, ShownToken
from groundup.app.serve.errors import ApiError, invalid, late
from groundup.app.serve.plan import Plan, plan_chat, plan_completion
from groundup.app.serve.requests import ChatRequest, CompletionRequest, DecodingChoice
from groundup.app.serve.responses import DONE, Answer, event, usage
from groundup.app.serve.search import Found, Searches
from groundup.app.serve.service import Service
from groundup.app.serve.text import TextStream

SAMPLING_FIELDS = {"seed", "temperature", "top_k", "top_p", "min_p", "repetition_penalty"}  # that a search reads
CLIENT_LEFT = 499  # what nginx logs; nobody reads it


class ReplyStream(StreamingResponse):
    """Server-sent events; the slots are freed however the stream ends, also if the client left before its start."""

    def __init__(self, service: Service, choices: Choices, events: AsyncIterator[bytes]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        self.service = service
        self.choices = choices

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.service.release(self.choices)


async def chat(request: ChatRequest, service: Service, searches: Searches | None) -> Response:
    start = asyncio.get_running_loop().time()
    plan = await service.plan(plan_chat, request, start)
    extra = {"num_dropped_messages": plan.num_dropped} if request.truncation == "auto" else {}
    answer = Answer("chat.completion", plan.model, request.wants_logprobs, extra)
    if request.search is not None:
        return await search(request, request.search, plan, answer, service, searches, start)
    return await respond(request, plan, answer, service, start)


async def completion(request: CompletionRequest, service: Service) -> Response:
    start = asyncio.get_running_loop().time()
    plan = await service.plan(plan_completion, request, start)
    answer = Answer("text_completion", plan.model, request.wants_logprobs, {})
    return await respond(request, plan, answer, service, start)


async def respond(
    request: ChatRequest | CompletionRequest, plan: Plan, answer: Answer, service: Service, start: float
) -> Response:
    choices = service.submit(plan, request.stops, start)
    if request.stream:
        include_usage = request.stream_options is not None and request.stream_options.include_usage
        return ReplyStream(service, choices, events(service, choices, plan, answer, include_usage))
    try:
        return await whole(service, choices, plan, answer)
    finally:
        service.release(choices)


async def whole(service: Service, choices: Choices, plan: Plan, answer: Answer) -> Response:
    tokens: list[list[ShownToken]] = [[] for _ in choices.choices]
    async for piece in service.pieces(choices):
        tokens[piece.index] += piece.tokens
    replies = [
        answer.choice(choice.index, choice.stream.text, of_choice, choice.finish_reason)
        for choice, of_choice in zip(choices.choices, tokens, strict=True)
    ]
    return JSONResponse(answer.whole(replies, usage(plan.num_prompt_tokens, choices.num_tokens)))


async def events(
    service: Service, choices: Choices, plan: Plan, answer: Answer, include_usage: bool
) -> AsyncIterator[bytes]:
    begun: set[int] = set()
    try:
        async for piece in service.pieces(choices):
            is_first = piece.index not in begun
            begun.add(piece.index)
            delta = answer.delta(piece.index, piece.text, piece.tokens, piece.finish_reason, is_first)
            yield event(answer.chunk([delta]))
    except ApiError as error:  # the status has already been sent
        yield event(error.body)
        return
    if include_usage:
        yield event(answer.chunk([], usage(plan.num_prompt_tokens, choices.num_tokens)))
    yield DONE


async def search(
    request: ChatRequest,
    decoding: DecodingChoice,
    plan: Plan,
    answer: Answer,
    service: Service,
    searches: Searches | None,
    start: float,
) -> Response:
    """One reply by a search; its stream has a single piece."""
    if searches is None:
        raise invalid(f"this server does not support decoding {decoding.method}: leave decoding out", "decoding")
    settings = service.settings
    numbers = decoding.model_dump(exclude_none=True, exclude={"method"})
    generation = plan.generations[0]
    numbers |= request.model_dump(exclude_none=True, include=SAMPLING_FIELDS)
    numbers["max_new_tokens"] = generation.max_new_tokens
    if decoding.budget_tokens is not None and decoding.budget_tokens > settings.max_search_tokens:
        raise invalid(
            f"decoding.budget_tokens is {decoding.budget_tokens}: this server spends at most "
            f"{settings.max_search_tokens}",
            "decoding",
        )
    deadline = start + settings.request_timeout
    try:
        found = await searches.find(plan.model.name, generation.prompt, decoding.method, numbers, deadline)
    except TimeoutError:
        raise late(settings.request_timeout) from None
    except ValueError as error:
        raise invalid(str(error), "decoding") from None
    return found_response(request, plan, answer, found)


def found_response(request: ChatRequest, plan: Plan, answer: Answer, found: Found) -> Response:
    stream = TextStream(request.stops)
    text = "".join(stream.add(plan.model.token_bytes[token]) for token in found.token_ids) + stream.end()
    reason = "stop" if stream.stopped else found.finish_reason
    spent = usage(plan.num_prompt_tokens, len(found.token_ids))
    extra = {"log_prob": found.log_prob} | ({} if found.reward is None else {"reward": found.reward})
    if not request.stream:
        return JSONResponse(answer.whole([answer.choice(0, text, [], reason) | extra], spent))
    parts = [event(answer.chunk([answer.delta(0, text, [], reason, is_first=True) | extra]))]
    if request.stream_options is not None and request.stream_options.include_usage:
        parts.append(event(answer.chunk([], spent)))
    return Response(b"".join([*parts, DONE]), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def unless_gone(http: HttpRequest, work: Awaitable[Response]) -> Response:
    """The work's answer; it is cancelled when the client leaves."""
    doing = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(http))
    try:
        await asyncio.wait({doing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return doing.result() if doing.done() else Response(status_code=CLIENT_LEFT)
    finally:
        doing.cancel()
        leaving.cancel()


async def _left(http: HttpRequest) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass
