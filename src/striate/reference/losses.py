"""Losses of classification, from logits and class numbers to one number, each with its gradient by the logits.

`logits` is (N, K), (N, K, *spatial) with a class for each position, or (K) for one sample; `labels` is that without K.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import ShapeError
from striate.reference.activations import softmax
from striate.reference.arguments import Array, array, channel_axis, labels, number


def cross_entropy(logits: ArrayLike, labels: ArrayLike) -> float:
    """The mean over samples of −log softmax(logits)[label], in nats: log K where nothing is known.

    UsageError, ShapeError where labels do not fit.
    """
    z, right = _read(logits, labels)
    z = z - z.max(axis=1, keepdims=True)
    of_right = np.take_along_axis(z, right, axis=1)[:, 0]
    return float((np.log(np.exp(z).sum(axis=1)) - of_right).mean())


def cross_entropy_backward(logits: ArrayLike, labels: ArrayLike) -> Array:
    """(softmax(logits) − one-hot(label)) / N: the prediction minus the target."""
    z, right = _read(logits, labels)
    return _as_given((softmax(z) - _one_hot(z, right)) / len(z), logits)


def hinge(logits: ArrayLike, labels: ArrayLike, margin: float = 1.0) -> float:
    """The mean over samples of Σ max(0, margin + logit − logit of the right class) over the wrong classes.

    The multi-class SVM loss: zero once the right class leads by `margin`. torch's `multi_margin_loss` divides this by
    K. Source: Weston and Watkins, "Multi-class support vector machines", 1998.
    """
    z, right = _read(logits, labels)
    return float(_excess(z, right, margin).sum(axis=1).mean())


def hinge_backward(logits: ArrayLike, labels: ArrayLike, margin: float = 1.0) -> Array:
    """1/N for each wrong class inside the margin, and minus their sum for the right class."""
    z, right = _read(logits, labels)
    inside = (_excess(z, right, margin) > 0).astype(np.float64)
    return _as_given((inside - _one_hot(z, right) * inside.sum(axis=1, keepdims=True)) / len(z), logits)


def _excess(z: Array, right: NDArray[np.intp], margin: float) -> Array:
    lead = number(margin, "margin", low=0) + z - np.take_along_axis(z, right, axis=1)
    return np.where(_one_hot(z, right) > 0, 0, np.maximum(lead, 0))


def _one_hot(z: Array, right: NDArray[np.intp]) -> Array:
    hot: Array = (np.arange(z.shape[1]) == right).astype(np.float64)
    return hot


def _read(logits: ArrayLike, classes: ArrayLike) -> tuple[Array, NDArray[np.intp]]:
    """Logits (M, K) and labels (M, 1), a row a sample and position."""
    z = array(logits, "logits")
    if z.ndim == 0 or z.size == 0:
        sides = tuple(side or 1 for side in z.shape) or (1, 10)
        expected = "(N, K): a number for each sample and class, at least one of each"
        raise ShapeError("logits", f"shape {z.shape}", expected, f"logits=np.zeros({sides})")
    axis = channel_axis(z)
    right = labels(classes, z.shape[axis], z.shape[:axis] + z.shape[axis + 1 :])
    return np.moveaxis(z, axis, -1).reshape(-1, z.shape[axis]), right.reshape(-1, 1)


def _as_given(grad: Array, logits: ArrayLike) -> Array:
    z = np.asarray(logits)
    axis = channel_axis(z)
    rows = grad.reshape(*z.shape[:axis], *z.shape[axis + 1 :], z.shape[axis])
    return np.moveaxis(rows, -1, axis)
