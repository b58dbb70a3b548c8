"""Gradients that are rectified on their way back: the projections of deconvnets and of guided backpropagation."""

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
"""What a ReLU does with a gradient that comes back. `deconvnet`: it passes what is above 0, as it does on the way
forth. `guided-backprop`: also, as the gradient does, only where its own input was above 0."""
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
        # Where a gradient passes rather than x itself, which a ReLU in place writes over.
        ctx.save_for_backward((x > 0) if most is None else (x > 0) & (x < most))
        return y

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        back = grads[0].clamp_min(0)
        return (back if ctx.rule == "deconvnet" else back * ctx.saved_tensors[0]), None, None


@contextmanager
def rectified_gradients(rule: Rule) -> Iterator[None]:
    """While the body runs, gradients will come back through each ReLU (and ReLU6) by `rule`, whether it is called as a
    module, as a function or in place, and however often; outputs stay as they are. The network is not changed.

    captum's `Deconvolution` and `GuidedBackprop` compute the same of networks whose ReLUs are modules, each called
    once; a ReLU that is called as a function keeps its gradient there, without a word.
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
    """What a gradient came back through: how many ReLUs, how many max poolings, and, by name, other activations."""

    relus: int
    pools: int
    others: tuple[str, ...]


def passed(output: torch.Tensor) -> Passed:
    """What lies between `output`, computed within `rectified_gradients`, and the leaves that it depends on."""
    names, seen, left = [], set(), [output.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        names.append(node.name())
        left += [follower for follower, _ in node.next_functions]
    others = {said for name in names for known, said in _OTHERS.items() if name.startswith((known, f"Log{known}"))}
    return Passed(sum("_Rectified" in name for name in names), sum("MaxPool" in name for name in names),
                  tuple(sorted(others)))  # fmt: skip


def projected(
    output: torch.Tensor, x: torch.Tensor, rule: Rule, where: str, remedy: Callable[[], str], *, strong: bool = False
) -> tuple[torch.Tensor, Passed]:
    """The projection of `output` to `x`, of the shape of x, and what it came back through. What goes back is 1 for each
    number of the output or, `strong`, the number itself.

    Raises ModelError where the rule does not say how: without a ReLU on the way, where the projection would be the
    gradient, and with activations that are no ReLU.
    """
    way = passed(output)
    expected = "ReLUs as the only activations on the way: the rule says how gradients pass a ReLU"
    if way.others:
        raise ModelError(where, f"{' and '.join(way.others)} between it and the image, for {rule}", expected, remedy())
    if not way.relus:
        got = f"no ReLU between it and the image: {rule} would equal the gradient"
        raise ModelError(where, got, expected, remedy())
    (found,) = torch.autograd.grad(output, x, output.detach() if strong else torch.ones_like(output))
    return found.detach(), way
