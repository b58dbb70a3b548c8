"""Where is it: `striate train FOLDER --minutes M`, as it is typed, beside a textbook network in plain torch that gets
as many minutes for its steps alone.

Command: STRIATE_DATA=… python benchmarks/where.py segment [camvid roads] [--minutes 20] [--seeds 0 1 2] [--only unet]
         STRIATE_DATA=… python benchmarks/where.py detect [bccd] [--minutes 15] [--seeds 0 1 2] [--only fcos]
Sets: `camvid` trains on the given training part and is measured on the given validation part, which the training never
sees; `roads` in five folds by the hash of the name, one a seed. Measured are the masks of `predict --masks`, in the
size of the files: the mean IoU, and of roads the F1 of the road. `bccd` trains on the given training part and is
measured on the given validation part: COCO's mAP of boxes in pixels of the files, by faster-coco-eval, 100 of an image
at most. Every run is printed, and kept in benchmarks/results/where.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from common.detection_peer import MOST, train_and_detect
from common.segmentation_peer import train_and_predict
from PIL import Image

OUT = Path(__file__).parent / "results" / "where.json"


@dataclass(frozen=True)
class Scenes:
    """Pairs of image and mask to train on, and to measure on; `values` of the classes, and what to type beside."""

    train: list[tuple[Path, Path]]
    test: list[tuple[Path, Path]]
    values: list[int]
    names: tuple[str, ...]
    options: tuple[str, ...]
    minutes: float


def _pairs(folder: Path, part: str = "") -> list[tuple[Path, Path]]:
    images = sorted((folder / "images" / part).glob("*.jpg"))
    return [(file, folder / "masks" / part / f"{file.stem}.png") for file in images]


def camvid(data: Path, seed: int) -> Scenes:
    del seed
    folder = data / "camvid"
    names = tuple((folder / "classes.txt").read_text().split())
    return Scenes(_pairs(folder, "train"), _pairs(folder, "val"), list(range(11)), names, ("--data.ignore", "11"), 20)


def roads(data: Path, seed: int) -> Scenes:
    pairs = _pairs(data / "roads")
    held = [zlib.crc32(image.name.encode()) % 5 == seed % 5 for image, _ in pairs]
    train, test = ([pair for pair, out in zip(pairs, held, strict=True) if out == which] for which in (False, True))
    return Scenes(train, test, [0, 255], ("background", "road"), (), 10)


SETS: dict[str, Callable[[Path, int], Scenes]] = {"camvid": camvid, "roads": roads}


def striate(scenes: Scenes, minutes: float, seed: int, work: Path) -> tuple[list[np.ndarray], dict[str, object]]:
    """The masks of the command line for the pictures to measure on, and what the run says of itself."""
    for part, column in (("images", 0), ("masks", 1)):
        (work / "data" / part).mkdir(parents=True)
        for pair in scenes.train:
            (work / "data" / part / pair[column].name).symlink_to(pair[column])
    if len(scenes.names) > 2:
        (work / "data" / "classes.txt").write_text("\n".join(scenes.names))
    began = perf_counter()
    options = [*scenes.options, "--data.test_fraction", "0", "--seed", str(seed), "--out", str(work / "run")]
    _run("train", str(work / "data"), "--minutes", f"{minutes:g}", *options)
    seconds = perf_counter() - began
    _run("predict", str(work / "run"), *(str(image) for image, _ in scenes.test), "--masks", str(work / "masks"))
    found = [np.asarray(Image.open(work / "masks" / f"{image.stem}.png")) for image, _ in scenes.test]
    metrics = json.loads((work / "run" / "metrics.json").read_text())
    return found, {"seconds": round(seconds), "params": metrics["params"], "epochs": metrics["epochs"]}


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "striate", *arguments], check=True, stdout=subprocess.DEVNULL)


def unet(scenes: Scenes, minutes: float, seed: int, work: Path) -> tuple[list[np.ndarray], dict[str, object]]:
    """Those of the textbook network, of about as many parameters as striate's."""
    del work
    images, masks = map(list, zip(*scenes.train, strict=True))
    asked = [image for image, _ in scenes.test]
    found, params, steps = train_and_predict(images, masks, asked, scenes.values, width=19, minutes=minutes, seed=seed)
    return found, {"params": params, "steps": steps}


