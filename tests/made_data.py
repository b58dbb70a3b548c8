"""Small data sets whose answer is known."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from striate.data.dataset import Dataset, Preparation, Split

SIZES = {"train": 90, "val": 30, "test": 30}


def picture(path: Path, value=0, size=(6, 4), mode="L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


def png(value: int = 0) -> bytes:
    out = io.BytesIO()
    Image.new("L", (6, 4), value).save(out, "PNG")
    return out.getvalue()


def made_dataset(kind, annotation, splits, classes=()):
    """`splits`: name → (inputs, targets) as arrays."""
    first = 0
    made = {}
    for name, (inputs, targets) in splits.items():
        ids = torch.arange(first, first + len(inputs))
        made[name] = Split(torch.from_numpy(np.asarray(inputs)), torch.from_numpy(np.asarray(targets)), ids)
        first += len(inputs)
    shape = tuple(next(iter(made.values())).inputs.shape[1:])
    names = ("value",) if annotation == "number" else ()
    return Dataset(
        "made", "made", kind, annotation, made, tuple(classes), Preparation(kind, shape), (), "", target_names=names
    )


def stripes(channels=1, size=16, shuffled=False, sizes=SIZES, seed=0):
    """Images of two classes, upright and level stripes of random phase: no pixel tells them apart, edges do.

    In color both classes have the same stripes, and their hue tells them apart. `shuffled`: labels at random.
    """
    rng = np.random.default_rng(seed)
    splits = {}
    for name, n in sizes.items():
        targets = np.arange(n) % 2
        phases = rng.uniform(0, 2 * np.pi, n)
        wave = 127 + 90 * np.sin(np.arange(size)[None] + phases[:, None])
        images = np.repeat(wave[:, None, :], size, 1)
        if channels == 1:
            images[targets == 1] = images[targets == 1].transpose(0, 2, 1)
            images = images[:, None]
        else:
            images = (
                images[:, None] * np.where(targets[:, None] == 0, [[1, 0.5, 0.2]], [[0.2, 0.5, 1]])[..., None, None]
            )
        images = np.clip(images + rng.normal(0, 8, images.shape), 0, 255).astype(np.uint8)
        splits[name] = (images, rng.permutation(targets) if shuffled else targets)
    return made_dataset("image", "class", splits, ("upright", "level"))


def blobs(centers=3, features=4, sizes=SIZES, seed=0):
    """A table of classes that lie far apart."""
    rng = np.random.default_rng(seed)
    splits = {}
    for name, n in sizes.items():
        targets = np.arange(n) % centers
        means = np.eye(centers, features)[targets] * 50
        splits[name] = ((means + rng.normal(0, 1, means.shape)).astype(np.float32), targets)
    return made_dataset("table", "class", splits, [f"c{k}" for k in range(centers)])


def line(curved=False, sizes=SIZES, seed=0):
    """A table of three features, whose number is a sum of them or (`curved`) a product."""
    rng = np.random.default_rng(seed)
    splits = {}
    for name, n in sizes.items():
        x = rng.uniform(-2, 2, (n, 3)).astype(np.float32)
        y = x[:, :1] * x[:, 1:2] if curved else 3 * x[:, :1] - x[:, 1:2] + 7
        splits[name] = (x, (y + rng.normal(0, 0.05, y.shape)).astype(np.float32))
    return made_dataset("table", "number", splits)


def squares(sizes=None, size=16, seed=0):
    """Bright squares (class 1) on dark ground (class 0); a border that nobody labeled."""
    rng = np.random.default_rng(seed)
    splits = {}
    for name, n in (sizes or {"train": 12, "val": 4, "test": 6}).items():
        masks = np.zeros((n, size, size), np.uint8)
        for mask in masks:
            y, x = rng.integers(2, size - 8, 2)
            mask[y : y + 6, x : x + 6] = 1
        images = np.where(masks == 1, 200, 50) + rng.normal(0, 15, masks.shape)
        masks[:, 0] = 255
        splits[name] = (np.clip(images, 0, 255).astype(np.uint8)[:, None], masks)
    return made_dataset("image", "mask", splits, ("0", "1"))
