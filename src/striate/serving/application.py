"""The service as a web application: its requests, and errors as JSON records."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from fastapi import FastAPI, Query, Request
from fastapi.responses import FileResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from striate.errors import StriateError, UsageError
from striate.machine.allocator import allocator_policy, usual_policy
from striate.models.layer_strings.arguments import nearest
from striate.serving.access import AccessChecks, TooLarge, TooSlow, refused, too_large
from striate.serving.finite_json import FiniteJSON
from striate.serving.form import files_of
from striate.serving.served_run import ReadPicture, ServedRun
from striate.serving.service import Busy, Service
from striate.version import VERSION
from striate.wording import several

_STATIC = Path(str(files("striate.serving") / "static"))
_MOST_FILES = 256
_BODIES_AT_ONCE = 8  # large bodies in memory; further ones are read when one of these is done

_ADDRESSES = ("/predict", "/health", "/runs", "/metrics", "/openapi.json", "/")
_PICTURE = {"schema": {"type": "string", "format": "binary"}}
_BODY = {
    "required": True,
    "content": {
        "image/*": _PICTURE,
        "application/octet-stream": _PICTURE,
        "multipart/form-data": {"schema": {"type": "object", "additionalProperties": _PICTURE["schema"]}},
        "application/json": {"schema": {"type": "object", "properties": {"inputs": {"type": "array", "items": {}}}}},
    },
}
_LINE = {"type": "object", "properties": {"path": {"type": "string"}}}
_LINES = {"oneOf": [_LINE, {"type": "array", "items": _LINE}]}
_REFUSALS = {
    400: "A request that cannot be read",
    401: "No token, or a wrong one",
    403: "A request to another host, or from the page of another site",
    404: "No run of this name",
    408: "A request whose remaining bytes do not arrive",
    413: "A request with too many bytes",
    429: "The queue is full; Retry-After has the seconds to wait",
}


Found = TypeVar("Found")
Sent = tuple[str, Callable[[], ReadPicture]]
"""The name of an input that was sent, and the function that reads it."""


def make_application(service: Service, token: str, host: str) -> ASGIApp:
    """The service as an ASGI application behind its checks."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        following = asyncio.create_task(service.follow())
        with allocator_policy(usual_policy()):  # across batches, which would otherwise request their memory anew
            yield
        following.cancel()
        await service.end()

    app = _Described(
        title="striate serve",
        version=VERSION,
        docs_url=None,
        redoc_url=None,
        default_response_class=FiniteJSON,
        lifespan=lifespan,
        responses=_refusals(403, 413),
    )
    for status in (404, 405):
        app.add_exception_handler(status, _no_such_request)
    largest, bodies = service.limits.largest, asyncio.Semaphore(_BODIES_AT_ONCE)
    small = largest * _BODIES_AT_ONCE // service.limits.queue  # a queue full of these takes no more memory
    app.mount("/static", StaticFiles(directory=_STATIC))

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(_STATIC / "page.html")

    @app.get("/health")
    def health() -> dict[str, Any]:
        """Whether the server answers."""
        return {"status": "ok", "version": VERSION}

    @app.get("/runs", responses=_refusals(401))
    def runs() -> list[dict[str, Any]]:
        """The served runs; a request without `run` is for the first one."""
        return [run.about() for run in service.runs]

    @app.get("/metrics", response_class=PlainTextResponse, responses=_refusals(401))
    def metrics() -> Response:
        """Counts in the form of Prometheus."""
        return Response(generate_latest(service.counts.registry), media_type=CONTENT_TYPE_LATEST)

    @app.post(
        "/predict",
        openapi_extra={"requestBody": _BODY},
        responses=_refusals(*_REFUSALS)
        | {
            200: _response("The prediction, or a list of them", _LINES),
            422: _response("The line with the error of a picture that cannot be read", _LINE),
        },
    )
    async def predict(
        request: Request,
        run: Annotated[str | None, Query(description="One of `GET /runs`; by default the first of them")] = None,
        name: Annotated[str, Query(description="The name of the picture, which the line repeats")] = "picture",
    ) -> Any:
        """The prediction for the bytes of a picture, as `striate predict --json` prints it; a list of them for several
        (multipart), or for numbers as JSON, {"inputs": […]}."""
        queued = service.find(run)
        with service.accepted(1):
            async with nullcontext() if _length(request) <= small else bodies:
                sent, single = await _sent(request, queued.run, name)
                if len(sent) > (most := service.limits.queue):  # the queue never has room for all of them
                    got, remedy = several(len(sent), "input"), f"send fewer, or striate serve --queue {len(sent)}"
                    raise UsageError("the request", got, f"at most {most}, the size of the queue", remedy)
                with service.accepted(len(sent) - 1):
                    lines = await _all([service.predict(queued, name, read) for name, read in sent])
        return FiniteJSON(lines[0], 422 if "error" in lines[0] else 200) if single else FiniteJSON(lines)

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        """Handle predictions without FastAPI's routing, which takes longer than all else of a request."""
        if scope["type"] != "http" or (scope["method"], scope["path"]) != ("POST", "/predict"):
            await app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await predict(request, **_query(request))
        except ClientDisconnect:
            return
        except (TooLarge, TooSlow, Busy, StriateError) as error:
            response = _refusal(error, largest)
        await response(scope, receive, send)

    def count(path: str, status: int, seconds: float) -> None:
        if path == "/predict":
            service.counts.requests.labels(str(status)).inc()
            service.counts.seconds.observe(seconds)

    return AccessChecks(handle, token, host, largest, count)


