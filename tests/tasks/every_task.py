"""What the tests of all tasks need to know of each: small data, a network, and annotations that are wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 16
"""Pixels of a side of every image."""
COUNT = 120
"""Images of a set."""


@dataclass(frozen=True)
class Example:
    """One task as its tests meet it.

    `make(folder)` writes `COUNT` images with their annotations, which a few epochs learn from, and gives the
    source; `network` is the layer string that learns it; `ask(source)` names three images to predict. `spoil(source)`
    damages one annotation and gives what the message must name: the file, and the line where it has lines. `keys` are
    those of a split in metrics.json beside `n` and `loss`, `fields` those of a line of `predict --json` beside `path`.
    `train` are further options of the training.
    """

    make: Callable[[Path], Path]
    network: str
    ask: Callable[[Path], list[Path]]
    spoil: Callable[[Path], tuple[str, ...]]
    keys: frozenset[str]
    fields: frozenset[str]
    headline: str
    train: tuple[str, ...] = field(default=())


def _images(count: int = COUNT) -> list[tuple[np.ndarray, tuple[int, int, int], int]]:
    """Disks and squares on noise: the image (H, W, 3), center and radius, and 0 for a disk, 1 for a square."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE]
    made = []
    for number in range(count):
        kind = number % 2
        cy, cx, radius = (int(value) for value in (rng.integers(5, 11), rng.integers(5, 11), rng.integers(3, 5)))
        inside = np.hypot(y - cy, x - cx) <= radius if kind == 0 else np.maximum(abs(y - cy), abs(x - cx)) <= radius
        image = rng.integers(40, 90, (SIZE, SIZE, 3))
        image[inside] += 120 if kind == 0 else 60
        made.append((image.astype(np.uint8), (cy, cx, radius), kind))
    return made


def _inside(place: tuple[int, int, int], kind: int) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE]
    cy, cx, radius = place
    distance = np.hypot(y - cy, x - cx) if kind == 0 else np.maximum(abs(y - cy), abs(x - cx))
    return distance <= radius


