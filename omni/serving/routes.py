"""The routes of the protocol, to be laid beside the page: ``page.launch(app_kwargs={"routes": routes(...)})``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from omni.engine import Engine
from omni.provenance.keys import Keys
from omni.serving import chat, faults, making
from omni.serving.gate import Gate, answer
from omni.serving.leaving import Leaving
from omni.serving.protocol import Asked, ChatRequest, ImageRequest, SpeechRequest
from omni.serving.speaking import Gone
from omni.serving.videos import Clips

CLIENT_LEFT = 499  # as nginx calls it; nobody reads it


def routes(engine: Engine, keys: Keys, key: str, upload_mb: int, at_once: int = 24) -> list[BaseRoute]:
    """``/v1`` and ``/health`` for an engine that lets one reply wait for another.

    ``keys``: what replies are marked and signed with; ``key``: what programs have to send, empty for none;
    ``upload_mb``: largest file, which comes in base64; ``at_once``: most requests at a time, with those that wait.
    """
    gated = Gate(_protocol(Leaving(engine, keys)), key, upload_mb * 2**20 * 4 // 3 + 2**20, at_once)
    return [Route("/health", _health), Mount("/v1", app=gated)]


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


def _protocol(engine: Leaving) -> FastAPI:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.router.route_class = TellingRoute
    clips = Clips(engine)

    def known(asked: Asked) -> None:
        if asked.model and asked.model.lower() != engine.name.lower():
            raise faults.Unknown(f"There is no model {asked.model[:80]!r} here; this is {engine.name}.")

    @app.post("/chat/completions")
    async def complete(request: Request, asked: ChatRequest) -> Response:
        known(asked)
        return await chat.complete(engine, request, asked)

    @app.post("/images/generations")
    async def draw(request: Request, asked: ImageRequest) -> Response:
        known(asked)
        return await making.draw(engine, request, asked)

    @app.post("/audio/speech")
    async def say(request: Request, asked: SpeechRequest) -> Response:
        known(asked)
        return await making.say(engine, request, asked)

    @app.get("/audio/voices")
    async def voices() -> Response:
        return JSONResponse({"voices": list(engine.capabilities.voices)})

    @app.get("/models")
    async def models() -> Response:
        return JSONResponse({"object": "list", "data": [model_value(engine)]})

    @app.get("/models/{name:path}")
    async def model(name: str) -> Response:
        known(Asked(model=name))
        return JSONResponse(model_value(engine))

    app.post("/videos", response_model=None)(clips.create)
    app.get("/videos", response_model=None)(clips.list)
    app.get("/videos/{name}", response_model=None)(clips.look)
    app.get("/videos/{name}/content", response_model=None)(clips.fetch)
    app.delete("/videos/{name}", response_model=None)(clips.delete)
    _tell_refusals(app)
    return app


def _tell_refusals(app: FastAPI) -> None:
    """What is refused before a route is reached is OpenAI's error object too."""

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return answer(HTTPStatus.BAD_REQUEST, faults.sentence(error.errors()))

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        detail = error.detail["message"] if isinstance(error.detail, dict) else str(error.detail)
        return answer(HTTPStatus(error.status_code), detail)


class TellingRoute(APIRoute):
    """Every failure of ours is answered; a handler of ``Exception`` would pass it on too, and end the connection."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await handle(request)
            except (RequestValidationError, HTTPException):
                raise
            except Gone:
                return Response(status_code=CLIENT_LEFT)
            except Exception as error:
                return JSONResponse(faults.body(error), faults.status_of(error), faults.headers(error))

        return answered


def model_value(engine: Engine) -> dict[str, Any]:
    """The one model, and in a field ``omni`` what it takes and gives."""
    able = engine.capabilities
    told = {
        "inputs": sorted(able.inputs), "outputs": sorted(able.outputs), "voices": list(able.voices),
        "context_tokens": able.context_tokens, "about": able.about,
    }  # fmt: skip
    base = {"id": engine.name, "object": "model", "created": 0, "owned_by": "omni-playground"}
    return {**base, "max_model_len": able.context_tokens, "omni": told}
