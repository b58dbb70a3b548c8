"""The arithmetic of elementwise operations: activations, sums and products, and the normalization of the image."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from striate.lab.watching.pass_recorder import Call
from striate.lab.watching.unit_records import InputRegion, Line, Term, UnitArithmetic, broadcast_number, in_sum, written
from striate.lab.watching.watched_network import WatchedPass

Formula = Callable[[float, Call], tuple[str, float]]
"""Maps the input number to the formula in writing, and its result."""


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _leaky(x: float, call: Call) -> tuple[str, float]:
    slope = float(call.get("negative_slope", 0.01))
    return (f"{written(x)} · {slope:g}", x * slope) if x < 0 else (f"{written(x)}, as it is not negative", x)


def _elu(x: float, call: Call) -> tuple[str, float]:
    alpha, scale = float(call.get("alpha", 1)), float(call.get("scale", 1))
    inner = float(call.get("input_scale", 1))
    factor = "" if scale == 1 else f"{scale:.5g} · "
    if x > 0:
        return (f"{factor}{written(x)}" if factor else f"{written(x)}, as it is positive"), scale * x
    return f"{factor}{alpha:.5g} · (exp({written(x)}) − 1)", scale * alpha * math.expm1(x * inner)


def _celu(x: float, call: Call) -> tuple[str, float]:
    alpha = float(call.get("alpha", 1))
    if x > 0:
        return f"{written(x)}, as it is positive", x
    return f"{alpha:.5g} · (exp({written(x)} / {alpha:.5g}) − 1)", alpha * math.expm1(x / alpha)


def _clamp(x: float, low: Any, high: Any) -> tuple[str, float]:
    value, text = x, written(x)
    if low is not None:
        value, text = max(float(low), value), f"max({float(low):g}, {text})"
    if high is not None:
        value, text = min(float(high), value), f"min({float(high):g}, {text})"
    return text, value


def _gelu(x: float, call: Call) -> tuple[str, float]:
    if call.get("approximate", "none") != "none":
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        return f"{written(x)} / 2 · (1 + tanh({written(inner)}))", x / 2 * (1 + math.tanh(inner))
    return f"{written(x)} / 2 · (1 + erf({written(x)} / √2))", x / 2 * (1 + math.erf(x / math.sqrt(2)))


def _softplus(x: float, call: Call) -> tuple[str, float]:
    beta, threshold = float(call.get("beta", 1)), float(call.get("threshold", 20))
    if x * beta > threshold:
        return f"{written(x)}, as it is large", x
    return f"ln(1 + exp({beta:g} · {in_sum(x)})) / {beta:g}", math.log1p(math.exp(beta * x)) / beta


def _power(x: float, call: Call) -> tuple[str, float]:
    power = float(call.get("exponent", 2))
    return f"{in_sum(x)}^{power:g}", float(torch.tensor(x, dtype=torch.float64) ** power)


_FORMULAS: dict[str, Formula] = {
    "relu": lambda x, _: (f"max(0, {written(x)})", max(0.0, x)),
    "leaky_relu": _leaky,
    "elu": _elu,
    "celu": _celu,
    "sigmoid": lambda x, _: (f"1 / (1 + exp(−{in_sum(x)}))", _sigmoid(x)),
    "tanh": lambda x, _: (f"tanh({written(x)})", math.tanh(x)),
    "silu": lambda x, _: (f"{written(x)} / (1 + exp(−{in_sum(x)}))", x * _sigmoid(x)),
    "hardtanh": lambda x, call: _clamp(x, call.get("min_val", -1), call.get("max_val", 1)),
    "clamp": lambda x, call: _clamp(x, call.get("min"), call.get("max")),
    "clamp_min": lambda x, call: _clamp(x, call.get("min"), None),
    "hardswish": lambda x, _: (
        f"{written(x)} · min(6, max(0, {written(x)} + 3)) / 6",
        x * min(6.0, max(0.0, x + 3)) / 6,
    ),
    "hardsigmoid": lambda x, _: (f"min(6, max(0, {written(x)} + 3)) / 6", min(6.0, max(0.0, x + 3)) / 6),
    "gelu": _gelu,
    "softplus": _softplus,
    "mish": lambda x, _: (
        f"{written(x)} · tanh(ln(1 + exp({written(x)})))",
        x * math.tanh(x if x > 20 else math.log1p(math.exp(x))),
    ),
    "exp": lambda x, _: (f"exp({written(x)})", math.exp(x)),
    "neg": lambda x, _: (f"−{in_sum(x)}", -x),
    "abs": lambda x, _: (f"|{written(x)}|", abs(x)),
    "pow": _power,
    "square": lambda x, _: (f"{in_sum(x)}²", x * x),
    "sqrt": lambda x, _: (f"√{written(x)}", math.sqrt(x) if x >= 0 else math.nan),
}


def explain_function(call: Call, at: tuple[int, ...]) -> UnitArithmetic | None:
    """The number at a place that depends only on the input number at the same place."""
    formula, x = _FORMULAS.get(call.name), call.tensor("self")
    if formula is None or x is None or x.shape != call.out.shape or isinstance(call.get("exponent"), torch.Tensor):
        return None
    given = float(x[at])
    text, value = formula(given, call)
    return _one(given, text, value, call, at)


def explain_prelu(call: Call, at: tuple[int, ...]) -> UnitArithmetic | None:
    """The number at a place of a PReLU's output, whose slope belongs to the map."""
    x, slopes = call.tensor("self"), call.tensor("weight")
    if x is None or slopes is None:
        return None
    given = float(x[at])
    slope = float(slopes.reshape(-1)[at[1] if slopes.numel() > 1 else 0])
    text = f"{written(given)} · {in_sum(slope)}" if given < 0 else f"{written(given)}, as it is not negative"
    return _one(given, text, given * slope if given < 0 else given, call, at)