def _save(image: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def _class_folders(folder: Path) -> Path:
    for number, (image, _, kind) in enumerate(_images()):
        _save(image, folder / ("disk", "square")[kind] / f"{number:03}.png")
    return folder


def _images_alone(folder: Path) -> Path:
    for number, (image, _, _) in enumerate(_images()):
        _save(image, folder / f"{number:03}.png")
    return folder


def _manifest_of_numbers(folder: Path) -> Path:
    rows = ["path,label"]
    for number, (image, (_, _, radius), kind) in enumerate(_images()):
        _save(image, folder / f"{number:03}.png")
        rows.append(f"{number:03}.png,{radius + 0.5 * kind}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder / "labels.csv"


def _manifest_of_labels(folder: Path) -> Path:
    """Whether it is a disk, whether it is large, and whether it lies high; some are none of it."""
    rows = ["path,labels"]
    for number, (image, (cy, _, radius), kind) in enumerate(_images()):
        _save(image, folder / f"{number:03}.png")
        own = [name for name, there in (("disk", kind == 0), ("high", cy < 7), ("large", radius > 3)) if there]
        rows.append(f"{number:03}.png,{'|'.join(own)}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder / "labels.csv"


def _manifest_of_targets(folder: Path) -> Path:
    """Radius, shape and place; of every fifth the radius is not known, of every seventh the shape."""
    rows = ["path,radius,shape,place"]
    for number, (image, (cy, _, radius), kind) in enumerate(_images()):
        _save(image, folder / f"{number:03}.png")
        size = "" if number % 5 == 4 else str(radius + 0.5 * kind)
        shape = "" if number % 7 == 6 else ("disk", "square")[kind]
        own = [name for name, there in (("high", cy < 7), ("large", radius > 3)) if there]
        rows.append(f"{number:03}.png,{size},{shape},{'|'.join(own)}")
    (folder / "targets.csv").write_text("\n".join(rows) + "\n")
    return folder / "targets.csv"


def _folders_of_colors(folder: Path) -> Path:
    """Twelve classes that differ in the color of what is shown, ten images each."""
    colors = np.array([(r, g, b) for r in (0, 60, 120) for g in (0, 120) for b in (0, 120)])
    for number, (image, place, kind) in enumerate(_images()):
        shown = image.astype(np.int64)
        shown[_inside(place, kind)] = 40 + colors[number % 12]
        _save(shown.astype(np.uint8), folder / f"color{number % 12:02}" / f"{number:03}.png")
    return folder


def _images_and_masks(folder: Path) -> Path:
    for number, (image, place, kind) in enumerate(_images()):
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask[_inside(place, kind)] = 1
        mask[0, :2] = 255  # nobody labeled these
        _save(image, folder / "images" / f"{number:03}.png")
        _save(mask, folder / "masks" / f"{number:03}.png")
    return folder


def _images_and_numbered_masks(folder: Path) -> Path:
    for number, (image, place, kind) in enumerate(_images()):
        mask = np.zeros((SIZE, SIZE), np.uint16)
        mask[_inside(place, kind)] = 300 + number
        _save(image, folder / "images" / f"{number:03}.png")
        _save(mask, folder / "masks" / f"{number:03}.png")
    return folder


def _boxes_in_a_table(folder: Path) -> Path:
    rows = ["path,x_min,y_min,x_max,y_max,label"]
    for number, (image, (cy, cx, radius), kind) in enumerate(_images()):
        _save(image, folder / f"{number:03}.png")
        rows.append(f"{number:03}.png,{cx - radius},{cy - radius},{cx + radius + 1},{cy + radius + 1},{kind}")
    (folder / "boxes.csv").write_text("\n".join(rows) + "\n")
    return folder / "boxes.csv"


def _manifest_of_points(folder: Path) -> Path:
    """Center, left and right edge, and the top, which is not visible of every fourth."""
    rows = ["path,center_x,center_y,left_edge_x,left_edge_y,right_edge_x,right_edge_y,top_x,top_y"]
    for number, (image, (cy, cx, radius), _) in enumerate(_images()):
        _save(image, folder / f"{number:03}.png")
        x, y = cx + 0.5, cy + 0.5
        top = f"{x},{y - radius}" if number % 4 else ","
        rows.append(f"{number:03}.png,{x},{y},{x - radius},{y},{x + radius},{y},{top}")
    (folder / "points.csv").write_text("\n".join(rows) + "\n")
    return folder / "points.csv"


def _manifest_of_captions(folder: Path) -> Path:
    """Two captions of each: what it is, and where it lies."""
    rows = ["path,caption"]
    for number, (image, (cy, _, radius), kind) in enumerate(_images()):
        _save(image, folder / f"{number:03}.png")
        what, where = ("disk", "square")[kind], "above" if cy < 7 else "below"
        rows += [f"{number:03}.png,A {what}.", f"{number:03}.png,a {'large ' if radius > 3 else ''}{what} {where}"]
    (folder / "captions.csv").write_text("\n".join(rows) + "\n")
    return folder / "captions.csv"


def _cut_image(source: Path) -> tuple[str, ...]:
    """A class needs no file of its own: what can be wrong is the image under it."""
    file = sorted(source.rglob("*.png"))[3]
    file.write_bytes(file.read_bytes()[:40])
    return (file.name,)


def _word_for_a_number(source: Path) -> tuple[str, ...]:
    lines = source.read_text().splitlines()
    lines[5] = ",".join(("many" if place == 1 else field) for place, field in enumerate(lines[5].split(",")))
    source.write_text("\n".join(lines) + "\n")
    return ("line 6", "many")


def _half_a_point(source: Path) -> tuple[str, ...]:
    lines = source.read_text().splitlines()
    name, _, *rest = lines[5].split(",")
    lines[5] = ",".join([name, "", *rest])
    source.write_text("\n".join(lines) + "\n")
    return ("line 6", name, "center")


def _split_of_another_name(source: Path) -> tuple[str, ...]:
    lines = source.read_text().splitlines()
    words = ["split", *("train" for _ in lines[1:])]
    words[5] = "often"
    source.write_text("\n".join(f"{line},{word}" for line, word in zip(lines, words, strict=True)) + "\n")
    return ("line 6", "often")


def _mask_of_another_size(source: Path) -> tuple[str, ...]:
    Image.fromarray(np.zeros((SIZE // 2, SIZE), np.uint8)).save(source / "masks" / "004.png")
    return ("004.png", f"{SIZE // 2} × {SIZE}")


EXAMPLES: dict[str, Example] = {
    "classify": Example(
        _class_folders,
        "conv(8,3,pad=1) bn relu pool(2) conv(8,3,pad=1) bn relu gap dropout(0.1) fc(2)",
        lambda source: sorted(source.rglob("*.png"))[:3],
        _cut_image,
        frozenset(("accuracy", "accuracy_interval", "top5", "macro_f1")),
        frozenset(("label", "probability", "top")),
        "accuracy",
    ),
    "regress": Example(
        _manifest_of_numbers,
        "conv(8,3,pad=1) bn relu pool(2) conv(8,3,pad=1) bn relu gap dropout(0.1) fc(1)",
        lambda source: sorted(source.parent.glob("*.png"))[:3],
        _word_for_a_number,
        frozenset(("rmse", "mae", "r2")),
        frozenset(("value",)),
        "RMSE",
        ("--task", "regress"),
    ),
    "multilabel": Example(
        _manifest_of_labels,
        "conv(8,3,pad=1) bn relu pool(2) conv(8,3,pad=1) bn relu gap dropout(0.1) fc(3)",
        lambda source: sorted(source.parent.glob("*.png"))[:3],
        _split_of_another_name,
        frozenset(("map", "macro_f1", "micro_f1", "exact_match")),
        frozenset(("labels", "probabilities")),
        "mAP",
    ),
    "several": Example(
        _manifest_of_targets,
        "conv(8,3,pad=1) bn relu pool(2) conv(8,3,pad=1) bn relu gap dropout(0.1) fc(5)",
        lambda source: sorted(source.parent.glob("*.png"))[:3],
        lambda source: (*_word_for_a_number(source)[1:], "004.png", "column radius"),
        frozenset(("error", "targets")),
        frozenset(("targets",)),
        "mean error",
        ("--targets", "radius:number,shape:class,place:multilabel"),
    ),
    "segment": Example(
        _images_and_masks,
        "conv(8,3,pad=1) bn relu conv(8,3,pad=1) bn relu dropout(0.1) conv(2,1)",
        lambda source: sorted((source / "images").glob("*.png"))[:3],
        _mask_of_another_size,
        frozenset(("iou", "pixel_accuracy")),
        frozenset(("shares",)),
        "mean IoU",
    ),
    "detect": Example(
        _boxes_in_a_table,
        "conv(8,3,pad=1) bn relu pool(2) conv(16,3,pad=1) bn relu pool(2) conv(16,3,pad=1) bn relu dropout(0.1)",
        lambda source: sorted(source.parent.glob("*.png"))[:3],
        _word_for_a_number,
        frozenset(("map", "map50", "map75", "precision", "recall", "threshold")),
        frozenset(("width", "height", "boxes")),
        "mAP",
    ),
    "instances": Example(
        _images_and_numbered_masks,
        "conv(8,3,pad=1) bn relu pool(2) conv(16,3,pad=1) bn relu pool(2) conv(16,3,pad=1) bn relu dropout(0.1)",
        lambda source: sorted((source / "images").glob("*.png"))[:3],
        _mask_of_another_size,
        frozenset(("mask_map", "mask_map50", "map", "map50", "map75", "precision", "recall", "threshold")),
        frozenset(("width", "height", "boxes")),
        "mask mAP",
        ("--task", "instances"),
    ),
    "keypoints": Example(
        _manifest_of_points,
        "conv(8,3,pad=1) bn relu conv(8,3,pad=1) bn relu pool(2) conv(8,3,pad=1) bn relu dropout(0.1)",
        lambda source: sorted(source.parent.glob("*.png"))[:3],
        _half_a_point,
        frozenset(("nme", "pck", "auc")),
        frozenset(("points",)),
        "NME",
    ),
    "embed": Example(
        _folders_of_colors,
        "conv(8,3,pad=1) bn relu pool(2) conv(8,3,pad=1) bn relu gap dropout(0.1) fc(128)",
        lambda source: sorted(source.rglob("*.png"))[:3],
        _cut_image,
        frozenset(("recall@1", "recall@1_interval", "recall@5", "map@r", "auc", "eer", "threshold")),
        frozenset(("embedding",)),
        "recall@1",
        ("--task", "embed"),
    ),
    "reconstruct": Example(
        _images_alone,
        "conv(8,3,pad=1) bn relu pool(2) dropout(0.1) code(8)",
        lambda source: sorted(source.glob("*.png"))[:3],
        _cut_image,
        frozenset(("mse", "psnr", "squared_error")),
        frozenset(("mse",)),
        "mean squared error",
        ("--task", "reconstruct"),
    ),
    "caption": Example(
        _manifest_of_captions,
        "conv(8,3,pad=1) bn relu pool(2) conv(16,3,pad=1) bn relu dropout(0.1)",
        lambda source: sorted(source.parent.glob("*.png"))[:3],
        _split_of_another_name,
        frozenset(("bleu4", "cider", "rouge_l", "exact_match", "perplexity")),
        frozenset(("caption", "probability")),
        "BLEU-4",
    ),
}
"""A new task gets its entry here; without one `test_every_task_has_an_example` fails."""
