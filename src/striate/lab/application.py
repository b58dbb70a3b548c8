"""The lab as a web application: its pages, their endpoints, errors as JSON records, and the server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.resources import files
from inspect import CO_COROUTINE
from pathlib import Path
from traceback import walk_tb
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp

from striate.errors import StriateError, unforeseen
from striate.lab.problems import problem_record, shows_faults
from striate.lab.security import Guard
from striate.lab.workbench import Lab
from striate.report.page import page_environment
from striate.serving.finite_json import FiniteJSON
from striate.serving.server import Server, listen
from striate.version import VERSION

_HOST = "127.0.0.1"


@dataclass(frozen=True)
class Page:
    """One page: `/NAME` shows `static/NAME.js` with `static/NAME.css`, which sends its requests to `/api/NAME/…`."""

    name: str
    title: str
    purpose: str
    """What the page is for, in a sentence."""
    routes: str
    """The Python module whose function `routes(lab)` returns the page's endpoints as an APIRouter."""


PAGES = (
    Page(
        "build",
        "Build",
        "Type a network, or pick one; it is drawn with its model summary and what is wrong with it.",
        "striate.lab.build_page",
    ),
    Page(
        "predict",
        "Predict",
        "Drop a file: what the network of the run finds in it.",
        "striate.lab.predict_page",
    ),
    Page(
        "labels",
        "Labels",
        "Samples whose label is doubtful or whose prediction is unsure; one key corrects, the data stay as they are.",
        "striate.lab.labeling.labels_page",
    ),
    Page(
        "watch",
        "Watch",
        "A network at work on an image: the maps of every layer, and how each number in them is computed.",
        "striate.lab.watching.watch_page",
    ),
    Page(
        "pixels",
        "Pixels",
        "An image as numbers, channel by channel, down to the pixel.",
        "striate.lab.pixels_page",
    ),
    Page(
        "play",
        "Play",
        "Slide a kernel over a map, window by window, and apply classic kernels to a picture of your own.",
        "striate.lab.play_page",
    ),
    Page(
        "train",
        "Train",
        "Start a training and watch it: curves, filters and layers as they change, the findings of the doctor.",
        "striate.lab.training.train_page",
    ),
    Page(
        "explore",
        "Explore",
        "The data of the run and what its network predicts; of classes also mistakes and the confusion matrix.",
        "striate.lab.exploring.explore_page",
    ),
)


_STATIC = Path(str(files("striate.lab") / "static"))


def make_application(lab: Lab, port: int) -> ASGIApp:
    """The lab as an ASGI application behind its access checks, for requests to this `port`."""
    app = FastAPI(
        title="striate lab", docs_url=None, redoc_url=None, openapi_url=None, default_response_class=FiniteJSON
    )
    app.add_exception_handler(StriateError, _refuse)
    app.add_exception_handler(404, partial(_not_found, lab))
    app.add_exception_handler(RequestValidationError, _refuse_arguments)
    app.add_exception_handler(Exception, _report_fault)
    app.mount("/static", StaticFiles(directory=_STATIC))
    for path, module in (("images", "striate.lab.page_images"), *((page.name, page.routes) for page in PAGES)):
        app.include_router(import_module(module).routes(lab), prefix=f"/api/{path}")

    @app.get("/", response_class=HTMLResponse)
    def home(request: Request) -> str:
        return _html(lab, None, request)

    @app.get("/{name}", response_class=HTMLResponse)
    def page(name: str, request: Request) -> str:
        found = next((page for page in PAGES if page.name == name), None)
        if found is None:
            raise HTTPException(404)  # `_not_found`
        return _html(lab, found, request)

    return Guard(app, lab, port)


def _not_found(lab: Lab, request: Request, _: Exception) -> Response:
    path = request.url.path
    if path.startswith(("/api/", "/static/")):
        expected, remedy = "an address of the lab", "write one that its pages use: docs/lab.md"
        record = {"where": "the address", "got": path[:80], "expected": expected, "remedy": remedy}
        return FiniteJSON({"error": record}, 404)
    return HTMLResponse(_html(lab, None, request, missing=path[:80]), 404)


def _html(lab: Lab, page: Page | None, request: Request, missing: str = "") -> str:
    template = page_environment("striate.lab").get_template("lab.html")
    return template.render(
        pages=PAGES,
        page=page,
        missing=missing,
        run=lab.run,
        version=VERSION,
        key=getattr(request.state, "key", None),
    )


def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, StriateError)
    _forget(error)
    return _refusal(request, problem_record(error))


def _forget(error: BaseException | None) -> None:
    """Free the local variables of the functions that ended with this error: they may be gigabytes, which reference
    cycles would keep until a garbage collection."""
    while error is not None:
        for frame, _ in walk_tb(error.__traceback__):
            with suppress(RuntimeError):  # the frame is still running
                if not frame.f_code.co_flags & CO_COROUTINE:  # a coroutine still has to respond
                    frame.clear()
        error = error.__context__


def _refusal(request: Request, record: dict[str, Any]) -> Response:
    """Status 422; 200 for requests of the lab's own pages, since browsers log any other status on their console."""
    return FiniteJSON({"error": record}, 200 if request.headers.get("striate-refusals") == "answers" else 422)


def _report_fault(_: Request, error: Exception) -> Response:
    return FiniteJSON({"error": unforeseen(error).to_json()}, 500)


def _refuse_arguments(request: Request, error: Exception) -> Response:
    """The refusal of arguments of the wrong type, from fields of a page or from a typed address."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid" or first["loc"] == ("body",):
        return _refusal(request, _no_object(error.body))
    where = " ".join(_FIELDS.get(str(part), str(part)) for part in first["loc"][1:])
    limits = first.get("ctx") or {}
    sentence = _EXPECTED.get(first["type"], "")
    expected = sentence.format(**limits) if sentence else first["msg"]
    nearest = limits.get("le", limits.get("ge"))
    remedy = f"fill in {where}" if first["type"] == "missing" or first.get("input") == "" else f"change {where}"
    remedy = remedy if nearest is None else f"write {nearest}"
    got = "" if first["type"] == "missing" else str(first.get("input"))[:80]
    return _refusal(request, {"where": where, "got": got or "nothing", "expected": expected, "remedy": remedy})


def _no_object(body: object) -> dict[str, str]:
    """The record for a body that is not a JSON object."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else "" if body is None else str(body)
    remedy = 'send {"name": value, …}, with content-type: application/json'
    return {"where": "the body", "got": text[:80] or "nothing", "expected": "a JSON object", "remedy": remedy}


_FIELDS = {"size": "input"}
"""The name of the page's field by argument, where they differ."""
_EXPECTED = {
    "int_parsing": "a whole number",
    "less_than_equal": "at most {le}",
    "greater_than_equal": "at least {ge}",
    "missing": "a value",
}


def serve(lab: Lab, port: int, announce: Callable[[str], None]) -> None:
    """Serve the lab on `port` of this machine (0: a free one) until SIGINT, SIGTERM or SIGHUP.

    `announce` is called with the address, token included, once the server is ready. Raises UsageError for a port that
    is not free.
    """
    with listen(_HOST, port) as listening:
        number = listening.getsockname()[1]
        Server(
            make_application(lab, number),
            lambda: announce(f"http://{_HOST}:{number}/?token={lab.token}"),
            lab.end,
            log_level="error" if shows_faults() else "critical",
        ).run_on(listening)
