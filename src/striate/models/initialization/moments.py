"""Mean square of a signal after an activation and in a padded map, and the variance it should have; free of torch.

Before an activation, the signal is assumed normal with mean 0, like the sum of many independent inputs (Neal, 1995;
Poole et al., "Exponential expressivity in deep neural networks through transient chaos", NeurIPS 2016).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.layers.axis_windows import AxisWindows
from striate.models.layer_strings.spec import Layer

Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]

RECTIFIED = ("relu", "leaky", "prelu", "elu", "swish", "maxout")
SATURATING = ("sigmoid", "tanh")
ACTIVATIONS = (*RECTIFIED, *SATURATING)

TANH_VARIANCE = 0.25
"""Variance before tanh. A larger one makes the gradient change by a larger factor in each layer (1.2 at a variance of
1, 1.03 here); a smaller one makes tanh linear. Before sigmoid, (1 + tanh(z / 2)) / 2, it is four times as large."""

_NODES = np.linspace(-8.0, 8.0, 1601)
_DENSITY = np.exp(-(_NODES**2) / 2)
_DENSITY /= _DENSITY.sum()


@lru_cache(maxsize=256)
def moments(activation: Layer, variance: float) -> tuple[float, float]:
    """Mean and mean square of the activation's output for normal inputs with this variance.

    For `maxout` of k pieces, those of the largest of k independent inputs.
    """
    share = _DENSITY
    if activation.word == "maxout":
        pieces = _number(activation, "pieces")
        share = _DENSITY * pieces * np.array([NormalDist().cdf(z) for z in _NODES]) ** (pieces - 1)
        share = share / share.sum()
    values = _curve(activation)(_NODES * math.sqrt(variance))
    return float((values * share).sum()), float((values**2 * share).sum())


@lru_cache(maxsize=256)
def wanted_variance(activation: Layer) -> float:
    """The variance before the activation with which signal and gradient pass through a deep network.

    For relu and similar activations, it is the variance that gives their output a mean square of 1: 2 for relu,
    2 / (1 + slope²) for leaky (He et al., ICCV 2015), 1 for maxout of two. The outputs of tanh and sigmoid never have
    that mean square: `TANH_VARIANCE`. For all others, it is 1.
    """
    if activation.word not in ACTIVATIONS:
        return 1.0
    if activation.word in SATURATING:
        return TANH_VARIANCE * (4 if activation.word == "sigmoid" else 1)
    if activation.word in ("relu", "leaky"):
        return 2 / (1 + (_number(activation, "slope") if activation.word == "leaky" else 0.0) ** 2)
    from scipy.optimize import brentq  # half a second, and few networks need it

    found: Any = brentq(lambda log: moments(activation, math.exp(log))[1] - 1, -40, 40)
    return math.exp(found)


@lru_cache(maxsize=1024)
def kept_by_padding(along: AxisWindows) -> float:
    """The share of a signal's mean square that remains along an axis with zero padding, 0 to 1.

    For layers that keep the size, it is the largest eigenvalue of the matrix that says which position is computed from
    which, as in a deep stack of such layers. For others, it is the mean share of taps inside the map. Maps beyond 128
    lose almost nothing.
    """
    size, places = along.size, along.count
    if size > 128 or along.padded == size:
        return 1.0
    taps = np.arange(places)[:, None] * along.stride - along.before + along.dilation * np.arange(along.kernel)
    inside = (taps >= 0) & (taps < size)
    if places != size or along.stride != 1:
        return max(float(inside.mean()), 1e-3)
    reads = np.zeros((places, size))
    np.add.at(reads, (np.nonzero(inside)[0], taps[inside]), 1 / along.kernel)
    return max(float(np.abs(np.linalg.eigvals(reads)).max()), 1e-3)


def _curve(activation: Layer) -> Curve:
    word = activation.word
    if word in ("leaky", "prelu"):
        slope = _number(activation, "slope") if word == "leaky" else 0.25  # where torch's PReLU begins
        return lambda z: np.where(z > 0, z, slope * z)
    if word == "elu":
        alpha = _number(activation, "alpha")
        return lambda z: np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0)))
    curves: dict[str, Curve] = {
        "relu": lambda z: np.maximum(z, 0),
        "swish": lambda z: z * _sigmoid(z),
        "sigmoid": _sigmoid,
        "tanh": np.tanh,
    }
    return curves.get(word, lambda z: z)


def _sigmoid(z: NDArray[np.float64]) -> NDArray[np.float64]:
    return (1 + np.tanh(z / 2)) / 2


def _number(layer: Layer, name: str) -> float:
    return float(str(layer[name]))
