"""The arithmetic of normalization: with running statistics, those of the image itself, or of neighboring maps."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from striate.lab.watching.pass_recorder import Call
from striate.lab.watching.unit_records import Line, Term, UnitArithmetic, in_sum, written
from striate.wording import several

_BATCH_NORMS = (
    "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm "
    "_batch_norm_with_update _batch_norm_no_update"
)
BATCH_NORMS = frozenset(_BATCH_NORMS.split())


def explain_batch_norm(call: Call, at: tuple[int, ...]) -> UnitArithmetic | None:
    """The number at (0, c, …) behind batch normalization, by running statistics or by those of the map itself."""
    x = call.tensor("input")
    if x is None:
        return None
    channel = at[1]
    means, variances = call.tensor("running_mean"), call.tensor("running_var")
    if means is None or variances is None or call.get("training", False):
        values = x[:, channel].double()
        mean, variance = _statistics(values)
        words = f"Map {channel}'s own mean and variance, of {several(values.numel(), 'number')} in this image."
    else:
        mean, variance = float(means[channel]), float(variances[channel])
        words = f"Mean and variance of map {channel} are the running statistics of training."
    return _normalized(call, at, x, mean, variance, float(call.get("eps", call.get("epsilon", 1e-5))), channel, words)


def explain_group_norm(call: Call, at: tuple[int, ...]) -> UnitArithmetic | None:
    """The number at (0, c, …) behind group normalization."""
    x = call.tensor("input")
    if x is None:
        return None
    groups = int(call.get("group", 1))
    each = x.shape[1] // groups
    first = at[1] // each * each
    values = x[0, first : first + each].double()
    which = "all maps" if groups == 1 else f"maps {first} to {first + each - 1}"
    words = f"Mean and variance are those of {which} in this image: {several(values.numel(), 'number')}."
    return _normalized(call, at, x, *_statistics(values), float(call.get("eps", 1e-5)), at[1], words)


def explain_layer_norm(call: Call, at: tuple[int, ...]) -> UnitArithmetic | None:
    """The number at a place behind layer normalization, over the last axes."""
    x, inner = call.tensor("input"), len(call.get("normalized_shape", ()))
    if x is None or not inner:
        return None
    outer = at[: x.ndim - inner]
    values = x[outer].double()
    words = f"Mean and variance are those of {several(values.numel(), 'number')} in this image."
    weight = call.tensor("weight")
    place = 0 if weight is None else int(np.ravel_multi_index(at[x.ndim - inner :], tuple(weight.shape)))
    return _normalized(call, at, x, *_statistics(values), float(call.get("eps", 1e-5)), place, words)


def _statistics(values: torch.Tensor) -> tuple[float, float]:
    """Mean and biased variance, as normalizations use them."""
    return float(values.mean()), float(values.var(correction=0))


def _normalized(
    call: Call, at: tuple[int, ...], x: torch.Tensor, mean: float, variance: float, eps: float, place: int, words: str
) -> UnitArithmetic:
    given = float(x[at])
    centered = given - mean
    value = centered / math.sqrt(variance + eps)
    lines = [
        Line("minus the mean", f"{written(given)} − {in_sum(mean)}", centered),
        Line("over the standard deviation", f"{written(centered)} / √({written(variance)} + {eps:g})", value),
    ]
    weight, bias = call.tensor("weight"), call.tensor("bias")
    if weight is not None:
        factor = float(weight.reshape(-1)[place])
        lines.append(Line("times the weight", f"{written(value)} · {in_sum(factor)}", value * factor))
        value *= factor
    if bias is not None:
        offset = float(bias.reshape(-1)[place])
        lines.append(Line("with the bias", f"{written(value)} + {in_sum(offset)}", value + offset))
        value += offset
    terms = (Term("goes in", given, None, given),)
    return UnitArithmetic("function", words, float(call.out[at]), value, terms=terms, lines=tuple(lines))


def explain_local_response(
    layer: nn.LocalResponseNorm, x: torch.Tensor, output: torch.Tensor, at: tuple[int, ...]
) -> UnitArithmetic:
    """The number at (0, c, …) behind local response normalization; windows of maps as in `striate.reference`."""
    low = max(0, at[1] - layer.size // 2)
    high = min(x.shape[1] - 1, at[1] + (layer.size - 1) // 2)
    given = float(x[at])
    terms, total = [], 0.0
    for channel in range(low, high + 1):
        value = float(x[(0, channel, *at[2:])])
        total += value * value
        terms.append(Term(f"map {channel}, squared", value, value, value * value))
    inner = layer.k + layer.alpha / layer.size * total
    value = given / inner**layer.beta
    lines = (
        Line("sum of squares", f"maps {low} to {high}", total),
        Line(
            "divided by",
            f"({layer.k:g} + {layer.alpha:g} / {layer.size} · {written(total)})^{layer.beta:g}",
            inner**layer.beta,
        ),
        Line("result", f"{written(given)} / {written(inner**layer.beta)}", value),
    )
    words = f"The number of map {at[1]}, divided by how active maps {low} to {high} are at the same place."
    return UnitArithmetic("terms", words, float(output[at]), value, terms=tuple(terms), lines=lines)
