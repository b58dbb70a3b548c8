"""Pasted PyTorch in a layer string: `nn.Conv2d(1, 16, kernel_size=5)` is `conv(16,5)`; read, never executed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import EllipsisType

from striate.layers.axis_windows import PADDING_MODES
from striate.models.layer_strings.arguments import Argument, Call, bind, nearest, without_argument
from striate.models.layer_strings.fault import Edit, Fault
from striate.models.layer_strings.spec import Claim, Layer
from striate.models.layer_strings.words import WORDS, Parameter, Value, show_value

SEQUENTIAL = "Sequential"
_OTHERS = "others in a function: --model path/to/file.py:function"
_PREFIXES = ("torch.nn.", "nn.")


@dataclass(frozen=True)
class TorchModule:
    """A class of torch.nn, as it can be pasted into a layer string."""

    word: str
    """The layer's word in layer strings; empty for a module that changes nothing."""
    parameters: tuple[Parameter, ...] = ()
    """In PyTorch's order."""
    ours: Mapping[str, str] = field(default_factory=dict)
    """From parameters to arguments in layer strings. Parameters that are neither here nor in `takes` or `only` do not
    affect the computation."""
    takes: str = ""
    """The parameter that holds the number of input channels or features; empty where there is none."""
    axes: int | None = None
    """Number of spatial axes of the input; None where the class works with any."""
    only: Mapping[str, Value] = field(default_factory=dict)
    """Parameters for which layer strings have a single value."""


def _count(name: str) -> Parameter:
    return Parameter(name, "count", low=1, example=16)


def _flag(name: str, default: bool) -> Parameter:
    return Parameter(name, "flag", default)


_INPLACE = _flag("inplace", False)
_EPS, _AFFINE = Parameter("eps", "number", 1e-5), _flag("affine", True)
_CONVOLUTION = (
    _count("in_channels"),
    _count("out_channels"),
    Parameter("kernel_size", "size", low=1, example=3),
    Parameter("stride", "size", 1, low=1),
    Parameter("padding", "pad", 0),
    Parameter("dilation", "size", 1, low=1),
    Parameter("groups", "count", 1, low=1),
    _flag("bias", True),
    Parameter("padding_mode", "choice", "zeros", choices=PADDING_MODES),
)
_OF_CONVOLUTION = {"out_channels": "filters", "kernel_size": "kernel", "padding": "pad"}
_OF_CONVOLUTION |= {name: name for name in ("stride", "dilation", "groups", "bias", "padding_mode")}
_WINDOW = (
    Parameter("kernel_size", "size", low=1),
    Parameter("stride", "size", None, low=1),
    Parameter("padding", "size", 0),
)
_OF_WINDOW = {"kernel_size": "size", "stride": "stride", "padding": "pad"}
_CEIL = _flag("ceil_mode", False)
_MAX = (*_WINDOW, Parameter("dilation", "size", 1, low=1), _flag("return_indices", False), _CEIL)
_MEAN = (*_WINDOW, _CEIL, _flag("count_include_pad", True))
_BATCH_NORM = (_EPS, Parameter("momentum", "number", 0.1), _AFFINE, _flag("track_running_stats", True))
_LINEAR = (_count("in_features"), _count("out_features"), _flag("bias", True))
_OF_LINEAR = {"out_features": "n", "bias": "bias"}


def _fixed(parameters: tuple[Parameter, ...]) -> dict[str, Value]:
    """Of each parameter its default alone."""
    return {parameter.name: parameter.default for parameter in parameters if parameter.default is not ...}


def _along(axes: int) -> dict[str, TorchModule]:
    """The modules that have their number of spatial axes in their name."""
    lazy, batch_norm = _CONVOLUTION[1:], (_count("num_features"), *_BATCH_NORM)
    only = {"output_size": 1}
    return {
        f"Conv{axes}d": TorchModule("conv", _CONVOLUTION, _OF_CONVOLUTION, "in_channels", axes),
        f"LazyConv{axes}d": TorchModule("conv", lazy, _OF_CONVOLUTION, axes=axes),
        f"MaxPool{axes}d": TorchModule("pool", _MAX, _OF_WINDOW, axes=axes, only=_fixed(_MAX[3:])),
        f"AvgPool{axes}d": TorchModule("avgpool", _MEAN, _OF_WINDOW, axes=axes, only=_fixed(_MEAN[3:])),
        f"AdaptiveAvgPool{axes}d": TorchModule("gap", (Parameter("output_size", "size", low=1),), axes=axes, only=only),
        f"BatchNorm{axes}d": TorchModule("bn", batch_norm, takes="num_features", axes=axes, only=_fixed(_BATCH_NORM)),
        f"LazyBatchNorm{axes}d": TorchModule("bn", _BATCH_NORM, axes=axes, only=_fixed(_BATCH_NORM)),
    }


_PRELU = (Parameter("num_parameters", "count", 1, low=1), Parameter("init", "number", 0.25))
_GROUP_NORM = (_count("num_groups"), _count("num_channels"), _EPS, _AFFINE)
_FLATTEN = (Parameter("start_dim", "count", 1), Parameter("end_dim", "count", -1, low=-1))
_DIM = (Parameter("dim", "count", 1, low=-4),)

