"""The page Explore: samples, mistakes, the confusion matrix and the embedding map of a run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import numpy as np
from fastapi import APIRouter, Query
from fastapi.responses import Response
from numpy.typing import NDArray
from PIL import Image

from striate.evaluation.similarity.nearest import Nearest
from striate.evaluation.similarity.search import neighbors
from striate.evaluation.similarity.vectors import sample_features
from striate.lab.exploring.chosen_samples import (
    Choice,
    RankedSamples,
    Show,
    chosen_ids,
    confusion,
    describe,
    drawn,
    find_ranked,
)
from striate.lab.exploring.run_samples import (
    Samples,
    SplitPredictions,
    find_predictions,
    new_predictions,
    read_inputs,
    read_samples,
)
from striate.lab.workbench import Lab
from striate.runs.plain_files import is_there
from striate.visualize.inside.embedding import Method, embed_features

if TYPE_CHECKING:
    from striate.lab.workbench import Lab

MOST = 500
"""Largest number of samples on a map: t-SNE takes seconds for them, and more would overlap."""
TILE = 32  # pixels of a small picture
ACROSS = 25  # of them in a row of the sheet
NEIGHBORS = 6  # that are shown beside a chosen sample
_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Features:
    """The features of samples, and a sheet of their pictures."""

    ids: NDArray[np.int64]
    """(N,) positions in the listing."""
    values: NDArray[np.float32]
    """(N, F) features."""
    source: str
    """Which layer of the network the features are from, in words."""
    sheet: bytes
    """A PNG of the pictures, 25 in a row, each in the corner of its tile."""
    tile: tuple[int, int]
    """Sides of a tile, at most 32 × 32 pixels."""
    predictions: SplitPredictions | None = None
    """The predictions of a classification; None of any other task."""


def features_of(lab: Lab, samples: Samples, split: str) -> Features:
    """The features of at most 500 samples, evenly spaced in the split. Raises DataError, RunError."""
    assert lab.trained is not None, "samples are of a run"
    all_ids = samples.of_split(split)
    wanted = all_ids[np.linspace(0, len(all_ids) - 1, min(MOST, len(all_ids))).astype(int)]
    trained = lab.trained
    ids, values, decoded, tiles, source = [], [], [], [], ""
    for start in range(0, len(wanted), _AT_ONCE):
        part, inputs = read_inputs(lab, samples, wanted[start : start + _AT_ONCE])
        with lab.computing:
            decoded.append(trained.decode(inputs).numpy())
            found = sample_features(trained, inputs)
        ids.append(part)
        values.append(found.values)
        tiles += [_tile(image) for image in inputs.numpy()]
        source = found.source
    sheet, tile = _sheet(tiles)
    readable, predictions = np.concatenate(ids), None
    if samples.classes and samples.classes == tuple(trained.classes):
        predictions = new_predictions(split, samples, readable, np.concatenate(decoded), trained.task)
    return Features(readable, np.concatenate(values), source, sheet, tile, predictions)


def make_map(features: Features, method: Method) -> dict[str, Any]:
    """The map of `striate.visualize.inside.embedding`: `points`, how faithful they are, and for each point its
    `neighbors` by the features, [position, cosine], the nearest first. Raises DataError."""
    made = embed_features(features.values, features.source, method=method)
    lengths = np.linalg.norm(features.values, axis=1, keepdims=True)
    near = Nearest(np.asarray(features.values / np.where(lengths > 0, lengths, 1), np.float32))
    rows = zip(*(part.tolist() for part in neighbors(near, min(NEIGHBORS, len(lengths) - 1))), strict=True)
    return made.to_json() | {
        "tile": features.tile,
        "across": ACROSS,
        "neighbors": [list(zip(places, cosines, strict=True)) for places, cosines in rows],
    }


def _tile(image: NDArray[np.uint8]) -> Image.Image:
    planes = image[0] if len(image) == 1 else np.ascontiguousarray(image[:3].transpose(1, 2, 0))
    picture = Image.fromarray(planes).convert("RGB")
    if max(picture.size) > TILE:
        picture.thumbnail((TILE, TILE), Image.Resampling.BOX)
    return picture


def _sheet(tiles: list[Image.Image]) -> tuple[bytes, tuple[int, int]]:
    width, height = tiles[0].size
    sheet = Image.new("RGB", (ACROSS * width, -(-len(tiles) // ACROSS) * height))
    for place, tile in enumerate(tiles):
        sheet.paste(tile, (place % ACROSS * width, place // ACROSS * height))
    file = BytesIO()
    sheet.save(file, "PNG", compress_level=1)
    return file.getvalue(), (width, height)


PER_PAGE = 60

Cached = TypeVar("Cached")


class Explorer:
    """Caches samples, predictions, features and maps of one lab, so that all open pages share them."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._cache: dict[tuple[str, ...], Any] = {}
        self._lock = threading.Lock()
        self._making: dict[tuple[str, ...], threading.Lock] = {}

    @property
    def samples(self) -> Samples:
        """All samples of the run."""
        return self._once(("samples",), lambda: read_samples(self._lab))

    def predictions(self, split: str) -> SplitPredictions:
        """The network's predictions for a split."""
        return self._once(("predictions", split), lambda: find_predictions(self._lab, self.samples, split))

    def known_predictions(self, split: str) -> SplitPredictions | None:
        """The predictions that are cached or that the run saved; None where there are none."""
        saved = self.samples.classes and is_there(self.samples.run.predictions / f"{split}.npz")
        return self.predictions(split) if saved or ("predictions", split) in self._cache else None

    def ranked(self, split: str) -> RankedSamples:
        """The samples of a split in the order of their metric."""
        return self._once(("ranked", split), lambda: find_ranked(self._lab, self.samples, split))

    def ranks(self, split: str) -> bool:
        """Whether the run saved the predictions by which samples without classes are ordered."""
        samples = self.samples
        return not samples.classes and is_there(samples.run.predictions / f"{split}.npz")

    def features(self, split: str) -> Features:
        """The features for the map of a split."""
        return self._once(("features", split), lambda: features_of(self._lab, self.samples, split))

    def map(self, split: str, method: Method) -> dict[str, Any]:
        """The map of a split."""
        return self._once(("map", split, method), lambda: make_map(self.features(split), method))

    def _once(self, key: tuple[str, ...], make: Callable[[], Cached]) -> Cached:
        with self._lock:
            mine = self._making.setdefault(key, threading.Lock())
        with mine:  # other values may be computed at the same time
            if key not in self._cache:
                self._cache[key] = make()
            value: Cached = self._cache[key]
            return value


