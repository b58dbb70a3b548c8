"""Baselines of keypoints: the mean shape, and ridge regression on a small copy of each image."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from torch.nn import functional

from striate.data.dataset import Dataset, Split
from striate.tasks.baseline import Fitted, Method, choose_by_validation
from striate.tasks.task import Task

_SIDE = 16
"""Side in pixels of the small copies of images for ridge regression."""
_ALPHAS = (1e5, 1e4, 1e3, 100.0, 10.0)
_PART = 512


def keypoint_methods(data: Dataset) -> tuple[Method, ...]:
    """The baselines, the same for all images."""
    del data
    return (
        Method("mean shape", "Predicts the mean position of each point in the training images.", _mean_shape),
        Method("ridge regression", f"A linear function of the images at {_SIDE} × {_SIDE} pixels.", _ridge),
    )


def mean_shape(split: Split) -> torch.Tensor:
    """(K, 2) mean position of each point in the samples where it is visible; the center for points that never are."""
    targets = split.targets.cpu().double()
    seen = (targets[..., 2:3] > 0).double()
    mean: torch.Tensor = (targets[..., :2] * seen).sum(0) / seen.sum(0).clamp(min=1)
    return mean


def _predicted(places: torch.Tensor) -> torch.Tensor:
    """Positions (N, K, 2) as predictions, all with the same confidence."""
    return torch.cat([places.float(), torch.ones(*places.shape[:2], 1)], dim=2)


def _mean_shape(data: Dataset, task: Task, seed: int) -> Fitted:
    del task, seed
    train, test = data.splits["train"], data.splits["test"]
    return Fitted(_predicted(mean_shape(train).expand(len(test), -1, -1)), "none", len(train))


def _ridge(data: Dataset, task: Task, seed: int) -> Fitted:
    del seed
    train, val, test = (data.splits[name] for name in ("train", "val", "test"))
    mean = mean_shape(train).numpy()
    x, val_x, test_x = (_small(split) for split in (train, val, test))
    targets = train.targets.cpu().double().numpy()
    y = np.where(targets[..., 2:3] > 0, targets[..., :2] - mean, 0).reshape(len(train), -1)

    def fit(alpha: float, positions: NDArray[np.int64]) -> Ridge:
        return Ridge(alpha).fit(x[positions], y[positions])

    def predict(model: Ridge, inputs: NDArray[np.float64]) -> torch.Tensor:
        places = model.predict(inputs).reshape(len(inputs), *mean.shape) + mean
        return _predicted(torch.from_numpy(places))

    def score(model: Ridge) -> float:
        return -float(task.measure(predict(model, val_x), val.targets.cpu())[task.headline])

    everything = np.arange(len(y))
    alpha, model = choose_by_validation(_ALPHAS, fit, score, everything, everything)
    features = f"pixels at {_SIDE} × {_SIDE}"
    return Fitted(predict(model, test_x), features, len(y), {"alpha": alpha})


def _small(split: Split) -> NDArray[np.float64]:
    parts = []
    for start in range(0, len(split), _PART):
        images = split.inputs[start : start + _PART].cpu().float() / 255
        parts.append(functional.adaptive_avg_pool2d(images, _SIDE).flatten(1))
    return np.asarray(torch.cat(parts).double().numpy())