def measure(found: list[np.ndarray], scenes: Scenes) -> dict[str, float]:
    """Over the labeled pixels of all masks together."""
    hits, either = np.zeros(len(scenes.values)), np.zeros(len(scenes.values))
    for mask, (_, file) in zip(found, scenes.test, strict=True):
        truth = np.asarray(Image.open(file))
        assert mask.shape == truth.shape, file
        labeled = np.isin(truth, scenes.values)
        for k, value in enumerate(scenes.values):
            one, other = (mask == value) & labeled, truth == value
            hits[k], either[k] = hits[k] + (one & other).sum(), either[k] + (one | other).sum()
    iou = hits[either > 0] / either[either > 0]
    each = {name: round(float(h / max(e, 1)), 4) for name, h, e in zip(scenes.names, hits, either, strict=True)}
    result: dict[str, float] = {"miou": round(float(iou.mean()), 4), **each}
    if len(scenes.values) == 2:
        result["f1"] = round(float(2 * hits[1] / (hits[1] + either[1])), 4)
    return result


def compete(
    options: argparse.Namespace,
    sets: Mapping[str, Callable[[Path, int], Any]],
    contenders: Mapping[str, Callable[..., tuple[Any, dict[str, Any]]]],
    judge: Callable[[Any, Any], dict[str, float]],
    headline: Callable[[dict[str, Any]], float],
) -> None:
    """Train each contender on each set with each seed, and keep what `judge` says of what it found on the test part."""
    data = Path(os.environ["STRIATE_DATA"])
    rows = json.loads(OUT.read_text()) if OUT.exists() else []
    for name in options.sets or list(sets):
        for who, contender in contenders.items():
            figures = []
            for seed in options.seeds if options.only in (None, who) else ():
                content = sets[name](data, seed)
                minutes = options.minutes or content.minutes
                with tempfile.TemporaryDirectory() as folder:
                    found, about = contender(content, minutes, seed, Path(folder))
                row = {"part": options.part, "set": name, "who": who, "minutes": minutes, "seed": seed}
                row |= {"threads": torch.get_num_threads(), **about, **judge(found, content)}
                print(json.dumps(row), flush=True)
                rows.append(row)
                OUT.write_text(json.dumps(rows, indent=1) + "\n")
                figures.append(headline(row))
            if len(figures) > 1:
                print(f"{name} {who}: {statistics.mean(figures):.4f} ± {statistics.stdev(figures):.4f}")


def segment(options: argparse.Namespace) -> None:
    contenders = {"striate": striate, "unet": unet}
    compete(options, SETS, contenders, measure, lambda row: row["f1"] if "f1" in row else row["miou"])


@dataclass(frozen=True)
class Photographs:
    """Pictures to train on, and to measure on, with boxes (M, 5: edges in pixels, class)."""

    train: list[Path]
    test: list[Path]
    boxes: dict[Path, np.ndarray]
    names: tuple[str, ...]
    minutes: float


