"""Baselines of reconstruction: the mean image, and principal components, the best linear code."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.dataset import Dataset
from striate.data.store.stored import Inputs
from striate.tasks.baseline import MOST, Fitted, Method
from striate.tasks.task import Task
from striate.wording import several

COMPONENTS = 30
"""Default number of components, the code's dimension in Hinton and Salakhutdinov 2006; fewer for fewer images or
pixels."""
_VALUES = 200_000_000
"""Largest number of values (images × pixels) from which components are computed, 4 bytes each."""


def reconstruct_methods(data: Dataset, code: int | None = None) -> tuple[Method, ...]:
    """The mean image; principal components, as many as the dimension of the code."""
    pixels = int(np.prod(data.input_shape))
    count = min(code or COMPONENTS, len(data.splits["train"]) - 1, pixels)
    of = f", the dimension of the code{'' if code == count else ' or the largest possible number'}" if code else ""
    what = f"The first {count} principal components of the training images{of}: the best linear code."
    mean = Method("mean image", "Always predicts the mean of the training images.", _mean)
    return (mean, Method(f"PCA, {count} components", what, partial(_components, count))) if count > 0 else (mean,)


def _flat(inputs: Inputs, rows: NDArray[np.int64] | slice) -> NDArray[np.float32]:
    """(N, pixels) values from 0 to 1."""
    images = inputs[rows if isinstance(rows, slice) else torch.from_numpy(rows)].cpu().numpy()
    flat: NDArray[np.float32] = images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
    return flat


def _rows(data: Dataset, seed: int) -> NDArray[np.int64]:
    pixels, count = int(np.prod(data.input_shape)), len(data.splits["train"])
    most = max(1_000, min(MOST, _VALUES // pixels))
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


def _note(used: int, total: int) -> str:
    return f"Fitted on {used:,} of {several(total, 'training image')}, drawn at random." if used < total else ""


def _mean(data: Dataset, task: Task, seed: int) -> Fitted:
    del task
    rows, shape = _rows(data, seed), (len(data.splits["test"]), *data.input_shape)
    mean = _flat(data.splits["train"].inputs, rows).mean(0, dtype=np.float64).astype(np.float32)
    note = _note(len(rows), len(data.splits["train"]))
    decoded = torch.from_numpy(mean).reshape(1, *data.input_shape).expand(shape)
    return Fitted(decoded, "pixels, values 0 to 1", len(rows), note=note)


def _components(count: int, data: Dataset, task: Task, seed: int) -> Fitted:
    """Computed as eigenvectors of the covariance, or by scikit-learn's randomized solver where pixels are many."""
    from sklearn.decomposition import PCA

    del task
    rows, test = _rows(data, seed), data.splits["test"]
    x = _flat(data.splits["train"].inputs, rows)
    model = PCA(count, random_state=seed).fit(x)
    decoded = np.concatenate(
        [
            model.inverse_transform(model.transform(_flat(test.inputs, slice(start, start + 1_000)))).astype(np.float32)
            for start in range(0, len(test), 1_000)
        ]
    )
    note = _note(len(rows), len(data.splits["train"]))
    shape = (len(test), *data.input_shape)
    return Fitted(torch.from_numpy(decoded).reshape(shape), "pixels, values 0 to 1", len(rows), note=note)
