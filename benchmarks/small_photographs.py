"""A hundred to five thousand photographs, from random weights, in so many minutes: `striate train FOLDER --minutes M`,
as it is typed, beside the recipes of fastai and timm and a plain loop on the same files in the same minutes.

Command: STRIATE_DATA=… python benchmarks/small_photographs.py [SET …] [--minutes 2 5] [--seeds 5] [--only striate]
Sets: `flowers` (250 photographs, 5 classes, each seed another fifth for testing); `roads` (1,120 squares of 100 pixels
of aerial photographs: no, some, much road) and `cells` (1,600 squares of 64 pixels of microscope images: no, few, many
nuclei), whose squares of one picture stay together; `cifar1000` and `cifar5000` (other training images for each seed,
2,000 test images).
Striate's minutes are those of the whole command; the peers' are for training alone, with all pictures read before.
Every run is kept in benchmarks/results/small_photographs.json at once; those that are there are not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import perf_counter

import numpy as np
from common.photograph_peers import PEERS
from PIL import Image

HERE = Path(__file__).parent
OUT = HERE / "results" / "small_photographs.json"
FOLDS = 5


@dataclass(frozen=True)
class Sample:
    """A picture of a class; those of one `group` are in one fold."""

    group: str
    label: str
    name: str
    write: Callable[[Path], object]


def copied(file: Path) -> Callable[[Path], object]:
    return lambda to: shutil.copy(file, to)


def flowers(data: Path, seed: int) -> tuple[list[Sample], list[Sample]]:
    samples = []
    for folder in sorted(p for p in (data / "flowers").iterdir() if p.is_dir()):
        files = sorted(folder.glob("*.jpg"))
        random.Random(1).shuffle(files)
        samples += [Sample(str(i % FOLDS), folder.name, f.name, copied(f)) for i, f in enumerate(files)]
    return _fold(samples, {str(i): i for i in range(FOLDS)}, seed)


def _fold(samples: list[Sample], folds: dict[str, int], seed: int) -> tuple[list[Sample], list[Sample]]:
    kept = seed % FOLDS
    return [s for s in samples if folds[s.group] != kept], [s for s in samples if folds[s.group] == kept]


def _squares(
    folder: Path, side: int, label: Callable[[np.ndarray], str], seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Squares of `side` pixels of all pictures, each with the class of its part of the mask."""
    samples = []
    for file in sorted(p for p in (folder / "images").iterdir() if p.suffix in (".jpg", ".png")):
        picture = Image.open(file).convert("RGB")
        mask = np.array(Image.open(folder / "masks" / f"{file.stem}.png"))
        for top in range(0, picture.height - side + 1, side):
            for left in range(0, picture.width - side + 1, side):
                square = picture.crop((left, top, left + side, top + side))
                name = f"{file.stem}-{top}-{left}.jpg"
                kind = label(mask[top : top + side, left : left + side])
                samples.append(Sample(file.stem, kind, name, lambda to, square=square: square.save(to, quality=95)))
    groups = sorted({s.group for s in samples})
    random.Random(0).shuffle(groups)
    return _fold(samples, {group: i % FOLDS for i, group in enumerate(groups)}, seed)


def roads(data: Path, seed: int) -> tuple[list[Sample], list[Sample]]:
    def label(mask: np.ndarray) -> str:
        share = float((mask == 255).mean())
        return "none" if share < 0.005 else "some" if share < 0.2 else "much"

    return _squares(data / "roads", 100, label, seed)


def cells(data: Path, seed: int) -> tuple[list[Sample], list[Sample]]:
    def label(mask: np.ndarray) -> str:
        nuclei = len(np.unique(mask[mask > 0]))
        return "none" if nuclei == 0 else "few" if nuclei <= 4 else "many"

    return _squares(data / "cells", 64, label, seed)


@cache
def _cifar_files(archive: Path) -> dict[tuple[str, str], list[tuple[str, bytes]]]:
    """Names and bytes of all images of a part and a class, in order; read once for all seeds."""
    by: dict[tuple[str, str], list[tuple[str, bytes]]] = {}
    with tarfile.open(archive) as opened:
        for member in opened:
            file = opened.extractfile(member) if member.name.endswith(".jpg") else None
            if file is not None:
                part, label, name = member.name.split("/")[-3:]
                by.setdefault((part, label), []).append((name, file.read()))
    return {which: sorted(files) for which, files in sorted(by.items())}


