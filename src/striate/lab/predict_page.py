"""The page Predict: an image, with the prediction of the run's network drawn over it."""

from __future__ import annotations

import threading
from base64 import b64encode
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray
from PIL import Image

from striate.data.media.every_medium import medium_of
from striate.errors import ModelError, RunError
from striate.lab import media_files
from striate.lab.page_images import as_address, as_image, as_png
from striate.tasks.marks import Marks
from striate.visualize.picture import Picture

if TYPE_CHECKING:
    from striate.lab.workbench import Lab
    from striate.training.trained import Trained

SIDE = 1024
"""Areas with a longer side are reduced, like the picture."""
_CACHED = 8


@dataclass(frozen=True, eq=False)
class ImagePrediction:
    """The network's prediction for one image."""

    fields: dict[str, Any]
    """As in a line of `predict --json`."""
    line: str
    """The same in words."""
    marks: Marks | None
    """What is drawn over the image; None where nothing is."""
    picture: str | None = None
    """The image beside the one that the network makes of it, as an address of its own; None where it makes none."""

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object; `areas` as bytes row by row, base64."""
        marks = None if self.marks is None else self.marks.to_json()
        if self.marks is not None and self.marks.areas is not None:
            areas = reduced(self.marks.areas)
            data = b64encode(areas.tobytes()).decode("ascii")
            marks = {**self.marks.to_json(), "areas": {"rows": len(areas), "columns": areas.shape[1], "data": data}}
        return {"line": self.line, "top": self.fields.get("top"), "marks": marks, "picture": self.picture}


def reduced(areas: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Areas (H, W) reduced to at most `SIDE` pixels on the longer side, each with the kind at its middle."""
    image = Image.fromarray(areas)
    if max(image.size) > SIDE:
        image.thumbnail((SIDE, SIDE), Image.Resampling.NEAREST)
    return np.ascontiguousarray(np.asarray(image))


class CachedPredictions:
    """Caches the latest predictions of one lab."""

    def __init__(self, lab: Lab) -> None:
        self._lab, self._lock = lab, threading.Lock()
        self._found: OrderedDict[str, ImagePrediction] = OrderedDict()

    def of(self, name: str) -> ImagePrediction:
        """The prediction for the image of that name. Raises DataError; RunError without a run; ModelError for a network
        that takes no images."""
        trained = self._trained()
        with self._lock:
            if name in self._found:
                self._found.move_to_end(name)
                return self._found[name]
        image = as_image(self._lab.images.find(name).picture)
        with self._lab.computing:
            prediction = trained.predict(image)
        marks = trained.task.marks(prediction.decoded, prediction.placed)
        made = trained.drawn(image, prediction) if trained.task.learns_inputs else None
        picture = None if made is None else as_address(as_png(Picture(made)))
        found = ImagePrediction(prediction.fields, trained.task.line(prediction.fields), marks, picture)
        with self._lock:
            self._found[name] = found
            while len(self._found) > _CACHED:
                self._found.popitem(last=False)
        return found

    def _trained(self) -> Trained:
        trained = self._lab.trained
        if trained is None:
            raise RunError("predict", "a lab without a run", "the run that is to predict", "striate lab RUN")
        medium = medium_of(trained.preparation.kind)
        if not medium.shows_itself:
            got = f"a run on {medium.describe(trained.preparation.input_shape)}"
            raise ModelError("predict", got, "one that takes images", "striate predict RUN FILE")
        return trained


def routes(lab: Lab) -> APIRouter:
    """The endpoints of the page."""
    router, predictions = APIRouter(), CachedPredictions(lab)
    router.include_router(media_files.routes(lab))

    @router.get("/prediction")
    def prediction(image: str) -> dict[str, Any]:
        return predictions.of(image).to_json()

    return router
