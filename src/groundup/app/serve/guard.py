"""Check host, key, and type and size of the body of every request before it is handled, and count it."""

import asyncio
import hmac
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from groundup.app.serve.errors import ApiError, invalid
from groundup.app.serve.metrics import Metrics
from groundup.app.serve.settings import Settings

SECURE = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
]


class Guard:
    """`known`: paths that metrics name; `public`: paths that need no key."""

    def __init__(
        self, app: ASGIApp, settings: Settings, metrics: Metrics, known: Collection[str], public: Collection[str]
    ) -> None:
        self.app = app
        self.settings = settings
        self.metrics = metrics
        self.known = known
        self.public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        start = loop.time()
        path = scope["path"] if scope["path"] in self.known else "other"
        status = "499"  # the client left before the answer

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
                message["headers"] = [*message["headers"], *SECURE]
            await send(message)

        try:
            try:
                headers = dict(scope["headers"])
                self._check_caller(scope["path"], headers)
                if scope["method"] == "POST":
                    receive = _again(await self._read_body(headers, receive), receive)
            except ApiError as error:
                await error.response()(scope, receive, counted)
            else:
                await self.app(scope, receive, counted)
        finally:
            self.metrics.requests.labels(path, status).inc()
            self.metrics.seconds.labels(path).observe(loop.time() - start)

    def _check_caller(self, path: str, headers: dict[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if self.settings.allowed_hosts and name.lower() not in self.settings.allowed_hosts:
            raise ApiError(
                421, f"this server is not {host!a}: call it {self.settings.allowed_hosts[0]}", "unknown_host"
            )
        if self.settings.api_key is None or path in self.public:
            return
        given = headers.get(b"authorization", b"")
        if not hmac.compare_digest(given, f"Bearer {self.settings.api_key}".encode()):
            raise ApiError(
                401,
                "the API key is missing or wrong: send it as `Authorization: Bearer KEY`",
                "invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    async def _read_body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        kind = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
        if kind != "application/json":
            # The browser lets a page of another site send any other type without a preflight request.
            raise ApiError(415, f"the body must be application/json, not {kind or 'nameless'!a}", "wrong_content_type")
        most = self.settings.max_body_bytes
        length = headers.get(b"content-length", b"")
        chunks: list[bytes] = []
        size = int(length) if length.isdigit() else 0
        try:
            async with asyncio.timeout(self.settings.body_timeout):
                more = True
                while more and size <= most:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise invalid("the connection ended within the body", code="incomplete_body")
                    chunks.append(message.get("body", b""))
                    size = sum(map(len, chunks))
                    more = message.get("more_body", False)
        except TimeoutError:
            raise ApiError(
                408, f"the body did not arrive within {self.settings.body_timeout:g} seconds", "body_timeout"
            ) from None
        if size > most:
            raise ApiError(413, f"the body is larger than {most} bytes: shorten it", "body_too_large")
        return b"".join(chunks)


def _again(body: bytes, receive: Receive) -> Receive:
    """Replay the body, then pass on later messages, which can only be a disconnect."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