def routes(lab: Lab) -> APIRouter:
    """The endpoints of the page Explore."""
    router, explorer = APIRouter(), Explorer(lab)

    @router.get("/about")
    def about() -> dict[str, Any]:
        """The splits of the run with the number of samples of each class."""
        samples = explorer.samples
        return {
            "data": samples.listing.name,
            "classes": samples.classes,
            "draws": lab.trained is not None and lab.trained.task.draws,
            "splits": [
                {"name": name, "n": n, "classes": samples.class_counts(name), "ranked": explorer.ranks(name)}
                for name, n in samples.counts().items()
            ],
        }

    @router.get("/samples")
    def chosen(
        split: str,
        true: int | None = None,
        said: int | None = None,
        show: Show = "all",
        start: Annotated[int, Query(ge=0)] = 0,
        count: Annotated[int, Query(ge=1, le=PER_PAGE)] = PER_PAGE,
    ) -> dict[str, Any]:
        """One page of the requested samples."""
        choice, samples = Choice(split, true, said, show), explorer.samples
        predictions = explorer.predictions(split) if choice.needs_predictions else explorer.known_predictions(split)
        ranked = explorer.ranked(split) if choice.ranks or explorer.ranks(split) else None
        if ranked is not None and choice.ranks:
            ids = ranked.ordered(best=show == "best")
        else:
            ids = chosen_ids(choice, samples, predictions)
        metrics = None if ranked is None else ranked.words()
        learned = ranked is not None and ranked.task.learns_inputs  # then the truth is the image itself
        kinds = ("reconstructed",) if learned else ("predicted", "true")
        page = ids[start : start + count]
        return {
            "total": len(ids),
            "start": start,
            "samples": describe(page, samples, predictions, metrics, kinds),
            "legend": () if ranked is None else ranked.legend(page),
        }

    @router.get("/drawn")
    def over(split: str, sample: int, truth: bool = False) -> Response:
        """A sample with the prediction, or the truth, drawn over it."""
        picture = drawn(lab, explorer.samples, explorer.ranked(split), sample, truth=truth)
        return Response(picture, media_type="image/png")

    @router.get("/confusion")
    def confused(split: str) -> dict[str, Any]:
        return confusion(explorer.samples, explorer.predictions(split))

    @router.get("/map")
    def mapped(split: str, method: Method = "pca") -> dict[str, Any]:
        """The map with its samples, in the order of its points."""
        made, features, samples = explorer.map(split, method), explorer.features(split), explorer.samples
        return made | {"samples": describe(features.ids, samples, features.predictions)}

    @router.get("/sheet")
    def sheet(split: str) -> Response:
        return Response(explorer.features(split).sheet, media_type="image/png")

    return router