def cifar(data: Path, seed: int, *, count: int) -> tuple[list[Sample], list[Sample]]:
    """`count` training images, drawn by the seed, and the first 200 test images of each class."""
    chosen: dict[str, list[Sample]] = {"train": [], "test": []}
    for (part, label), files in _cifar_files(data / "cifar10-jpeg.tar.gz").items():
        some = random.Random(seed).sample(files, count // 10) if part == "train" else files[:200]
        chosen[part] += [
            Sample(name, label, name, lambda to, content=content: to.write_bytes(content)) for name, content in some
        ]
    return chosen["train"], chosen["test"]


SETS: dict[str, Callable[[Path, int], tuple[list[Sample], list[Sample]]]] = {
    "flowers": flowers,
    "roads": roads,
    "cells": cells,
    "cifar1000": lambda data, seed: cifar(data, seed, count=1000),
    "cifar5000": lambda data, seed: cifar(data, seed, count=5000),
}


def written(name: str, seed: int, folder: Path) -> Path:
    """FOLDER/SET/{train,test}/CLASS/NAME."""
    train, test = SETS[name](Path(os.environ["STRIATE_DATA"]), seed)
    for part, samples in (("train", train), ("test", test)):
        for sample in samples:
            to = folder / name / part / sample.label / sample.name
            to.parent.mkdir(parents=True, exist_ok=True)
            sample.write(to)
    return folder / name


def striate(folder: Path, minutes: float, seed: int, options: list[str]) -> dict[str, float]:
    command = [sys.executable, "-m", "striate", "train", str(folder), "--minutes", f"{minutes:g}", "--seed", str(seed)]
    with tempfile.TemporaryDirectory() as run:
        made = json.loads(_said([*command, *options, "--json", "--out", f"{run}/run"]))
    return {"accuracy": made["test"]["accuracy"], "passes": made["epochs"]}


def peer(name: str, folder: Path, minutes: float, seed: int) -> dict[str, float]:
    file = HERE / "common" / "photograph_peers.py"
    return json.loads(_said([sys.executable, str(file), name, str(folder), f"{60 * minutes:g}", str(seed)]))


def _said(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return done.stdout


def summary(runs: list[dict[str, float]]) -> str:
    figures = [100 * run["accuracy"] for run in runs]
    deviation = f" ± {statistics.stdev(figures):.1f}" if len(figures) > 1 else ""
    return f"{statistics.mean(figures):.1f}{deviation} % ({len(figures)})"


def main() -> None:
    """Make the runs that are missing, print each, and the table at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", choices=[*SETS, []], help="all by default")
    parser.add_argument("--minutes", nargs="+", type=float, default=[2.0, 5.0, 10.0, 30.0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="seed")
    parser.add_argument("--only", nargs="+", choices=["striate", *PEERS], default=["striate", *PEERS])
    parser.add_argument("--options", default="", help="of striate train, in one argument; not kept")
    asked = parser.parse_args()
    options = asked.options.split()
    kept: dict[str, dict[str, float]] = json.loads(OUT.read_text()) if OUT.exists() and not options else {}
    for minutes in asked.minutes:
        for seed in range(asked.first, asked.first + asked.seeds):
            for name in asked.sets or SETS:
                missing = {f"{name}, {minutes:g} minutes, {who}, seed {seed}": who for who in asked.only}
                missing = {key: who for key, who in missing.items() if key not in kept}
                with tempfile.TemporaryDirectory() as temporary:
                    folder = written(name, seed, Path(temporary)) if missing else Path(temporary)
                    for key, who in missing.items():
                        started = perf_counter()
                        run = (
                            striate(folder, minutes, seed, options)
                            if who == "striate"
                            else peer(who, folder, minutes, seed)
                        )
                        kept[key] = run | {"seconds": round(perf_counter() - started, 1)}
                        print(key, kept[key], flush=True)
                        if not options:
                            OUT.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n")
    for head in sorted({key.split(", seed")[0] for key in kept}):
        print(f"{head:40} {summary([run for key, run in kept.items() if key.startswith(head + ', seed')])}")


if __name__ == "__main__":
    main()
