"""Baselines of a segmentation: the most frequent class, and a random forest on each pixel's surroundings."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from torch.nn import functional

from striate.data.annotations.masks import IGNORED
from striate.data.dataset import Dataset, Split
from striate.data.normalize import Normalization, measure_normalization
from striate.tasks.baseline import Fitted, Method, choose_by_validation
from striate.tasks.task import Task

_PIXELS = 50_000
"""Largest number of training pixels."""
_IMAGES = 50
"""Largest number of validation images that hyperparameters are chosen on."""
_LEAVES = (100, 20, 4)
_TREES = 30
_NEAR, _FAR = 5, 15
"""Sides of the windows in pixels."""
FEATURES = (
    f"for at most {_PIXELS:,} labeled pixels: color, its mean over {_NEAR} × {_NEAR} and {_FAR} × {_FAR} pixels,"
    f" its standard deviation over {_NEAR} × {_NEAR}, position"
)


def segment_methods(data: Dataset) -> tuple[Method, ...]:
    """The baselines, the same for all images."""
    del data
    forest = "Decision trees that predict the class of each pixel from its color, surroundings and position."
    return (
        Method("majority class", "Predicts the most common class of the training pixels for every pixel.", _majority),
        Method("random forest on pixels", forest, _forest),
    )


def _majority(data: Dataset, task: Task, seed: int) -> Fitted:
    del seed
    train, test = data.splits["train"].targets.cpu(), data.splits["test"].targets
    counts = torch.bincount(train[train != IGNORED].long(), minlength=task.outputs)
    predictions = torch.full(test.shape, int(counts.argmax()), dtype=torch.uint8)
    return Fitted(predictions, "none", int(counts.sum()))


def _forest(data: Dataset, task: Task, seed: int) -> Fitted:
    train, val, test = (data.splits[name] for name in ("train", "val", "test"))
    normalization = measure_normalization(train)
    x, y = _training_pixels(train, normalization, seed)
    some = np.linspace(0, len(val) - 1, min(len(val), _IMAGES)).round().astype(np.int64)
    looked_at = Split(val.inputs[some], val.targets[some], val.ids[some])
    weights = getattr(task, "class_weights", None)

    def fit(leaf: int, positions: NDArray[np.int64]) -> RandomForestClassifier:
        # A class may be absent from the drawn pixels; scikit-learn refuses weights for absent classes.
        balance = None if weights is None else {int(k): weights[k] for k in np.unique(y)}
        forest = RandomForestClassifier(_TREES, min_samples_leaf=leaf, class_weight=balance, random_state=seed)
        return forest.fit(x[positions], y[positions])

    def iou(forest: RandomForestClassifier) -> float:
        return float(task.measure(_predictions(forest, looked_at, normalization), looked_at.targets.cpu())["iou"])

    everything = np.arange(len(y))
    leaf, forest = choose_by_validation(_LEAVES, fit, iou, everything, everything)
    total = int((train.targets != IGNORED).sum())
    note = "" if len(y) == total else f"Fitted on {len(y):,} of the {total:,} labeled pixels, drawn from all images."
    decoded = _predictions(forest, test, normalization)
    return Fitted(decoded, FEATURES, len(y), {"trees": _TREES, "min_samples_leaf": leaf}, note)


def _training_pixels(
    train: Split, normalization: Normalization, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Features (P, F) and classes (P,) of labeled pixels, with about as many pixels from each image."""
    rng = np.random.default_rng(seed)
    images = rng.permutation(len(train))[:_PIXELS]
    each = -(-_PIXELS // len(images))
    xs: list[NDArray[Any]] = []
    ys: list[NDArray[Any]] = []
    for place in np.sort(images):
        classes = train.targets[place].cpu().numpy().ravel()
        labeled = np.flatnonzero(classes != IGNORED)
        drawn = np.sort(rng.choice(labeled, min(len(labeled), each), replace=False))
        xs.append(pixel_features(train.inputs[place : place + 1], normalization)[drawn])
        ys.append(classes[drawn])
    return np.concatenate(xs)[:_PIXELS], np.concatenate(ys)[:_PIXELS]


def _predictions(forest: RandomForestClassifier, split: Split, normalization: Normalization) -> torch.Tensor:
    """(N, H, W) uint8 predictions, one image at a time: the features of all pixels would not fit into memory."""
    masks = []
    for place in range(len(split)):
        classes = forest.predict(pixel_features(split.inputs[place : place + 1], normalization))
        masks.append(torch.from_numpy(classes.astype(np.uint8)).view(split.targets.shape[1:]))
    return torch.stack(masks)


def pixel_features(image: torch.Tensor, normalization: Normalization) -> NDArray[np.float32]:
    """(H · W, 4 C + 2) features of one image (1, C, H, W): standardized color, two local means, local standard
    deviation, position (0 to 1)."""
    x = normalization.on("cpu", 4)(image.cpu()).contiguous()
    near, far = _local_mean(x, _NEAR), _local_mean(x, _FAR)
    deviation = (_local_mean(x * x, _NEAR) - near * near).clamp(min=0).sqrt()
    rows, columns = torch.meshgrid(*(torch.linspace(0, 1, side) for side in x.shape[2:]), indexing="ij")
    layers = torch.cat([x, near, far, deviation, torch.stack([rows, columns])[None]], dim=1)
    return np.asarray(layers[0].flatten(1).T, dtype=np.float32)


def _local_mean(x: torch.Tensor, side: int) -> torch.Tensor:
    """The mean over the part of a window of `side` pixels that lies within the image."""
    return functional.avg_pool2d(x, side, stride=1, padding=side // 2, count_include_pad=False)
