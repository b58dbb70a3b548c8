"""The embedding map of a split, with a small picture of each of its samples."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.lab.exploring.answers import Answers, new_answers, read_inputs
from striate.lab.exploring.samples import Samples
from striate.visualize.inside.embedding import Method, embed_features
from striate.visualize.inside.features import find_features

if TYPE_CHECKING:
    from striate.lab.workbench import Lab

MOST = 500
"""Samples of a map: it takes seconds to draw by t-SNE, and more lie over one another."""
TILE = 32  # pixels of a small picture
ACROSS = 25  # of them in a row of the sheet
_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Features:
    """Of the samples `ids` (N,): `values` (N, F), from where in the network (`source`), and `sheet`, a PNG of their
    pictures, 25 in a row, each at most 32 × 32 pixels in the corner of its tile. `answers` of a classification."""

    ids: NDArray[np.int64]
    values: NDArray[np.float32]
    source: str
    sheet: bytes
    tile: tuple[int, int]
    answers: Answers | None = None


def features_of(lab: Lab, samples: Samples, split: str) -> Features:
    """The features of at most 500 samples, evenly spread over the split. Raises DataError, RunError."""
    assert lab.trained is not None, "samples are of a run"
    all_ids = samples.of_split(split)
    wanted = all_ids[np.linspace(0, len(all_ids) - 1, min(MOST, len(all_ids))).astype(int)]
    trained = lab.trained
    normalize = trained.normalization.on(trained.device, len(trained.preparation.input_shape) + 1)
    ids, values, decoded, tiles, source = [], [], [], [], ""
    for start in range(0, len(wanted), _AT_ONCE):
        part, inputs = read_inputs(lab, samples, wanted[start : start + _AT_ONCE])
        with lab.computing:
            found = find_features(trained.module, normalize(inputs.to(trained.device)))
            decoded.append(trained.decode(inputs).numpy())
        ids.append(part)
        values.append(found.values)
        tiles += [_tile(image) for image in inputs.numpy()]
        source = found.source
    sheet, tile = _sheet(tiles)
    readable, answers = np.concatenate(ids), None
    if samples.classes and samples.classes == tuple(trained.classes):
        answers = new_answers(split, samples, readable, np.concatenate(decoded))
    return Features(readable, np.concatenate(values), source, sheet, tile, answers)


def make_map(features: Features, method: Method) -> dict[str, Any]:
    """The map of `striate.visualize.inside.embedding`: `points`, and how true it is. Raises DataError."""
    made = embed_features(features.values, features.source, method=method)
    return made.to_json() | {"tile": features.tile, "across": ACROSS}


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
