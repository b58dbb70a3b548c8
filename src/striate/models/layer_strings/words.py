"""The words of layer strings and their arguments, in one table; free of torch.

conv(filters, kernel, stride=1, pad=0, dilation=1, groups=1, padding_mode=zeros, bias=true)
local(filters, kernel, stride=1, pad=0, bias=true)       weights of its own at every position
pool avgpool l2pool (size, stride=size, pad=0)           windows of the map: largest, mean, root of summed squares
chpool(size)                                             L2 over `size` neighboring channels
lrn(size=5, …) lcn(size=9) bn gn(groups) ln              normalization
relu leaky(slope=0.1) prelu elu(alpha=1) sigmoid tanh swish maxout(pieces) softmax
dropout(p=0.5) fc(n, bias=true) gap flatten up(factor=2) unflatten(size)
code(n, activation=linear, tied=false)                   the code of an autoencoder; without a layer behind it, the
                                                         layers before it follow mirrored
"""

from __future__ import annotations

from dataclasses import dataclass
from types import EllipsisType
from typing import Literal

from striate.layers.axis_windows import PADDING_MODES

Value = int | float | bool | str | tuple[int, ...] | None
Kind = Literal["count", "odd", "number", "size", "pad", "flag", "choice"]

MAX_NUMBER = 10**6


@dataclass(frozen=True)
class Parameter:
    """One argument of a layer or of a zoo model."""

    name: str
    kind: Kind
    """`count`: a whole number. `odd`: an odd one. `number`: any number. `size`: one whole number, or one for each axis
    (`3x5`). `pad`: a size or `same`. `flag`: true or false. `choice`: one of `choices`."""
    default: Value | EllipsisType = ...
    """`...` where the argument is required."""
    low: float = 0
    high: float = MAX_NUMBER
    choices: tuple[str, ...] = ()
    example: int = 2
    """The value that an error proposes for a required argument."""
    many: bool = False
    """Whether it takes all positional arguments."""

    @property
    def required(self) -> bool:
        """Whether it has to be given."""
        return self.default is ... and not self.many


def show_value(value: Value) -> str:
    """A value as it is written in a layer string: `3`, `3x5`, `0.1`, `true`, `same`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "x".join(str(part) for part in value)
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return str(value)


def show_signature(name: str, parameters: tuple[Parameter, ...]) -> str:
    """`conv(filters, kernel, stride=1, …)`: a call with its parameters and defaults."""
    parts = []
    for parameter in parameters:
        if parameter.many:
            parts.append(f"{parameter.name}, …")
        elif parameter.default is ...:
            parts.append(parameter.name)
        else:
            default = "size" if parameter.default is None else show_value(parameter.default)
            parts.append(f"{parameter.name}={default}")
    return f"{name}({', '.join(parts)})" if parts else name


_FILTERS = Parameter("filters", "count", low=1, example=16)
_KERNEL = Parameter("kernel", "size", low=1, example=3)
_STRIDE = Parameter("stride", "size", 1, low=1)
_PAD = Parameter("pad", "pad", 0)
_BIAS = Parameter("bias", "flag", True)
_WINDOW = (
    Parameter("size", "size", low=1),
    Parameter("stride", "size", None, low=1),
    Parameter("pad", "size", 0),
)

WORDS: dict[str, tuple[Parameter, ...]] = {
    "conv": (
        _FILTERS,
        _KERNEL,
        _STRIDE,
        _PAD,
        Parameter("dilation", "size", 1, low=1),
        Parameter("groups", "count", 1, low=1),
        Parameter("padding_mode", "choice", "zeros", choices=PADDING_MODES),
        _BIAS,
    ),
    "local": (_FILTERS, _KERNEL, _STRIDE, _PAD, _BIAS),
    "pool": _WINDOW,
    "avgpool": _WINDOW,
    "l2pool": _WINDOW,
    "chpool": (Parameter("size", "count", low=1),),
    "lrn": (
        Parameter("size", "count", 5, low=1, high=1023),
        Parameter("alpha", "number", 1e-4),
        Parameter("beta", "number", 0.75),
        Parameter("k", "number", 1.0, low=1e-6),
    ),
    "lcn": (Parameter("size", "odd", 9, low=3, high=99),),
    "bn": (),
    "gn": (Parameter("groups", "count", low=1),),
    "ln": (),
    "relu": (),
    "leaky": (Parameter("slope", "number", 0.1),),
    "prelu": (),
    "elu": (Parameter("alpha", "number", 1.0),),
    "sigmoid": (),
    "tanh": (),
    "swish": (),
    "maxout": (Parameter("pieces", "count", low=1),),
    "softmax": (),
    "dropout": (Parameter("p", "number", 0.5, high=0.999),),
    "fc": (Parameter("n", "count", low=1, example=10), _BIAS),
    "gap": (),
    "flatten": (),
    "up": (Parameter("factor", "size", 2, low=1),),
    "unflatten": (Parameter("size", "size", low=1),),
    "code": (
        Parameter("n", "count", low=1, example=30),
        Parameter("activation", "choice", "linear", choices=("linear", "sigmoid", "relu", "tanh")),
        Parameter("tied", "flag", False),
    ),
}

_SYNONYMS = {
    "conv1d": "conv",
    "conv2d": "conv",
    "conv3d": "conv",
    "convolution": "conv",
    "maxpool": "pool",
    "maxpool2d": "pool",
    "max": "pool",
    "meanpool": "avgpool",
    "averagepool": "avgpool",
    "avg": "avgpool",
    "linear": "fc",
    "dense": "fc",
    "batchnorm": "bn",
    "norm": "bn",
    "groupnorm": "gn",
    "layernorm": "ln",
    "leakyrelu": "leaky",
    "silu": "swish",
    "upsample": "up",
    "reshape": "unflatten",
    "view": "unflatten",
    "latent": "code",
    "bottleneck": "code",
    "globalpool": "gap",
    "residual": "res",
}
"""Words of other libraries, each with its layer here."""


def synonym(word: str) -> str | None:
    """The layer that other libraries call `word`, to be suggested before words of similar spelling; None if there is
    none."""
    return _SYNONYMS.get(word.lower().replace("_", ""))