TORCH: dict[str, TorchModule] = {
    **_along(1),
    **_along(2),
    **_along(3),
    "Linear": TorchModule("fc", _LINEAR, _OF_LINEAR, "in_features"),
    "LazyLinear": TorchModule("fc", _LINEAR[1:], _OF_LINEAR),
    "GroupNorm": TorchModule("gn", _GROUP_NORM, {"num_groups": "groups"}, "num_channels", only=_fixed(_GROUP_NORM[2:])),
    "LocalResponseNorm": TorchModule("lrn", WORDS["lrn"], {p.name: p.name for p in WORDS["lrn"]}),
    "ReLU": TorchModule("relu", (_INPLACE,)),
    "LeakyReLU": TorchModule(
        "leaky", (Parameter("negative_slope", "number", 0.01), _INPLACE), {"negative_slope": "slope"}
    ),
    "PReLU": TorchModule("prelu", _PRELU, only=_fixed(_PRELU)),
    "ELU": TorchModule("elu", (Parameter("alpha", "number", 1.0), _INPLACE), {"alpha": "alpha"}),
    "Sigmoid": TorchModule("sigmoid"),
    "Tanh": TorchModule("tanh"),
    "SiLU": TorchModule("swish", (_INPLACE,)),
    "Softmax": TorchModule("softmax", _DIM, only=_fixed(_DIM)),
    "Dropout": TorchModule("dropout", (Parameter("p", "number", 0.5, high=0.999), _INPLACE), {"p": "p"}),
    "Flatten": TorchModule("flatten", _FLATTEN, only=_fixed(_FLATTEN)),
    "Identity": TorchModule(""),
}


def torch_name(word: str) -> str | None:
    """The class of torch.nn that a word names, with or without a layer for it here; None for other words."""
    bare = word
    for prefix in _PREFIXES:
        bare = bare.removeprefix(prefix)
    return bare if bare != word or bare in TORCH or bare == SEQUENTIAL else None


def torch_spelling(word: str) -> str | None:
    """The class of torch.nn that differs from the word in capitals at most."""
    return next((known for known in TORCH if known.lower() == word.lower()), None)


def read_torch(call: Call) -> Layer | None:
    """The layer of a call of torch.nn; None for a module that changes nothing. Raises Fault where layer strings have no
    such layer or argument."""
    name = torch_name(call.name) or ""
    if name not in TORCH:
        close = torch_spelling(nearest(name, [known.lower() for known in TORCH]) or "")
        got = f"`{call.name}`, which is not a layer of a layer string" + (
            f"; did you mean `nn.{close}`?" if close else ""
        )
        edits = [Edit(call.start, call.start + len(call.name), f"nn.{close}")] if close else []
        shown = [known for known in TORCH if not known.endswith(("1d", "3d")) and not known.startswith("Lazy")]
        expected = f"one of torch.nn's {', '.join(shown)}; {_OTHERS}"
        raise Fault(call.start, got, expected, *edits, Edit(call.start, call.end, ""))
    module = TORCH[name]
    arguments = tuple(one for one in call.arguments if not (one.name and one.written == "None"))
    try:
        bound = bind(replace(call, arguments=arguments), module.parameters)
    except Fault as fault:
        # `Conv2d(16, 5)` and `Linear(10)`: our arguments under their name.
        renamed = Edit(call.start, call.start + len(call.name), module.word)
        raise (fault.preceded_by(renamed) if "without" in fault.got else fault) from None
    _refuse_others(call, module, bound)
    if not module.word:
        return None
    defaults = {p.name: p.default for p in module.parameters if p.default is not ...}
    values = {ours: _plain((defaults | bound)[theirs]) for theirs, ours in module.ours.items()}
    if values.get("stride") == values.get("size"):  # of a pooling that is its default
        values.pop("stride", None)
    layer = Layer(module.word, (), call.start, call.end).changed(**{k: v for k, v in values.items() if v is not None})
    place = _argument(call, module, module.takes)
    count = bound.get(module.takes)
    claim = Claim(
        call.name,
        module.axes,
        module.takes,
        count if isinstance(count, int) else None,
        (place.value_start, place.end) if place else (call.start, call.end),
    )
    return replace(layer, claim=claim)


def _plain(value: Value | EllipsisType) -> Value:
    """One number for a size that is the same along all axes."""
    assert value is not ..., "bound"
    return value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value


def _refuse_others(call: Call, module: TorchModule, bound: Mapping[str, Value]) -> None:
    for name, value in module.only.items():
        found = bound.get(name, value)
        if _plain(found) == value:
            continue
        argument = _argument(call, module, name)
        assert argument is not None, "bound from one"
        got = f"`{name}={argument.written}` of `{call.name}`, which layer strings do not support"
        expected = f"{name}={show_value(value)}; {_OTHERS}"
        right = Edit(argument.value_start, argument.end, show_value(value))
        raise Fault(argument.start, got, expected, right, without_argument(call, call.arguments.index(argument)))


def _argument(call: Call, module: TorchModule, name: str) -> Argument | None:
    """The argument that gives a parameter."""
    names = [parameter.name for parameter in module.parameters]
    for index, argument in enumerate(call.arguments):
        if name in (argument.name, names[index] if argument.name is None and index < len(names) else None):
            return argument
    return None