def bccd(data: Path, _: int) -> Photographs:
    folder, boxes, names = data / "bccd", {}, {}
    parts = {part: (folder / "ImageSets" / "Main" / f"{part}.txt").read_text().split() for part in ("train", "val")}
    for stem in [*parts["train"], *parts["val"]]:
        rows = []
        for entry in ElementTree.parse(folder / "Annotations" / f"{stem}.xml").getroot().iter("object"):
            kind = names.setdefault(entry.findtext("name"), len(names))
            edges = [float(entry.findtext(f"bndbox/{edge}") or 0) for edge in ("xmin", "ymin", "xmax", "ymax")]
            edges[:2] = edges[0] - 1, edges[1] - 1  # VOC counts pixels from 1
            if edges[2] > edges[0] and edges[3] > edges[1]:
                rows.append([*edges, kind])
        boxes[folder / "JPEGImages" / f"{stem}.jpg"] = np.array(rows).reshape(-1, 5)
    train, test = ([folder / "JPEGImages" / f"{stem}.jpg" for stem in parts[part]] for part in ("train", "val"))
    return Photographs(train, test, boxes, tuple(names), 15)


DETECTION_SETS: dict[str, Callable[[Path, int], Photographs]] = {"bccd": bccd}


def striate_boxes(photographs: Photographs, minutes: float, seed: int, work: Path) -> tuple[list[np.ndarray], dict]:
    """The detections of the network that the command line trains, whatever their scores."""
    import striate as program

    for folder, suffix in (("JPEGImages", "jpg"), ("Annotations", "xml")):
        (work / "data" / folder).mkdir(parents=True)
        for image in photographs.train:
            file = image.parent.parent / folder / f"{image.stem}.{suffix}"
            (work / "data" / folder / file.name).symlink_to(file)
    began = perf_counter()
    options = ["--data.test_fraction", "0", "--seed", str(seed), "--out", str(work / "run")]
    _run("train", str(work / "data"), "--minutes", f"{minutes:g}", *options)
    seconds = perf_counter() - began
    trained = program.load(work / "run")
    order = np.array([photographs.names.index(name) for name in trained.classes])
    found = []
    for image in photographs.test:
        decoded = trained.decode(torch.from_numpy(trained.prepare(image))[None])[0]
        rows = trained.task.in_file(decoded, trained.placement(image)).numpy()
        rows = rows[rows[:, 4] >= 0][:MOST, :6]
        rows[:, 4] = order[rows[:, 4].astype(int)]
        found.append(rows)
    metrics = json.loads((work / "run" / "metrics.json").read_text())
    return found, {"seconds": round(seconds), "params": metrics["params"], "epochs": metrics["epochs"]}


def fcos(photographs: Photographs, minutes: float, seed: int, work: Path) -> tuple[list[np.ndarray], dict]:
    """Those of the plain network, of about as many parameters as striate's."""
    del work
    boxes = [photographs.boxes[image] for image in photographs.train]
    found, params, steps = train_and_detect(
        photographs.train, boxes, photographs.test, len(photographs.names), width=32, minutes=minutes, seed=seed
    )
    return found, {"params": params, "steps": steps}


def measure_boxes(found: list[np.ndarray], photographs: Photographs) -> dict[str, float]:
    """COCO's figures."""
    from striate.tasks.detect.assess import by_coco

    def entry(image: int, row: np.ndarray) -> dict[str, object]:
        x0, y0, x1, y1, kind = map(float, row[:5])
        box = [x0, y0, x1 - x0, y1 - y0]
        return {"image_id": image, "category_id": int(kind) + 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}

    rows = [photographs.boxes[image] for image in photographs.test]
    truth = [entry(k, row) for k, each in enumerate(rows, 1) for row in each]
    truth = [one | {"id": number} for number, one in enumerate(truth, 1)]
    said = [entry(k, row) | {"score": float(row[5])} for k, each in enumerate(found, 1) for row in each]
    figures = by_coco(truth, said, len(rows), len(photographs.names), MOST)
    return {key: round(value, 4) for key, value in figures.items()}


def detect(options: argparse.Namespace) -> None:
    contenders = {"striate": striate_boxes, "fcos": fcos}
    compete(options, DETECTION_SETS, contenders, measure_boxes, lambda row: row["map50"])


PARTS = {"segment": segment, "detect": detect}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("sets", nargs="*")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only")
    options = parser.parse_args()
    PARTS[options.part](options)


if __name__ == "__main__":
    main()
