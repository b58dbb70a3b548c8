"""Speed and memory against the number of images, the width and the depth, in one process.

Command: STRIATE_DATA=… python benchmarks/scaling.py [--series images photos thumbnails width depth] [--repeats 3]

Images: 10³ to 10⁶ images of noise, 28 × 28, in an `.npz`, for the lectures' network at batch 128. Photographs: 10² to
10⁴ JPEG files (those of STRIATE_DATA/flowers, repeated) brought to 64 × 64 for `small-cnn` at batch 64, kept in
memory and streamed (decoded again in each epoch). A turn is an epoch of images, 60,000 at most, or 2,000 photographs,
in as many epochs as that takes; a run is one of a million photographs in all, so that memory is compared after the
same work. Its peak is that of the whole process, reading included. Thumbnails: 10³ to 10⁶ of these photographs at 96
pixels, each a file of its own, streamed in the same way. Width: CIFAR ResNet-18 of 8 to 64 channels; depth:
ResNet-20 to ResNet-110; a turn is 20 steps of batch 128. Each size trains as `striate train` does, its plan included.
What several processes give: benchmarks/processes.py.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.contender import Contender
from common.machine_rates import MATRIX_PRODUCTS, matrix_products  # noqa: F401 - contenders of this file
from common.measure import measure
from common.quick import quick_data
from common.results import arguments, case, claim, parsed, show, write_result
from common.striate_training import striate_contender, striate_training  # noqa: F401
from photos import repeated

SERIES = ("images", "photos", "thumbnails", "width", "depth")
IMAGES, PHOTOS = (1_000, 10_000, 100_000, 1_000_000), (100, 1_000, 10_000)
EDGE = 96
"""Pixels of a thumbnail: a million photographs as they are would take 64 GB."""
WIDTHS, DEPTHS = (8, 16, 32, 64), (20, 32, 44, 56, 110)
SAMPLES = 1_000_000
"""Of a run with photographs, however many there are: a longer run is planned for longer, which takes memory, too."""
ROOM = 64 * 2**20
"""Memory may grow by so much from 100 to 10,000 streamed photographs."""
NAME = 1_000
"""Bytes that each of a million files may take: its name, class, size and fingerprint."""


def contender(name: str, data: str, model: str, batch: int, per_turn: int, **more: Any) -> Contender:
    """One size. `more`: further fields, the `size` of images, and `epochs`."""
    size, epochs = more.pop("size", None), more.pop("epochs", 1000)
    fields = {"model.name": model, "batch": batch, "augment.flip": False, "augment.shift": 0, **more}
    options = {"data": data, "epochs": epochs, "per_turn": per_turn, "size": size}
    return striate_contender(name, fields=fields, **options)


def images(asked: Any) -> Iterator[dict[str, Any]]:
    """A case of sizes, each measured by itself: the largest sets would not be in memory together."""
    counts = (200, 400) if asked.quick else IMAGES

    def sizes() -> Iterator[Contender]:
        for count in counts:
            with quick_data((1, 28, 28), samples=count) as data:
                yield contender(f"{count:,} images", str(data), "mnist-cnn", 128, min(count, 60_000))

    yield one_by_one("images of 28 × 28, lectures' network", sizes(), asked)


def photos(asked: Any) -> Iterator[dict[str, Any]]:
    """A case for each way to keep photographs."""
    counts, per_turn = ((40, 80), 40) if asked.quick else (PHOTOS, 2_000)
    for store in ("memory", "stream"):

        def sizes(store: str = store) -> Iterator[Contender]:
            for count in counts:
                with folder_of_photographs(count) as folder:
                    fields = {"data.store": store, "size": 64, "epochs": SAMPLES // count}
                    yield contender(f"{count:,} photographs", folder, "small-cnn", 64, per_turn, **fields)

        yield one_by_one(f"photographs, {store}", sizes(), asked)


def thumbnails(asked: Any) -> Iterator[dict[str, Any]]:
    """A case of small photographs, streamed."""
    counts, per_turn = ((40, 80), 40) if asked.quick else (IMAGES, 2_000)

    def sizes() -> Iterator[Contender]:
        with tempfile.TemporaryDirectory() as small:
            shrunk(Path(small))
            for count in counts:
                with folder_of_photographs(count, Path(small)) as folder:
                    fields = {"data.store": "stream", "size": 64, "epochs": SAMPLES // count}
                    yield contender(f"{count:,} thumbnails", folder, "small-cnn", 64, per_turn, **fields)

    yield one_by_one("thumbnails, stream", sizes(), asked)


def shrunk(folder: Path) -> None:
    """CLASS/NAME.jpg: the photographs of STRIATE_DATA/flowers at EDGE pixels."""
    from PIL import Image

    source = _flowers()
    for photo in source.rglob("*.jpg"):
        out = folder / photo.relative_to(source)
        out.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(photo) as image:
            image.resize((EDGE, EDGE), Image.Resampling.BICUBIC, reducing_gap=2).save(out, quality=80)


def _flowers() -> Path:
    return Path(os.environ.get("STRIATE_DATA", "data")) / "flowers"


@contextmanager
def folder_of_photographs(count: int, source: Path | None = None) -> Iterator[str]:
    """So many files, while open."""
    with tempfile.TemporaryDirectory() as folder:
        repeated(_flowers() if source is None else source, Path(folder), count)
        yield folder


def networks(title: str, names: Iterable[str], asked: Any) -> dict[str, Any]:
    """A case of networks on the same noise, which take turns."""
    from striate.api import summarize

    batch, shape = (16, (3, 32, 32)) if asked.quick else (128, (3, 32, 32))
    names = list(names)[:2] if asked.quick else list(names)
    with quick_data(shape, samples=4 * batch) as data:
        sizes = [contender(name, str(data), name, batch, (2 if asked.quick else 20) * batch) for name in names]
        found = measure(__file__, [*sizes, MATRIX_PRODUCTS], repeats=asked.repeats, gently=asked.quick)
    macs = {name: summarize(name, shape).macs for name in names}
    return case(title, found, macs=macs, in_order=True)


def one_by_one(title: str, sizes: Iterable[Contender], asked: Any) -> dict[str, Any]:
    """A case whose contenders do not take turns."""
    found = [one for size in sizes for one in measure(__file__, [size], repeats=asked.repeats, gently=asked.quick)]
    return case(title, found, in_order=True)


def cases_of(series: str, asked: Any) -> Iterator[dict[str, Any]]:
    """The cases of a series."""
    if series == "images":
        yield from images(asked)
    elif series == "photos":
        yield from photos(asked)
    elif series == "thumbnails":
        yield from thumbnails(asked)
    elif series == "width":
        widths = [f"resnet18(stem=small,width={width})" for width in WIDTHS]
        yield networks("width: CIFAR ResNet-18, 32 × 32", widths, asked)
    else:
        yield networks("depth: CIFAR ResNets, 32 × 32", [f"resnet{depth}" for depth in DEPTHS], asked)


def main() -> None:
    """Measure, print, write."""
    parser = arguments(__doc__, repeats=3)
    parser.add_argument("--series", nargs="+", choices=SERIES, default=SERIES)
    asked = parsed(parser)
    cases = []
    for series in asked.series:
        for made in cases_of(series, asked):
            cases.append(made)
            print(show(made), flush=True)
    write_result(__file__, asked, cases, about=__doc__.split("\n\n")[2], claims=judge(cases))


def judge(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """How much more memory the most streamed files take than the fewest."""
    found: dict[str, Any] = {}
    for key, name in (("streaming-memory", "photographs, stream"), ("streaming-million", "thumbnails, stream")):
        streamed = next((case["rows"] for case in cases if case["name"] == name), [])
        if len(streamed) < 2:
            continue
        first, last = streamed[0], streamed[-1]
        more = (last["peak_mib"] - first["peak_mib"]) * 2**20
        text = f"{first['peak_mib']:,.0f} MiB for {first['contender']}, {last['peak_mib']:,.0f} MiB for "
        text += last["contender"]
        if key == "streaming-million":
            text += f": {more / 1e6:,.0f} bytes each"
        found[key] = claim(text, more <= (ROOM if key == "streaming-memory" else NAME * 1e6))
    return found


if __name__ == "__main__":
    main()
