"""Cut out what a network detects in the pictures of a data set, so that another network learns from the crops."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from striate.api.announcing import Announce
from striate.api.networks import load, with_rule_of
from striate.api.training import Run
from striate.data.annotations.annotation_kinds import annotation_kind
from striate.data.cut_out import cut_out
from striate.data.listing import Listing
from striate.data.media.medium import Placement, Preparation
from striate.data.new_folder import new_folder
from striate.data.progress import announce_tenths
from striate.data.scan import why_unreadable
from striate.data.sources.list_source import list_source
from striate.errors import DataError, UsageError
from striate.inference.predictor import plain_predictor
from striate.runs.directory import path_of_run
from striate.tasks.found import Found
from striate.training.request import ConfigSource, merge_request, read_config
from striate.training.trained import Trained
from striate.wording import several

MARGIN = 0.1
"""Width of the margin on each side, as a share of that side of the detection."""
_AT_ONCE = 32
_LARGEST = 4.0
"""Times the longer side of a picture: a larger detection is not a place in the picture."""


@dataclass(frozen=True)
class CroppedData:
    """A folder of crops, and what was cut out of which pictures."""

    path: Path
    """The folder."""
    data: Path
    """The manifest `crops.csv` in it, which `striate train` takes."""
    files: int
    """Number of pictures that were searched."""
    crops: int
    """Number of crops that were written."""
    further: int
    """Number of detections that were not cut out."""
    nothing: tuple[str, ...]
    """Paths of the pictures in which nothing was found."""
    unreadable: tuple[str, ...]
    """The pictures that were left out, each with the reason."""


class _Crop(NamedTuple):
    """One crop: the number of its sample, the path of its file, and the detection."""

    number: int
    name: str
    found: Found


def crop_data(
    data: str | Path,
    run: str | Path | Run | Trained,
    out: str | Path,
    *,
    every: bool = False,
    margin: float = MARGIN,
    size: int | tuple[int, int] | str | None = None,
    threshold: float | None = None,
    config: ConfigSource = None,
    announce: Announce | None = None,
) -> CroppedData:
    """Cut out what a network detects in the pictures of a data set, upright, into the new or empty folder `out`.

    Of each picture the most probable detection is cut out, or `every` one, with `margin` times its sides around it.
    Each crop has the label, split and group of its picture; several crops of one picture have one group, so that they
    stay in one split. `size` (pixels, or height × width) of all crops, which are scaled and not stretched. `threshold`:
    smallest score of a detection; by default that of the run. The data are only read; after an error nothing is left in
    `out`. Raises DataError, UsageError.
    """
    if not 0 <= margin <= 4:
        raise UsageError("--margin", f"{margin:g}", "a share of the sides from 0 to 4", f"--margin {MARGIN:g}")
    trained = run if isinstance(run, Trained) else load(run)
    if threshold is not None:
        place = Path() if isinstance(run, Trained) else path_of_run(run)
        trained = with_rule_of(place, trained, None, str(threshold))
    request = merge_request(read_config(config), data=str(data), size=size, fields={}).data
    listing = list_source(request)
    _refuse(listing, trained)
    folder = Path(out)
    with new_folder(folder) as part:
        written = _write(listing, trained, part, every, margin, request.size, announce or (lambda _: None))
    return replace(written, path=folder, data=folder / "crops.csv")


def _refuse(listing: Listing, trained: Trained) -> None:
    """Raise DataError or UsageError for data without files of pictures, or whose labels are positions in them."""
    if listing.read is None or not listing.medium.pictures:
        got = "arrays" if listing.read is None else listing.medium.many
        raise DataError(f"data {listing.source}", got, "files of pictures", "give a folder, an archive or a manifest")
    kind = annotation_kind(listing.annotation)
    if kind.of_places:
        raise DataError(
            f"data {listing.source}",
            f"{kind.texts}, which are positions in the picture",
            "labels of whole pictures, which crops inherit: a class, or a number",
            "put the pictures into a folder for each class, or into a manifest path,label[,split][,group]",
        )
    if trained.preparation.kind != listing.kind:
        got = f"{listing.medium.many} for a network of {trained.preparation.kind}s"
        raise UsageError("--with", got, "a run that was trained on pictures", "give another run")


def _write(
    listing: Listing,
    trained: Trained,
    part: Path,
    every: bool,
    margin: float,
    size: tuple[int, int] | None,
    announce: Announce,
) -> CroppedData:
    progress = announce_tenths(f"Cutting {listing.name}", len(listing), listing.medium.many, announce)
    names, crops = _names(listing.paths), list[_Crop]()
    taken = {name.lower() for name in names}
    unreadable, nothing, further = list[str](), list[str](), 0
    (part / "images").mkdir(parents=True)
    for first in range(0, len(listing), _AT_ONCE):
        numbers = range(len(listing))[first : first + _AT_ONCE]
        for number, found in _found(listing, trained, numbers, unreadable):
            chosen = found if every else found[:1]
            further += len(found) - len(chosen)
            if not chosen:
                nothing.append(listing.paths[number])
                continue
            pixels = _pixels(listing, number, trained.preparation.max_pixels)
            for place, one in enumerate(chosen):
                name = names[number] if place == 0 else _free(f"{names[number]}-", taken)
                file = part / "images" / f"{name}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                cut = cut_out(pixels, one.center, _sides(one.sides, margin, size), one.angle, size)
                Image.fromarray(cut[0] if len(cut) == 1 else cut.transpose(1, 2, 0)).save(file)
                crops.append(_Crop(number, f"images/{name}.png", one))
        progress(len(numbers))
    if not crops:
        raise DataError(
            f"data {listing.source}",
            f"nothing found in {several(len(nothing), 'picture')}, {len(unreadable)} unreadable",
            "at least one detection",
            "--threshold 0.05, or a run that was trained on such pictures",
        )
    _write_tables(part, listing, crops, nothing)
    return CroppedData(part, part, len(listing), len(crops), further, tuple(nothing), tuple(unreadable))


def _found(
    listing: Listing, trained: Trained, numbers: Sequence[int], unreadable: list[str]
) -> Iterator[tuple[int, list[Found]]]:
    """The detections in each of these pictures, the most probable first."""
    known, inputs, placed = list[int](), list[np.ndarray](), list[Placement | None]()
    medium, preparation = listing.medium, trained.preparation
    assert listing.read is not None
    for number in numbers:
        path = listing.paths[number]
        try:
            data = listing.read(number)
            size = medium.size_of(medium.header(data, path, max_pixels=preparation.max_pixels))
            inputs.append(medium.decode(data, path, preparation))
        except (OSError, DataError) as error:
            unreadable.append(f"{path}: {why_unreadable(error)}")
            continue
        assert size is not None
        known.append(number)
        placed.append(medium.placement(size, preparation))
    given = [(raw, None) for raw in inputs]
    predictions = trained.predict_batch(given, plain_predictor(trained.module, "what is cut out"), placed)
    for number, prediction in zip(known, predictions, strict=True):
        place = prediction.placed
        assert place is not None
        found = trained.task.found(prediction.decoded, place)
        yield number, [one for one in found if 0 < max(one.sides) <= _LARGEST * max(place.file)]


def _pixels(listing: Listing, number: int, max_pixels: int) -> np.ndarray:
    """The whole picture (C, H, W), in its own size and colors."""
    assert listing.read is not None
    data, path = listing.read(number), listing.paths[number]
    header = listing.medium.header(data, path, max_pixels=max_pixels)
    size = listing.medium.size_of(header)
    assert size is not None
    whole = Preparation(listing.kind, (3 if header.color else 1, *size), max_pixels=max_pixels)
    return listing.medium.decode(data, path, whole)


def _sides(sides: tuple[float, float], margin: float, size: tuple[int, int] | None) -> tuple[float, float]:
    """Width and height with the margin, in the proportions of `size` if it is given."""
    wide, high = (max(1.0, side * (1 + 2 * margin)) for side in sides)
    if size is not None:
        scale = max(wide / size[1], high / size[0])
        wide, high = scale * size[1], scale * size[0]
    return wide, high


def _names(paths: Sequence[str]) -> list[str]:
    """The name of each file's crop without a suffix: the file's path, with a number where that is taken, or a number
    alone where a manifest cannot hold the path."""
    names: dict[str, None] = {}
    taken: set[str] = set()
    for number, path in enumerate(paths):
        name = PurePosixPath(path).with_suffix("").as_posix()
        plain = name.isprintable() and "\\" not in name
        if not plain or any(part != part.strip() or part == ".." for part in name.split("/")):
            name = f"{number:06}"
        name = _free(f"{name}-", taken) if name.lower() in taken else name
        taken.add(name.lower())
        names[name] = None
    return list(names)


def _free(begin: str, taken: set[str]) -> str:
    """The first name of `begin` and a number that is not taken, which is added to `taken`."""
    name = next(name for k in count(2) if (name := f"{begin}{k}").lower() not in taken)
    taken.add(name.lower())
    return name


def _write_tables(part: Path, listing: Listing, crops: Sequence[_Crop], nothing: Sequence[str]) -> None:
    """Write `crops.csv`, which is trained on, and `found.csv`, which says where each crop comes from."""
    kind = annotation_kind(listing.annotation)
    several_of_one = len({crop.number for crop in crops}) < len(crops)
    groups = listing.groups or (None,) * len(listing)
    further = [*(["split"] if any(listing.given) else []), *(["group"] if any(groups) or several_of_one else [])]
    rows = [["path", *kind.manifest_columns(listing), *further, *listing.columns]]
    for number, name, _ in crops:
        alone = listing.paths[number] if several_of_one else ""
        known = {"split": listing.given[number] or "", "group": groups[number] or alone}
        others = [values[number] for values in listing.columns.values()]
        fields = kind.manifest_fields(listing, number)
        rows.append([name, *fields, *(known[column] for column in further), *others])
    _write_table(part / "crops.csv", rows)
    rows_found = [["source", "path", "found", "probability", "x", "y", "width", "height", "angle"]]
    for number, name, one in crops:
        place = (*one.center, *one.sides, one.angle)
        numbers = [f"{one.probability:.4f}", *(f"{value:.2f}" for value in place)]
        rows_found.append([listing.paths[number], name, one.label, *numbers])
    rows_found += [[path, *[""] * 8] for path in nothing]
    _write_table(part / "found.csv", rows_found)


def _write_table(file: Path, rows: Sequence[Sequence[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    file.write_text(text.getvalue(), encoding="utf-8")
