"""The page Predict of a run on what is played, such as sounds: files of the run's data and files that are sent, with
what the network takes of them, what it predicts, and what in them made it predict so.

A file has a name that stands in addresses: `run#17` is one of the run's data, in the order of split.csv, `sent:DIGEST`
one that was sent.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import threading
from base64 import b64encode
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from numpy.typing import NDArray
from PIL import Image
from starlette.concurrency import run_in_threadpool

from striate.data.media.every_medium import medium_of
from striate.data.media.medium import Medium
from striate.errors import DataError, ModelError, RunError
from striate.lab.page_images import RUN, run_listing

if TYPE_CHECKING:
    from striate.data.listing import Listing
    from striate.lab.workbench import Lab
    from striate.training.trained import Trained

_MOST_BYTES = 64 << 20  # of files that were sent
_AT_ONCE = 60


@dataclass(frozen=True)
class PlayedFile:
    """A file with its `title` and its `label`, empty where it has none."""

    name: str
    title: str
    label: str
    data: bytes


class PlayedFiles:
    """The files of one lab; those that were sent are kept until newer ones need the memory."""

    def __init__(self, lab: Lab) -> None:
        self._lab, self._lock = lab, threading.Lock()
        self._sent: OrderedDict[str, PlayedFile] = OrderedDict()
        self._listing: Listing | None = None

    @property
    def player(self) -> str:
        """The element that plays files of the run; empty where nothing does."""
        trained = self._lab.trained
        return "" if trained is None else medium_of(trained.preparation.kind).player

    def run(self) -> tuple[Trained, Medium]:
        """The trained network, and what its samples are. Raises RunError, ModelError."""
        trained = self._lab.trained
        if trained is None:
            raise RunError("predict", "a lab without a run", "the run that is to predict", "striate lab RUN")
        medium = medium_of(trained.preparation.kind)
        if not medium.player:
            raise ModelError("predict", f"a run on {medium.many}", "one on what is played", "striate lab RUN")
        return trained, medium

    def listing(self) -> Listing:
        """The run's data. Raises DataError where they are not there any more."""
        with self._lock:
            if self._listing is None:
                self._listing = run_listing(self._lab)
            return self._listing

    def find(self, name: str) -> PlayedFile:
        """The file of that name. Raises DataError."""
        self.run()
        if name.startswith("sent:"):
            with self._lock:
                if name not in self._sent:
                    raise DataError(name[:80], "a file that was not sent, or long ago", "one of now", "send it again")
                return self._sent[name]
        data, _, digits = name.partition("#")
        listing = self.listing()
        number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 12 else -1
        if data != RUN or listing.read is None or not 0 <= number < len(listing):
            raise DataError(f"file {name[:80]}", "no file of the run", f"run#0 to run#{len(listing) - 1}", "run#0")
        try:
            content = listing.read(number)
        except OSError as error:
            why = error.strerror or str(error)
            raise DataError(f"file {name[:80]}", why, "a file that can be read", "choose another one") from None
        return PlayedFile(name, listing.paths[number], listing.labels[number], content)

    def add(self, data: bytes, title: str) -> PlayedFile:
        """Keep a file that was sent. Raises Unreadable for one that cannot be read."""
        trained, medium = self.run()
        medium.header(data, title, max_pixels=trained.preparation.max_pixels)
        file = PlayedFile(f"sent:{hashlib.sha256(data).hexdigest()[:16]}", title, "", data)
        with self._lock:
            self._sent[file.name] = file
            while len(self._sent) > 1 and sum(len(one.data) for one in self._sent.values()) > _MOST_BYTES:
                self._sent.popitem(last=False)
        return file

    def shown(self, name: str) -> dict[str, Any]:
        """What is drawn of a file, and what the network predicts for it. Raises StriateError."""
        trained, medium = self.run()
        file = self.find(name)
        drawings = medium.drawings(file.data, file.title, trained.preparation)
        raw = medium.decode(file.data, file.title, trained.preparation)
        with self._lab.computing:
            (prediction,) = trained.answer([raw], plan="plain")
        return {
            **{"name": file.name, "title": file.title, "label": file.label},
            "line": trained.task.line(prediction.fields),
            "top": prediction.fields.get("top"),
            "pictures": [{"title": title, "picture": as_address(pixels)} for title, pixels in drawings],
            "explained": len(trained.preparation.input_shape) == 3,
        }

    def evidence(self, name: str) -> dict[str, Any]:
        """What in the file speaks for the prediction, drawn over it, and how far that is to be trusted."""
        from striate.api.explaining import explain
        from striate.report.explanation import overlay
        from striate.visualize.attribution.explanation_record import trust_lines

        trained, medium = self.run()
        file = self.find(name)
        with tempfile.TemporaryDirectory() as folder, self._lab.computing:
            path = Path(folder) / f"file{Path(file.title).suffix[:8]}"
            path.write_bytes(file.data)
            explained = explain(trained, path)
        pixels = overlay(explained.input, explained.maps.chosen)
        return {
            "title": explained.maps.chosen.name,
            "picture": as_address(medium.framed(pixels, trained.preparation)),
            "trusted": explained.trusted,
            "lines": list(trust_lines(explained)),
        }


def as_address(pixels: NDArray[np.uint8]) -> str:
    """A picture (H, W, 3) as an address that holds it."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode('ascii')}"


def routes(lab: Lab) -> APIRouter:
    """The endpoints."""
    router, files = APIRouter(), PlayedFiles(lab)

    @router.get("/files")
    def listed(start: Annotated[int, Query(ge=0, le=10**9)] = 0) -> dict[str, Any]:
        if not files.player:
            return {"player": "", "many": "", "total": 0, "files": []}
        listing = files.listing()
        rows = range(start % max(1, len(listing)), len(listing))[:_AT_ONCE]
        found = [{"name": f"{RUN}#{i}", "title": listing.paths[i], "label": listing.labels[i]} for i in rows]
        return {"player": files.player, "many": files.run()[1].many, "total": len(listing), "files": found}

    @router.get("/file")
    def file(name: str) -> Response:
        trained, medium = files.run()
        found = files.find(name)
        return Response(medium.played(found.data, found.title, trained.preparation), media_type="audio/wav")

    @router.get("/shown")
    def shown(name: str) -> dict[str, Any]:
        return files.shown(name)

    @router.get("/evidence")
    def evidence(name: str) -> dict[str, Any]:
        return files.evidence(name)

    @router.post("/upload")
    async def upload(request: Request, title: Annotated[str, Query(max_length=200)] = "a file") -> dict[str, Any]:
        data = await request.body()
        found = await run_in_threadpool(files.add, data, title)
        return {"name": found.name, "title": found.title, "label": found.label}

    return router
