"""The server's routes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from groundup.app.serve.endpoints import chat, completion, unless_gone
from groundup.app.serve.errors import ApiError, of_validation
from groundup.app.serve.feedback import FeedbackFile
from groundup.app.serve.guard import Guard
from groundup.app.serve.plan import find_model
from groundup.app.serve.requests import ChatRequest, CompletionRequest, Feedback
from groundup.app.serve.search import Find, Searches
from groundup.app.serve.served import ServedModel
from groundup.app.serve.service import Service
from groundup.app.serve.settings import Settings

PAGE = Path(str(files("groundup.app.serve"))) / "page"
PAGE_PATHS = {"/", *(f"/page/{file.name}" for file in sorted(PAGE.iterdir()))}
PUBLIC = PAGE_PATHS | {"/health"}
KNOWN = PUBLIC | {"/v1/models", "/v1/chat/completions", "/v1/completions", "/metrics", "/feedback"}


def create_app(models: dict[str, ServedModel], settings: Settings, find: Find | None) -> FastAPI:
    """`find` searches for replies; without it, beam, best_of_n and tree are refused."""
    service = Service(models, settings)
    searches = None if find is None else Searches(find, settings.max_queue)
    feedback = FeedbackFile(settings.feedback_file, settings.max_feedback_bytes)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        if searches is not None:
            searches.close()
        await service.close()

    # FastAPI's own pages load scripts from the internet
    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, settings=settings, metrics=service.metrics, known=KNOWN, public=PUBLIC)
    _add_error_handlers(app)

    @app.post("/v1/chat/completions")
    async def chat_completions(request: ChatRequest, http: Request) -> Response:
        return await unless_gone(http, chat(request, service, searches))

    @app.post("/v1/completions")
    async def completions(request: CompletionRequest, http: Request) -> Response:
        return await unless_gone(http, completion(request, service))

    @app.get("/v1/models")
    async def list_models() -> Response:
        return JSONResponse({"object": "list", "data": [describe(model) for model in models.values()]})

    @app.get("/v1/models/{name}")
    async def one_model(name: str) -> Response:
        return JSONResponse(describe(find_model(name, models)))

    @app.get("/health")
    async def health() -> Response:
        """503 if the engine's thread has ended."""
        is_well = service.engine.is_alive
        return JSONResponse({"status": "ok" if is_well else "the engine has stopped"}, 200 if is_well else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.post("/feedback", status_code=204)
    async def give_feedback(given: Feedback) -> None:
        await feedback.append(given, find_model(given.model, models).fingerprint)

    @app.get("/")
    async def page() -> Response:
        return FileResponse(PAGE / "index.html")

    app.mount("/page", StaticFiles(directory=PAGE))
    return app


def describe(model: ServedModel) -> dict[str, str | int]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.modified,
        "owned_by": "groundup",
        "context_length": model.context_length,
        "system_fingerprint": model.fingerprint,
    }


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def refuse(request: Request, error: ApiError) -> Response:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def refuse_body(request: Request, error: RequestValidationError) -> Response:
        return of_validation(error.errors()).response()

    @app.exception_handler(HTTPException)
    async def refuse_path(request: Request, error: HTTPException) -> Response:
        message = {
            404: f"no such path: {request.url.path!a}",
            405: f"{request.method} is not allowed for {request.url.path!a}",
        }.get(error.status_code, str(error.detail))
        return ApiError(error.status_code, message, "bad_request", headers=error.headers).response()
