"""Gradients that are rectified in the backward pass: the projections of deconvnets and of guided backpropagation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from striate.errors import ModelError
from striate.observe.layer_calls import function_kind
from striate.observe.torch_calls import torch_functions

Rule = Literal["deconvnet", "guided-backprop"]
"""What a ReLU does with a gradient in the backward pass. `deconvnet`: it passes values above 0, as in the forward pass.
`guided-backprop`: it passes values above 0 only where its input was above 0, as the gradient does."""
RULES: tuple[Rule, ...] = get_args(Rule)
SOURCES: dict[Rule, str] = {
    "deconvnet": "Zeiler and Fergus, ECCV 2014",
    "guided-backprop": "Springenberg et al., ICLR 2015 workshop",
}
_OTHERS = {
    "LeakyRelu": "leaky ReLU",
    "Prelu": "PReLU",
    "Elu": "ELU",
    "Celu": "CELU",
    "Gelu": "GELU",
    "Silu": "SiLU (swish)",
    "Mish": "Mish",
    "Hardswish": "Hardswish",
    "Hardtanh": "Hardtanh",
    "Hardsigmoid": "Hardsigmoid",
    "Softplus": "Softplus",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Softmax": "softmax",
    "ScaledDotProduct": "attention",
}


_ARGUMENTS = {
    "relu": ("input", "inplace"),
    "relu6": ("input", "inplace"),
    "hardtanh": ("input", "min_val", "max_val", "inplace"),
}
_MOST: dict[str | None, float | None] = {"relu": None, "relu6": 6.0}


class _Rectified(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, most: float | None, rule: Rule) -> torch.Tensor:
        ctx.rule = rule
        y = x.clamp(0, most)
        # Saves where a gradient passes, not x itself, which an in-place ReLU overwrites.
        ctx.save_for_backward((x > 0) if most is None else (x > 0) & (x < most))
        return y

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        back = grads[0].clamp_min(0)
        return (back if ctx.rule == "deconvnet" else back * ctx.saved_tensors[0]), None, None


@contextmanager
def rectified_gradients(rule: Rule) -> Iterator[None]:
    """While the body runs, each call of a ReLU (or ReLU6) passes gradients by `rule`, as a module, as a function or in
    place; outputs stay the same. The network is not changed.

    captum's `Deconvolution` and `GuidedBackprop` compute the same for networks whose ReLUs are modules that are called
    once; they silently ignore ReLUs that are called as functions.
    """

    def around(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kind = function_kind(func, args, kwargs)
        named = dict(zip(_ARGUMENTS.get(kind or "", ("input",)), args, strict=False)) | kwargs
        relu = kind in ("relu", "relu6") or (kind == "hardtanh" and named.get("min_val") == 0)  # so nn.ReLU6 is called
        given = named.get("input")
        if not relu or not isinstance(given, torch.Tensor) or not given.is_floating_point():
            return func(*args, **kwargs)
        made = _Rectified.apply(given, named.get("max_val", 1.0) if kind == "hardtanh" else _MOST.get(kind or ""), rule)
        in_place = named.get("inplace") is True or func.__name__.endswith("_")
        return given.copy_(made) if in_place else made

    with torch_functions(around):
        yield


@dataclass(frozen=True)
class Passed:
    """The operations that a gradient passed."""

    relus: int
    """Number of ReLUs."""
    pools: int
    """Number of max poolings."""
    others: tuple[str, ...]
    """Names of other activations."""


def passed(output: torch.Tensor) -> Passed:
    """The operations between `output`, computed within `rectified_gradients`, and the leaves of its graph."""
    names, seen, left = [], set(), [output.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        names.append(node.name())
        left += [follower for follower, _ in node.next_functions]
    others = {word for name in names for known, word in _OTHERS.items() if name.startswith((known, f"Log{known}"))}
    return Passed(sum("_Rectified" in name for name in names), sum("MaxPool" in name for name in names),
                  tuple(sorted(others)))  # fmt: skip


def projected(
    output: torch.Tensor, x: torch.Tensor, rule: Rule, where: str, remedy: Callable[[], str], *, strong: bool = False
) -> tuple[torch.Tensor, Passed]:
    """The projection of `output` to `x`, of the shape of x, and the operations that it passed. The gradient of the
    output is 1 for each number, or, `strong`, the number itself.

    Raises ModelError where the rule does not apply: without a ReLU, where the projection would be the gradient, and
    with activations other than ReLU.
    """
    layers_between = passed(output)
    expected = "ReLUs as the only activations on the way: the rule says how gradients pass a ReLU"
    if layers_between.others:
        raise ModelError(
            where, f"{' and '.join(layers_between.others)} between it and the image, for {rule}", expected, remedy()
        )
    if not layers_between.relus:
        got = f"no ReLU between it and the image: {rule} would equal the gradient"
        raise ModelError(where, got, expected, remedy())
    (found,) = torch.autograd.grad(output, x, output.detach() if strong else torch.ones_like(output))
    return found.detach(), layers_between
