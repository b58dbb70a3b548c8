"""What `striate data check` misses and takes wrongly: near duplicates of real images, and planted wrong labels.

    python benchmarks/data_check.py [--sets flowers,cifar10,fashion-mnist,mnist5k] [--count 1500]

Near duplicates: `count` images of each set (all of a smaller one) are re-encoded and resized in memory; missed is what
is no longer found to be the same picture. The pairs that are found in the untouched set are duplicates or false alarms:
`striate data check SET --sheet pairs.png` draws some. Labels: 3 % of them (5 % in sets below 1,000) are replaced by
another class, of at most 8,000 images of a set.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.data.audit.alike import NEAR, near_duplicate_groups
from striate.data.audit.evidence import DataEvidence, gather_evidence
from striate.data.audit.image_statistics import measure_images
from striate.data.config import DataConfig
from striate.data.listing import Listing
from striate.data.sources.list_source import list_source
from striate.evaluation.label_errors import find_label_errors
from striate.wording import percent

Change = Callable[[Image.Image], Image.Image]


def encoded(quality: int) -> Change:
    """Saved as JPEG and read again."""

    def change(image: Image.Image) -> Image.Image:
        out = io.BytesIO()
        image.save(out, "JPEG", quality=quality)
        return Image.open(out)

    return change


def resized(factor: float, way: Image.Resampling) -> Change:
    """Scaled on both axes."""
    return lambda image: image.resize((round(image.width * factor), round(image.height * factor)), way)


HALF = resized(0.5, Image.Resampling.LANCZOS)
CHANGES: dict[str, Change] = {
    "JPEG 90": encoded(90),
    "JPEG 50": encoded(50),
    "× 0.75": resized(0.75, Image.Resampling.BICUBIC),
    "× 2, JPEG 75": lambda image: encoded(75)(resized(2, Image.Resampling.BICUBIC)(image)),
    "× 0.5": HALF,
    "× 0.5, JPEG 75": lambda image: encoded(75)(HALF(image)),
    "gray": lambda image: image.convert("L"),
}


def bytes_of(image: Image.Image) -> bytes:
    """A file that keeps every value."""
    out = io.BytesIO()
    image.save(out, "BMP")
    return out.getvalue()


def picture_of(listing: Listing, number: int) -> Image.Image:
    """The image of a sample, without EXIF."""
    if listing.inputs is not None:
        x_CHW = listing.inputs[number]
        return Image.fromarray(x_CHW[0] if len(x_CHW) == 1 else np.moveaxis(x_CHW, 0, -1).copy())
    assert listing.read is not None
    image = Image.open(io.BytesIO(listing.read(number)))
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def missed(listing: Listing, ids: NDArray[np.int64], change: Change) -> float:
    """The share of the images `ids` that are not found to be the same picture after the change."""
    count = len(ids)

    def read(number: int) -> bytes:
        image = picture_of(listing, int(ids[number % count]))
        return bytes_of(image if number < count else change(image))

    paths = tuple(f"{number:06}.bmp" for number in range(2 * count))
    both = replace(listing, paths=paths, read=read, read_mask=None, inputs=None, annotation="class", targets=None)
    groups = near_duplicate_groups(measure_images(both, range(2 * count), {}, 64_000_000), (), range(2 * count))
    home = {number: place for place, group in enumerate(groups) for number in group}
    found = sum(n in home and home[n] == home.get(n + count) for n in range(count))
    return 1 - found / count


def planted_labels(evidence: DataEvidence) -> str:
    """How many of the planted wrong labels are found, and how many others."""
    listing = evidence.listing
    assert listing.targets is not None
    rng = np.random.default_rng(0)
    ids = np.sort(rng.permutation(np.array(evidence.readable))[:8000])
    share = 0.05 if len(ids) < 1000 else 0.03
    wrong = set(rng.permutation(ids)[: int(share * len(ids))].tolist())
    targets = listing.targets.copy()
    for number in wrong:
        targets[number] = (targets[number] + rng.integers(1, len(listing.classes))) % len(listing.classes)
    labels = tuple(listing.classes[target] for target in targets)
    splits = {number: evidence.splits[number] for number in ids.tolist()}
    started = time.monotonic()
    marked = find_label_errors(
        replace(evidence, listing=replace(listing, targets=targets, labels=labels), splits=splits)
    )
    seconds = time.monotonic() - started
    found = {number for (number,) in marked.groups} if marked else set()
    hits = len(found & wrong)
    share = percent(hits / len(wrong), 0)
    return f"{len(ids):,} | {len(wrong)} | {hits} ({share}) | {len(found) - hits} | {seconds:.0f} s"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default="flowers,cifar10,fashion-mnist,mnist5k")
    parser.add_argument("--count", type=int, default=1500)
    asked = parser.parse_args()
    near, labels = [], []
    for name in asked.sets.split(","):
        config = DataConfig(name)
        listing = list_source(config, "auto")
        started = time.monotonic()
        evidence = gather_evidence(listing, config)
        seconds = time.monotonic() - started
        ids = np.random.default_rng(0).permutation(len(listing))[: asked.count]
        shares = " | ".join(percent(missed(listing, ids, change)) for change in CHANGES.values())
        extra = sum(len(group) - 1 for group in evidence.alike)
        near.append(f"| {name} | {len(listing):,} | {seconds:.0f} s | {extra} | {len(ids):,} | {shares} |")
        labels.append(f"| {name} | {planted_labels(evidence)} |")
        print(near[-1], labels[-1], sep="\n", flush=True)
    print(f"\nNear duplicates, at a distance of {NEAR:g}: missed after")
    print("\n".join([f"| set | images | looked at in | copies found | changed | {' | '.join(CHANGES)} |", *near]))
    print("\nPlanted wrong labels\n| set | images | planted | found | others | time |")
    print("\n".join(labels))


if __name__ == "__main__":
    main()
