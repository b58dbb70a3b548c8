"""The page Predict for runs on sounds, clips and volumes. It shows files of the run's data and files that are sent: the
network's input, the prediction, which is drawn over slices if it is a mask, and for sounds an attribution map.

A file has a name in addresses: `run#17` is a file of the run's data, in the order of split.csv, `sent:DIGEST` a file
that was sent.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool

from striate.data.media.every_medium import medium_of
from striate.data.media.medium import Medium, suffix_of
from striate.errors import DataError, ModelError, RunError
from striate.lab.page_images import RUN, as_address, as_png, run_listing
from striate.visualize.picture import Picture

if TYPE_CHECKING:
    from striate.data.listing import Listing
    from striate.lab.workbench import Lab
    from striate.training.trained import Prediction, Trained

Drawings = tuple[tuple[str, NDArray[np.uint8]], ...]
"""Titles and pictures (H, W, 3)."""
_MOST_BYTES = 64 << 20  # of files that were sent
_AT_ONCE = 60


@dataclass(frozen=True)
class MediaFile:
    """A sound, clip or volume."""

    name: str
    title: str
    label: str
    """Its label; empty where it has none."""
    data: bytes
    """The bytes of the file."""


class MediaFiles:
    """The files of one lab; those that were sent are cached until newer ones need the memory."""

    def __init__(self, lab: Lab) -> None:
        self._lab, self._lock = lab, threading.Lock()
        self._sent: OrderedDict[str, MediaFile] = OrderedDict()
        self._listing: Listing | None = None

    @property
    def medium(self) -> Medium | None:
        """The medium of the run's files; None for pictures, which have a page of their own, and for data without
        files."""
        trained = self._lab.trained
        medium = None if trained is None else medium_of(trained.preparation.kind)
        return medium if medium is not None and medium.of_files and not medium.pictures else None

    def run(self) -> tuple[Trained, Medium]:
        """The trained network, and the medium of its samples. Raises RunError, ModelError."""
        trained = self._lab.trained
        if trained is None:
            raise RunError("predict", "a lab without a run", "the run that is to predict", "striate lab RUN")
        if self.medium is None:
            got = f"a run on {medium_of(trained.preparation.kind).many}"
            raise ModelError("predict", got, "one on sounds, clips or volumes", "striate lab RUN")
        return trained, self.medium

    def listing(self) -> Listing:
        """The run's data. Raises DataError where they no longer exist."""
        with self._lock:
            if self._listing is None:
                self._listing = run_listing(self._lab)
            return self._listing

    def label(self, listing: Listing, number: int) -> str:
        """The label of a file of the run; empty where the label is the file of a mask."""
        trained, _ = self.run()
        return listing.labels[number] if number < len(listing.labels) and not trained.reads_whole else ""

    def find(self, name: str) -> MediaFile:
        """The file of that name. Raises DataError."""
        self.run()
        if name.startswith("sent:"):
            with self._lock:
                if name not in self._sent:
                    got = "a file that was not sent, or is no longer cached"
                    raise DataError(name[:80], got, "a file that is cached", "send it again")
                self._sent.move_to_end(name)
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
        return MediaFile(name, listing.paths[number], self.label(listing, number), content)

    def add(self, data: bytes, title: str) -> MediaFile:
        """Cache a file that was sent. Raises Unreadable for a file that cannot be read."""
        trained, medium = self.run()
        medium.header(data, title, max_pixels=trained.preparation.max_pixels)
        file = MediaFile(f"sent:{hashlib.sha256(data).hexdigest()[:16]}", title, "", data)
        with self._lock:
            self._sent[file.name] = file
            while len(self._sent) > 1 and sum(len(one.data) for one in self._sent.values()) > _MOST_BYTES:
                self._sent.popitem(last=False)
        return file

    def shown(self, name: str) -> dict[str, Any]:
        """The pictures of a file, and the network's prediction for it. Raises StriateError."""
        trained, medium = self.run()
        file = self.find(name)
        with self._lab.computing:
            if trained.reads_whole:
                prediction, drawings = _mask(trained, file)
            else:
                raw = medium.decode(file.data, file.title, trained.preparation)
                (prediction,) = trained.predict_prepared([raw], plan="plain")
                drawings = medium.drawings(file.data, file.title, trained.preparation) or _drawn(trained, medium, raw)
        return {
            **{"name": file.name, "title": file.title, "label": file.label},
            "line": trained.task.line(prediction.fields),
            "top": prediction.fields.get("top"),
            "pictures": [
                {"title": title, "picture": as_address(as_png(Picture(pixels)))} for title, pixels in drawings
            ],
            "legend": _legend(trained, prediction) if trained.reads_whole else [],
            "explained": len(trained.preparation.input_shape) == 3,
        }

    def evidence(self, name: str) -> dict[str, Any]:
        """The attribution map, drawn over the file's picture, and how far to trust it."""
        from striate.api.explaining import explain
        from striate.report.explanation import overlay
        from striate.visualize.attribution.explanation_record import trust_lines

        trained, medium = self.run()
        file = self.find(name)
        with tempfile.TemporaryDirectory() as folder, self._lab.computing:
            path = Path(folder) / f"file{suffix_of(file.title)[:8]}"
            path.write_bytes(file.data)
            explained = explain(trained, path)
        pixels = overlay(explained.input, explained.maps.chosen)
        return {
            "title": explained.maps.chosen.name,
            "picture": as_address(as_png(Picture(medium.framed(pixels, trained.preparation)))),
            "trusted": explained.trusted,
            "lines": list(trust_lines(explained)),
        }


def _mask(trained: Trained, file: MediaFile) -> tuple[Prediction, Drawings]:
    """The predicted mask of a whole file, and slices of the file with the mask drawn over them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{suffix_of(file.title)[:8]}"
        path.write_bytes(file.data)
        prediction = trained.predict(path, plan="plain")
        pixels = np.ascontiguousarray(trained.drawn(path, prediction))
    return prediction, (("Slices from above, from the front and from the side, where most is found", pixels),)


def _drawn(trained: Trained, medium: Medium, raw: NDArray[Any]) -> Drawings:
    pixels = medium.drawn(raw, trained.preparation)
    return () if pixels is None else (("What the network gets of it", pixels),)


def _legend(trained: Trained, prediction: Prediction) -> list[dict[str, Any]]:
    """The share and the color of each class in the mask; the background has no color."""
    from striate.visualize.mask_figures import covered, seen_colors

    shares: dict[str, float] = prediction.fields["shares"]
    colors = zip(trained.classes, seen_colors(len(trained.classes)), covered(trained.classes), strict=True)
    return [
        {"name": name, "color": [round(255 * one) for one in color] if seen else None, "share": shares[name]}
        for name, color, seen in colors
        if name in shares
    ]


def routes(lab: Lab) -> APIRouter:
    """The endpoints."""
    router, files = APIRouter(), MediaFiles(lab)

    @router.get("/files")
    def listed(start: Annotated[int, Query(ge=0, le=10**9)] = 0) -> dict[str, Any]:
        if files.medium is None:
            return {"player": "", "many": "", "total": 0, "files": []}
        medium = files.medium
        listing = files.listing()
        rows = range(start % max(1, len(listing)), len(listing))[:_AT_ONCE]
        found = [{"name": f"{RUN}#{i}", "title": listing.paths[i], "label": files.label(listing, i)} for i in rows]
        accept = medium.player + "/*" if medium.player else ",".join(sorted({*medium.suffixes, ".gz"}))
        return {
            **{"player": medium.player, "one": medium.one, "many": medium.many, "accept": accept},
            **{"total": len(listing), "files": found},
        }

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