class _Described(FastAPI):
    """FastAPI, whose description says who needs the token."""

    def openapi(self) -> dict[str, Any]:
        """The document of /openapi.json."""
        document = super().openapi()
        document["components"] = {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}}
        document["security"] = [{"token": []}]
        document["paths"]["/health"]["get"]["security"] = []
        return document


def _response(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    text = {"type": "string"}
    record = {"type": "object", "properties": dict.fromkeys(("where", "got", "expected", "remedy"), text)}
    schema = {"type": "object", "properties": {"error": record}}
    return {status: _response(_REFUSALS[status], schema) for status in statuses}


def _query(request: Request) -> dict[str, str]:
    """The parameters `run` and `name` of the request. Raises UsageError for other ones, and for one given twice."""
    parameters: dict[str, str] = {}
    for word, value in request.query_params.multi_items():
        expected = "run and name, each at most once"
        if word in parameters:
            raise UsageError("the request", f"{word} twice", expected, "leave out one of them")
        if word not in ("run", "name"):
            close = nearest(word, ("run", "name"))
            remedy = f"?{close}={quote(value)}" if close else "leave it out"
            raise UsageError("the request", f"the parameter {word}", expected, remedy)
        parameters[word] = value
    return parameters


async def _all(waited: Sequence[Coroutine[Any, Any, Found]]) -> list[Found]:
    """The results of all; a single one is awaited without a task."""
    return [await waited[0]] if len(waited) == 1 else list(await asyncio.gather(*waited))


def _length(request: Request) -> float:
    """Bytes of the body; infinite where the request does not say."""
    return float(request.headers.get("content-length", "inf"))


async def _sent(request: Request, run: ServedRun, name: str) -> tuple[list[Sent], bool]:
    """The inputs that were sent, and whether it was one picture, of this `name`. Raises UsageError."""
    said = request.headers.get("content-type", "")
    kind = said.partition(";")[0].strip().lower()
    body = await request.body()
    if kind == "multipart/form-data":
        files = files_of(body, said, _MOST_FILES)
        return [(file, partial(run.read_picture, data, file)) for file, data in files], False
    if kind == "application/json":
        shape = run.trained.preparation.input_shape
        expected = f'JSON: {{"inputs": [one, …]}}, each a list of numbers of shape {shape}'
        try:
            inputs = json.loads(body)["inputs"]
            assert isinstance(inputs, list)
        except (ValueError, RecursionError, KeyError, TypeError, AssertionError):
            raise UsageError("the request", "other JSON, or none", expected, 'send {"inputs": [[…]]}') from None
        if shape != (1,) and inputs and {int, float}.issuperset(map(type, inputs)):  # one input without its brackets
            raise UsageError("the request", '{"inputs": [a number, …]}', expected, 'send {"inputs": [[…]]}')
        if not 0 < len(inputs) <= _MOST_FILES:
            raise UsageError(
                "the request", several(len(inputs), "input"), f"1 to {_MOST_FILES}", "send several requests"
            )
        return [(f"input#{i}", partial(run.read_numbers, one, f"input#{i}")) for i, one in enumerate(inputs)], False
    return [(name, partial(run.read_picture, body, name))], True


def _no_such_request(request: Request, error: Exception) -> Response:
    """The refusal of an address that the server does not have, or has for another method."""
    assert isinstance(error, HTTPException)
    allowed = (error.headers or {}).get("Allow")
    record = {
        "where": "the request",
        "got": f"{request.method} {request.url.path[:80]}",
        "expected": f"{allowed} {request.url.path}" if allowed else f"one of {', '.join(_ADDRESSES)}",
        "remedy": f"use the method {allowed}" if allowed else "GET /openapi.json describes the requests",
    }
    return FiniteJSON({"error": record}, error.status_code, error.headers)


def _refusal(error: Exception, largest: int) -> Response:
    if isinstance(error, Busy):
        record = {"where": "the queue", "got": str(error), "expected": "fewer requests at once"}
        return FiniteJSON({"error": record | {"remedy": "send it again"}}, 429, {"retry-after": str(error.seconds)})
    if isinstance(error, TooLarge):
        return too_large(largest)
    if isinstance(error, TooSlow):
        return refused(408, "a request that stopped arriving", "its remaining bytes")
    assert isinstance(error, StriateError)
    return FiniteJSON({"error": error.to_json()}, 404 if error.where == "run" else 400)