def _one(given: float, text: str, value: float, call: Call, at: tuple[int, ...]) -> UnitArithmetic:
    words = "Computed from the number at the same place of the same map alone."
    terms = (Term("goes in", given, None, given),)
    return UnitArithmetic(
        "function", words, float(call.out[at]), value, terms=terms, lines=(Line("result", text, value),)
    )


_SIGNS = {"add": "+", "sub": "−", "mul": "·", "div": "/"}


def explain_two(call: Call, at: tuple[int, ...], name: Callable[[torch.Tensor], str]) -> UnitArithmetic | None:
    """The number at a place that is computed from two: the sum of a residual connection, a product, …

    `name` gives the name of the layer whose output a tensor is, or "".
    """
    sign = _SIGNS.get(call.name)
    if sign is None or call.get("rounding_mode") is not None:
        return None
    left, right = _operand(call, "self", at), _operand(call, "other", at)
    if left is None or right is None:
        return None
    scale = float(call.get("alpha", 1) or 1)
    scaled = right * scale
    if call.name == "div" and right == 0:
        return None
    value = {"add": left + scaled, "sub": left - scaled, "mul": left * right}.get(call.name)
    value = left / right if value is None else value
    labels = [_label(call, side, name) for side in ("self", "other")]
    terms = (Term(labels[0], left, None, left), Term(labels[1], right, None if scale == 1 else scale, scaled))
    text = f"{written(left)} {sign} {in_sum(scaled)}"
    words = "Computed from the numbers of both at the same place."
    if call.tensor("other") is None:
        words = "Computed from the number at the same place and a constant."
    return UnitArithmetic("terms", words, float(call.out[at]), value, terms=terms, lines=(Line("result", text, value),))


def _label(call: Call, side: str, name: Callable[[torch.Tensor], str]) -> str:
    tensor = call.tensor(side)
    if tensor is None:
        return "a constant"
    return name(tensor) or ("the first number" if side == "self" else "the second number")


def _operand(call: Call, name: str, at: tuple[int, ...]) -> float | None:
    """The number that is combined into the result at the place `at`, with broadcasting."""
    tensor = call.tensor(name)
    if tensor is None:
        given = call.get(name)
        return float(given) if isinstance(given, int | float) else None
    return broadcast_number(tensor, at)


def explain_joined(call: Call, at: tuple[int, ...], name: Callable[[torch.Tensor], str]) -> UnitArithmetic | None:
    """The number at a place of concatenated tensors, and which of them it comes from."""
    slots = call.get("tensors", [])
    dim = int(call.get("dim", 0)) % max(1, call.out.ndim)
    left = at[dim]
    for number, slot in enumerate(slots):
        side = slot.tensor.shape[dim]
        if left < side:
            place = (*at[:dim], left, *at[dim + 1 :])
            value = float(slot.tensor[place])
            known = name(slot.tensor)
            origin = f" ({known})" if known else ""
            words = f"Map {left} of part {number + 1} of {len(slots)}{origin}, as it is."
            terms = (Term(f"part {number + 1}, map {left}", value, None, value),)
            return UnitArithmetic("copy", words, float(call.out[at]), value, terms=terms)
        left -= side
    return None


def explain_input(watched: WatchedPass, unit: tuple[int, int, int]) -> tuple[UnitArithmetic, InputRegion]:
    """The normalized number at (channel, row, column), which has to be on the image, and its input region."""
    normalization = watched.network.normalization
    byte = int(watched.raw[unit])
    mean, std = normalization.mean[unit[0]], normalization.std[unit[0]]
    lines = (
        Line("minus the mean", f"{byte} − {in_sum(mean)}", byte - mean),
        Line("over the standard deviation", f"{written(byte - mean)} / {written(std)}", (byte - mean) / std),
    )
    words = "A byte of the image, normalized as in training."
    terms = (Term("byte of the image", byte, None, byte),)
    output = float(watched.x[(0, *unit)])
    found = UnitArithmetic("function", words, output, lines[-1].value, terms=terms, lines=lines)
    return found, InputRegion((unit[1], unit[1]), (unit[2], unit[2]))
