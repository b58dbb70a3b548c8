"""Milliseconds to augment a batch of 128, by option, for gray 28×28 and color 32×32 images, on one thread.

Command: OMP_NUM_THREADS=1 python benchmarks/augmentation.py [--repeats 100]
Each repeat is another epoch; the median, the fastest and batches a second by the median are printed and written to
benchmarks/results/augmentation.json. What a step of training costs beside it: benchmarks/fashion_epoch.py.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import torch

from striate.data.augment import augment_batch
from striate.data.config import AugmentConfig
from striate.data.noise import with_noise
from striate.runs.environment import describe_environment

OPTIONS = {
    "shift, flip": AugmentConfig(shift=2, flip=True),
    "crop, flip": AugmentConfig(crop=0.35, flip=True),
    "affine": AugmentConfig(shift=2, flip=True, crop=0.7, rotate=15, scale=0.1, shear=10),
    "affine, color": AugmentConfig(shift=2, flip=True, rotate=15, scale=0.1, shear=10, color=0.4),
    "shift, flip, trivial": AugmentConfig(shift=2, flip=True, policy="trivial"),
    "shift, flip, cutout": AugmentConfig(shift=2, flip=True, cutout=0.5),
    "blur": AugmentConfig(blur=1.0),
    "noise": AugmentConfig(noise=0.5),
}


def measure(work: Callable[[int], object], repeats: int) -> list[float]:
    """Seconds of each of `repeats` calls, after two that do not count."""
    seconds = []
    for epoch in range(repeats + 2):
        started = perf_counter()
        work(epoch)
        seconds.append(perf_counter() - started)
    return seconds[2:]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=100)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    _ = torch.ones(7_000_000)  # freed at once: from then on memory is kept, as in a training
    ids, rows = torch.arange(128) * 3, []
    for shape in ((1, 28, 28), (3, 32, 32)):
        images = torch.randint(0, 256, (128, *shape), dtype=torch.uint8)
        inputs = images.float() / 64 - 2
        for name, config in OPTIONS.items():
            if config.noise:
                seconds = measure(lambda epoch, c=config, x=inputs: with_noise(x, c, 0, epoch, ids), repeats)
            else:
                seconds = measure(lambda epoch, c=config, x=images: augment_batch(x, c, 0, epoch, ids), repeats)
            median = statistics.median(seconds)
            rows.append({"shape": shape, "options": name, "median_ms": 1e3 * median, "min_ms": 1e3 * min(seconds)})
            rate = f"{1 / median:,.0f} batches/s"
            print(
                f"{'×'.join(map(str, shape)):<8} {name:<22} {1e3 * median:6.2f} ms ({1e3 * min(seconds):.2f})  {rate}"
            )
    file = Path(__file__).parent / "results" / "augmentation.json"
    file.write_text(json.dumps({"environment": describe_environment(), "repeats": repeats, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
