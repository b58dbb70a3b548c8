"""The page Build: a network is drawn while it is typed, with its model summary and what is wrong with it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from striate.account.ledger import Ledger, Row, totals
from striate.errors import StriateError
from striate.lab.network_names import LONGEST, RUN, input_shape, network_name
from striate.lab.problems import problem_record
from striate.lab.workbench import Lab
from striate.models.layer_strings.words import WORDS, show_signature
from striate.models.registry import GROUPS
from striate.wording import percent_of, scaled, show_shape, show_sizes

_MOST_CACHED = 64
_EXAMPLES = (
    ("LeNet's kind", "conv(16,5) relu pool(2) conv(24,5) relu pool(2) fc(64) relu dropout(0.5) fc(10)", "1x28x28"),
    ("residual", "conv(16,3,pad=1) relu 3*[res[conv(16,3,pad=1) bn relu conv(16,3,pad=1)] relu] gap fc(10)", "3x32x32"),
    ("dilated", "conv(16,3) relu conv(16,3,dilation=2) relu conv(16,3,dilation=4) relu gap fc(10)", "1x28x28"),
    ("a signal", "conv(8,9,stride=2) relu conv(16,9,stride=2) relu gap fc(3)", "1x501"),
)  # fmt: skip


class NetworkRequest(BaseModel):
    """A network as typed, the shape of its input (`1x28x28`) and its number of outputs; empty: the network's own."""

    model: Annotated[str, Field(max_length=LONGEST)]
    input: Annotated[str, Field(max_length=60)] = ""
    outputs: Annotated[int, Field(ge=1, le=10**6)] | None = None


class Summaries:
    """Caches the latest model summaries as the page draws them."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._cache: OrderedDict[tuple[str, tuple[int, ...] | None, int | None], dict[str, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def summary(self, request: NetworkRequest) -> dict[str, Any]:
        """The network's summary as the page draws it. Raises StriateError."""
        key = network_name(self._lab, request.model), input_shape(request.input), request.outputs
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        from striate.api import summarize

        with self._lab.computing:
            ledger = summarize(key[0], key[1], outputs=key[2])
        drawn = drawing(ledger) | {"model": request.model.strip()}
        with self._lock:
            self._cache[key] = drawn
            while len(self._cache) > _MOST_CACHED:
                self._cache.popitem(last=False)
        return drawn


def routes(lab: Lab) -> APIRouter:
    """The endpoints of the page."""
    router, summaries = APIRouter(), Summaries(lab)

    @router.get("/choices")
    def choices() -> dict[str, Any]:
        own = [{"name": RUN, "text": f"the network of {lab.run.name}", "group": "opened with"}] if lab.run else []
        zoo = [
            {"name": info.name, "text": f"{info.name} ({info.year})", "group": group, "input": _typed(info.input_shape)}
            for group, entries in GROUPS.items()
            for info in entries
        ]
        return {
            "networks": [*own, *zoo],
            "examples": [{"title": title, "model": model, "input": shape} for title, model, shape in _EXAMPLES],
            "words": [show_signature(name, parameters) for name, parameters in WORDS.items()],
        }

    @router.post("/network")
    def network(request: NetworkRequest) -> dict[str, Any]:
        try:
            return summaries.summary(request)
        except StriateError as error:
            return {"error": problem_record(error)}

    return router


def drawing(ledger: Ledger) -> dict[str, Any]:
    """A ledger as the page draws it: totals, boxes from the input to the output, all layers, remarks."""
    from striate.visualize.network_boxes import network_boxes

    sides = [_side(ledger.input), *(_side(row.out_shape) for row in ledger.rows)]
    return {
        "input": ledger.input,
        "output": ledger.output,
        "params": ledger.params,
        "macs": ledger.macs,
        "largest_side": max(sides),
        "most_channels": max((row.out_shape[0] for row in ledger.rows if row.out_shape), default=1),
        "totals": [line.split("  ", 1) for line in totals(ledger, width=10_000)],
        "boxes": [
            asdict(box)
            | {
                "side": _side(box.out_shape),
                "shape": show_shape(box.out_shape),
                "params_text": _share(box.params, ledger.params),
                "macs_text": _share(box.macs, ledger.macs),
                "field": show_sizes(ledger.rows[box.rows[-1]].receptive_field),
            }
            for box in network_boxes(ledger)
        ],
        "rows": [_layer(row) for row in ledger.rows],
        "remarks": [remark.to_json() for remark in ledger.remarks],
    }


def _layer(row: Row) -> dict[str, Any]:
    """A row for readers, with the arithmetic of its output's size along each axis."""
    from striate.account.remarks.window_arithmetic import arithmetic, windows_of

    windows = windows_of(row)
    return {
        "name": row.name,
        "kind": row.kind if row.executed else f"{row.kind}, not run",
        "in": show_shape(row.in_shape),
        "out": show_shape(row.out_shape),
        "params": row.params,
        "macs": row.macs,
        "field": show_sizes(row.receptive_field),
        "jump": show_sizes(row.jump),
        "leftover": show_sizes(row.leftover) if any(row.leftover) else "",
        "arithmetic": list(dict.fromkeys(arithmetic(along) for along in windows)),
    }


def _share(count: int, total: int) -> str:
    return f"{scaled(count)} ({percent_of(count, total)} %)" if count else ""


def _side(shape: tuple[int, ...]) -> float:
    """The longest side of a map; 1 for a vector."""
    return float(max(shape[1:], default=1))


def _typed(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
