"""Boltzmann machines from the definition: energy, conditional probabilities, free energy, partition function.

Units are binary, or visible ones real-valued (`gaussian`): visible v (N, V), hidden h (N, H), weights w (H, V), biases
a (V,) of visible and b (H,) of hidden units.

    E(v, h) = −a·v − b·h − h·W·v          binary
    E(v, h) = ½‖v − a‖² − b·h − h·W·v     gaussian, of variance 1

Sources: Smolensky, "Information processing in dynamical systems: foundations of harmony theory", 1986; Hinton, "A
practical guide to training restricted Boltzmann machines", 2010; Lee et al., "Convolutional deep belief networks for
scalable unsupervised learning of hierarchical representations", ICML 2009 (probabilistic max pooling).
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import ArrayLike

from striate.errors import ShapeError, UsageError
from striate.reference.activations import sigmoid
from striate.reference.arguments import Array, array, maps, whole

MOST_UNITS = 20
"""Most units of the layer that is enumerated: 2²⁰ states."""


def boltzmann_energy(
    v: ArrayLike, h: ArrayLike, w: ArrayLike, a: ArrayLike, b: ArrayLike, *, gaussian: bool = False
) -> Array:
    """E(v, h) of each pair: (N, V) and (N, H) to (N,). Raises ShapeError."""
    seen, hidden, weight, offset, bias = _fitting(v, w, a, b, h)
    visible = 0.5 * np.square(seen - offset).sum(1) if gaussian else -(seen @ offset)
    energy: Array = visible - hidden @ bias - np.einsum("nh,hv,nv->n", hidden, weight, seen)
    return energy


def hidden_given_visible(v: ArrayLike, w: ArrayLike, b: ArrayLike) -> Array:
    """P(h = 1 | v) = σ(b + W v): (N, V) to (N, H). Raises ShapeError."""
    states, weight, bias = array(v, "v"), array(w, "w"), array(b, "b")
    if not states.ndim == weight.ndim == 2 or (len(weight), states.shape[1]) != (bias.size, weight.shape[1]):
        got = f"v {states.shape}, w {weight.shape}, b {bias.shape}"
        raise ShapeError("v", got, "v (N, V), w (H, V), b (H,)", _fit(states, weight, 1, "v"))
    return sigmoid(states @ weight.T + bias)


def visible_given_hidden(h: ArrayLike, w: ArrayLike, a: ArrayLike, *, gaussian: bool = False) -> Array:
    """P(v = 1 | h) = σ(a + Wᵀ h), or the mean a + Wᵀ h of `gaussian` units: (N, H) to (N, V). Raises
    ShapeError."""
    states, weight, bias = array(h, "h"), array(w, "w"), array(a, "a")
    if not states.ndim == weight.ndim == 2 or (states.shape[1], bias.size) != weight.shape:
        got = f"h {states.shape}, w {weight.shape}, a {bias.shape}"
        raise ShapeError("h", got, "h (N, H), w (H, V), a (V,)", _fit(states, weight, 0, "h"))
    sums: Array = states @ weight + bias
    return sums if gaussian else sigmoid(sums)


def free_energy(v: ArrayLike, w: ArrayLike, a: ArrayLike, b: ArrayLike, *, gaussian: bool = False) -> Array:
    """F(v) = −log Σ_h exp(−E(v, h)), by the closed form: (N, V) to (N,). Raises ShapeError."""
    seen, _, weight, offset, bias = _fitting(v, w, a, b)
    visible = 0.5 * np.square(seen - offset).sum(1) if gaussian else -(seen @ offset)
    energy: Array = visible - np.logaddexp(0, seen @ weight.T + bias).sum(1)
    return energy


def log_partition(w: ArrayLike, a: ArrayLike, b: ArrayLike) -> float:
    """log Z = log Σ_v Σ_h exp(−E(v, h)) of binary units, by enumeration of the smaller layer.

    Raises UsageError where both layers have more than 20 units.
    """
    weight = array(w, "w")
    if weight.ndim != 2:
        raise ShapeError("w", f"shape {weight.shape}", "(H, V): a row a hidden unit", "w[None]")
    if weight.shape[0] < weight.shape[1]:  # the same machine with its layers exchanged
        weight, a, b = weight.T, b, a
    if weight.shape[1] > MOST_UNITS:
        got = f"{weight.shape[0]} and {weight.shape[1]} units"
        raise UsageError("w", got, f"at most {MOST_UNITS} on one side", "estimate it by annealed importance sampling")
    states = np.array(list(itertools.product((0.0, 1.0), repeat=weight.shape[1])))
    return float(np.logaddexp.reduce(-free_energy(states, weight, a, b)))


def probabilistic_max_pool(x: ArrayLike, size: int) -> tuple[Array, Array]:
    """Probabilities from the inputs x (N, K, H, W) of detection units, in blocks of size × size with at most one unit
    on: P(h = 1), (N, K, H, W), and P(p = 1) of the pooling unit above each block, (N, K, H/size, W/size).

    P(h_i = 1) = exp(x_i) / (1 + Σ_block exp(x)), P(p = 0) = 1 / (1 + Σ_block exp(x)). Raises ShapeError where blocks
    do not fit.
    """
    inputs, size = maps(x), whole(size, "size")
    if inputs.ndim != 4:
        raise ShapeError("x", f"shape {inputs.shape}", "(N, K, H, W)", "x[:, :, None] for maps of one row")
    n, k, height, width = inputs.shape
    if height % size or width % size:
        raise ShapeError("x", f"maps of {height}×{width}", f"sides that {size} divides", "crop the maps")
    blocks = inputs.reshape(n, k, height // size, size, width // size, size)
    largest = np.maximum(blocks.max((3, 5), keepdims=True), 0)
    strengths = np.exp(blocks - largest)
    total = np.exp(-largest) + strengths.sum((3, 5), keepdims=True)
    on: Array = (1 - np.exp(-largest) / total)[:, :, :, 0, :, 0]
    return (strengths / total).reshape(inputs.shape), on


def _fit(states: Array, weight: Array, side: int, name: str) -> str:
    """What makes states of the units along `side` of the weights fit them."""
    if weight.ndim != 2 or not states.ndim:
        return f"{name}[None] for one sample, w[None] for one hidden unit"
    units = states.shape[-1]
    if states.ndim < 3 and weight.shape[1 - side] == units != weight.shape[side]:
        return "w.T"
    if states.shape == weight.shape[side : side + 1]:
        return f"{name}[None], a batch of one"
    bias = "b" if side else "a"
    return (
        f"as w is {weight.shape}: {name}=np.zeros((1, {weight.shape[side]})), {bias}=np.zeros({weight.shape[1 - side]})"
    )


def _fitting(
    v: ArrayLike, w: ArrayLike, a: ArrayLike, b: ArrayLike, h: ArrayLike | None = None
) -> tuple[Array, Array, Array, Array, Array]:
    """v, h (zeros where there is none), w, a, b in float64. Raises ShapeError."""
    seen, weight, offset, bias = (array(x, name) for x, name in zip((v, w, a, b), "vwab", strict=True))
    hidden = np.zeros((len(seen) if seen.ndim else 0, bias.size)) if h is None else array(h, "h")
    fits = seen.ndim == hidden.ndim == 2 and len(seen) == len(hidden) and offset.ndim == bias.ndim == 1
    if not fits or weight.shape != (hidden.shape[1], seen.shape[1]) or weight.shape != (bias.size, offset.size):
        got = f"v {seen.shape}, h {hidden.shape}, w {weight.shape}, a {offset.shape}, b {bias.shape}"
        raise ShapeError("v", got, "v (N, V), h (N, H), w (H, V), a (V,), b (H,)", "transpose w, or flatten the images")
    return seen, hidden, weight, offset, bias
