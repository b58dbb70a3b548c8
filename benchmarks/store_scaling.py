"""Time and memory of reading as the data grow: images in memory, in a pack, and streamed.

Command: STRIATE_DATA=… python benchmarks/store_scaling.py [--most-images 1000000] [--most-photos 10000] [--repeats 3]

Small images: 28 × 28 gray, made up, as arrays in an .npz (which is read whole, whatever the store: what grows is that
array). Photographs: those of STRIATE_DATA/flowers repeated as files, to 160 × 160. A turn is an epoch in batches of 128
in shuffled order; preparing (listing, decoding, packing) is told apart, with its own time. Peak memory is that of the
process with all of it. Each store prepares from the files: it has a folder of packs of its own.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from common.contender import Contender
from common.gate import Gate
from common.measure import measure
from common.results import arguments, case, parsed, show, write_result
from photos import repeated

BATCH = 128
STORES = ("memory", "pack", "stream")


def epochs(gate: Gate, source: str, size: list[int], packs: str, store: Any) -> None:
    """Read once, then an epoch each turn."""
    from striate.data.config import DataConfig
    from striate.data.loader import batches, epoch_order
    from striate.data.read import load_dataset

    started = perf_counter()
    read = load_dataset(DataConfig(source=source, size=tuple(size), store=store, packs=packs))  # type: ignore[arg-type]
    train = read.splits["train"]
    gate.say(
        prepare_seconds=perf_counter() - started, input_bytes=sum(s.inputs.shape.numel() for s in read.splits.values())
    )
    for turn in itertools.count():
        gate.begin()
        order = epoch_order(len(train), 0, turn)
        gate.end(sum(len(batch.ids) for batch in batches(train, BATCH, order=order)))


def write_arrays(file: Path, samples: int) -> None:
    """Noise in ten classes, 28 × 28."""
    import numpy as np

    pixels = np.random.default_rng(0).integers(0, 256, (samples, 28, 28), np.uint8)
    np.savez(file, x=pixels, y=np.arange(samples) % 10)


def measured_case(name: str, source: str, size: tuple[int, int], folder: str, asked: Any) -> dict[str, Any]:
    """All stores on one source."""
    taking_part = [
        Contender(
            f"striate, {store}",
            "epochs",
            {"source": source, "size": list(size), "packs": f"{folder}/packs-{store}", "store": store},
            ours=True,
        )
        for store in STORES
    ]
    found = measure(__file__, taking_part, repeats=asked.repeats, gently=asked.quick)
    made = case(name, found, training=False, options={"size": list(size), "batch": BATCH})
    print(show(made), flush=True)
    return made


def powers(least: int, most: int) -> list[int]:
    """least, 10 · least, … up to most."""
    return [n for k in range(20) if (n := least * 10**k) <= most]


def main() -> None:
    """Measure, print, write."""
    parser = arguments(__doc__, repeats=3)
    parser.add_argument("--most-images", type=int, default=1_000_000)
    parser.add_argument("--most-photos", type=int, default=10_000)
    asked = parsed(parser)
    images, photos = (1000, 100) if asked.quick else (asked.most_images, asked.most_photos)
    flowers = Path(os.environ.get("STRIATE_DATA", "data")) / "flowers"
    cases = []
    for count in powers(1000, images):
        with tempfile.TemporaryDirectory() as folder:
            write_arrays(Path(folder) / "images.npz", count)
            cases.append(measured_case(f"{count:,} images of 28 × 28", f"{folder}/images.npz", (28, 28), folder, asked))
    for count in powers(100, photos):
        with tempfile.TemporaryDirectory() as folder:
            repeated(flowers, Path(folder) / "photos", count)
            cases.append(measured_case(f"{count:,} photos to 160 × 160", f"{folder}/photos", (160, 160), folder, asked))
    write_result(__file__, asked, cases, about=__doc__.split("\n\n")[2])


if __name__ == "__main__":
    main()
