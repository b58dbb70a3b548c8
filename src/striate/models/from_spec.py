"""From layers and input shape to a network: `build_network(parse_layers("conv(16,5) relu fc(10)"), (1, 28, 28))`."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from striate.layers.activations import Maxout
from striate.layers.blocks import Residual
from striate.layers.code import Code, Transposed
from striate.layers.convolution import LocallyConnected
from striate.layers.normalization import LocalContrastNorm, OneChannelGroupNorm
from striate.layers.pooling import ChannelL2Pool, GlobalAveragePool, L2Pool
from striate.models.initialization.initialize import Part, initialize
from striate.models.layer_strings.fits import axes, paddings
from striate.models.layer_strings.layer_string import parse_layers
from striate.models.layer_strings.shapes import MAX_COUNTED, MAX_PARAMETERS, Block, Plan, Shape, Step, plan_network
from striate.models.layer_strings.spec import Layer, Network


def build_network(network: Network | str, input_shape: Shape) -> nn.Sequential:
    """The network for inputs of shape (C, L), (C, H, W), (C, D, H, W) or (F,), as a plain `nn.Sequential`.

    Children are named by word and number: conv1, relu1, pool1, …, fc1; a residual block is `res1` with `body` and
    `shortcut`; `pad1` precedes a convolution of even kernel with pad=same. `initialize` initializes the weights.
    Raises LayerStringError at the layer that does not fit, with the arithmetic and a tested remedy.
    """
    if isinstance(network, str):
        network = parse_layers(network)
    return build_plan(plan_network(network, input_shape, most_parameters()))


def most_parameters() -> int:
    """The largest allowed number of parameters: larger on the meta device, where parameters take no memory."""
    return MAX_COUNTED if torch.get_default_device().type == "meta" else MAX_PARAMETERS


def build_plan(plan: Plan) -> nn.Sequential:
    """The modules of a plan."""
    parts: list[Part] = []
    root = _sequence(plan.steps, Counter(), parts)
    initialize(parts)
    return root


def _sequence(steps: tuple[Step | Block, ...], names: Counter[str], parts: list[Part]) -> nn.Sequential:
    """The modules of the steps, in the order of execution; they are also appended to `parts`."""
    children: OrderedDict[str, nn.Module] = OrderedDict()
    encoder: list[nn.Module] = []  # layers that a tied decoder mirrors
    for step in steps:
        word = "res" if isinstance(step, Block) else step.layer.word
        names[word] += 1
        name = f"{word}{names[word]}"
        if isinstance(step, Block):
            parts.append(Part(None, step, opens=True))
            body, shortcut = _sequence(step.steps, names, parts), _shortcut(step)
            parts.append(Part(shortcut, step))
            children[name] = Residual(body, shortcut)
        else:
            if (zeros := _zeros_before(step)) is not None:
                names["pad"] += 1
                children[f"pad{names['pad']}"] = zeros
            if step.layer.tied:
                padding = paddings(step.layer, len(step.in_shape) - 1)[0][0] if step.layer.word == "conv" else 0
                children[name] = Transposed(encoder.pop(), padding)  # type: ignore[arg-type]
            else:
                children[name] = _MAKERS[step.layer.word](step.layer, step.in_shape)
            if step.layer.word in ("fc", "conv", "code") and not step.layer.tied:
                encoder.append(children[name])
            parts.append(Part(children[name], step))
    return nn.Sequential(children)


def _shortcut(block: Block) -> nn.Module | None:
    if block.strides is None:
        return None
    before, after = block.in_shape[0], block.out_shape[0]
    if not block.strides:
        return nn.Linear(before, after, bias=False)
    module: nn.Module = _of(_CONVOLUTIONS, block.in_shape)(before, after, 1, stride=block.strides, bias=False)
    return module


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_MEAN_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_ZERO_PADS = (nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def _of(family: tuple[Callable[..., nn.Module], ...], shape: Shape) -> Callable[..., nn.Module]:
    """The member of a family of modules for the spatial axes of the shape; the first one for vectors."""
    return family[max(0, len(shape) - 2)]


def _convolution(layer: Layer, shape: Shape) -> nn.Module:
    pads = paddings(layer, len(shape) - 1)
    even, zeros = all(before == after for before, after in pads), layer["padding_mode"] == "zeros"
    # Equal padding is an integer, which every tool reads. Unequal padding is a layer before it (`_zeros_before`).
    padding: Any = tuple(before for before, _ in pads) if even else 0 if zeros else "same"
    return _of(_CONVOLUTIONS, shape)(
        shape[0],
        layer["filters"],
        layer["kernel"],
        stride=layer["stride"],
        padding=padding,
        dilation=layer["dilation"],
        groups=layer["groups"],
        bias=layer["bias"],
        padding_mode=layer["padding_mode"],
    )


def _zeros_before(step: Step) -> nn.Module | None:
    """The zero padding of a convolution with an even kernel that keeps the size: one more after than before the map.

    It is a separate layer, as torch warns about `padding="same"`, which computes the same.
    """
    layer, shape = step.layer, step.in_shape
    if layer.word != "conv" or layer["padding_mode"] != "zeros":
        return None
    pads = paddings(layer, len(shape) - 1)
    if all(before == after for before, after in pads):
        return None
    return _of(_ZERO_PADS, shape)(tuple(pad for pair in reversed(pads) for pad in pair))


def _local(layer: Layer, shape: Shape) -> nn.Module:
    values: Any = {name: layer[name] for name in ("stride", "bias")}
    filters, kernel, pad = (layer[name] for name in ("filters", "kernel", "pad"))
    return LocallyConnected(shape[0], filters, shape[1:], kernel, padding=pad, **values)  # type: ignore[arg-type]


def _window(family: tuple[Callable[..., nn.Module], ...]) -> Callable[[Layer, Shape], nn.Module]:
    return lambda layer, shape: _of(family, shape)(layer["size"], layer["stride"], layer["pad"])


def _mean_pool(layer: Layer, shape: Shape) -> nn.Module:
    count = len(shape) - 1
    windows, pads = axes(layer, "size", count), axes(layer, "pad", count)
    if count == 3 and any(window > size for window, size in zip(windows, shape[1:], strict=True)):
        # AvgPool3d refuses a window that is larger than the map before padding.
        padding = nn.ConstantPad3d(tuple(pad for pad in reversed(pads) for _ in range(2)), 0.0)  # type: ignore[arg-type]
        return nn.Sequential(OrderedDict(pad=padding, pool=_window(_MEAN_POOLS)(layer.changed(pad=0), shape)))
    return _window(_MEAN_POOLS)(layer, shape)


def _upsample(layer: Layer, _shape: Shape) -> nn.Module:
    factor: Any = layer["factor"]
    return nn.Upsample(scale_factor=factor, mode="nearest")


def _group_norm(groups: int, channels: int) -> nn.Module:
    return OneChannelGroupNorm() if channels == 1 else nn.GroupNorm(groups, channels)


def _layer_norm(_layer: Layer, shape: Shape) -> nn.Module:
    # A single group: mean and variance over all channels and positions, scale and shift for each channel.
    return nn.LayerNorm(shape) if len(shape) == 1 else _group_norm(1, shape[0])


def _plain(kind: Callable[..., nn.Module], *names: str) -> Callable[[Layer, Shape], nn.Module]:
    return lambda layer, _shape: kind(*(layer[name] for name in names))


def _unflattened(layer: Layer) -> tuple[int, ...]:
    size = layer["size"]
    return size if isinstance(size, tuple) else (int(str(size)),)


_MAKERS: dict[str, Callable[[Layer, Shape], nn.Module]] = {
    "conv": _convolution,
    "local": _local,
    "pool": _window(_MAX_POOLS),
    "avgpool": _mean_pool,
    "l2pool": _window((L2Pool, L2Pool, L2Pool)),
    "chpool": _plain(ChannelL2Pool, "size"),
    "lrn": _plain(nn.LocalResponseNorm, "size", "alpha", "beta", "k"),
    "lcn": _plain(LocalContrastNorm, "size"),
    "bn": lambda _layer, shape: _of(_BATCH_NORMS, shape)(shape[0]),
    "gn": lambda layer, shape: _group_norm(int(str(layer["groups"])), shape[0]),
    "ln": _layer_norm,
    "relu": _plain(nn.ReLU),
    "leaky": _plain(nn.LeakyReLU, "slope"),
    "prelu": _plain(nn.PReLU),
    "elu": _plain(nn.ELU, "alpha"),
    "sigmoid": _plain(nn.Sigmoid),
    "tanh": _plain(nn.Tanh),
    "swish": _plain(nn.SiLU),
    "maxout": _plain(Maxout, "pieces"),
    "softmax": lambda _layer, _shape: nn.Softmax(dim=1),
    "dropout": _plain(nn.Dropout, "p"),
    "fc": lambda layer, shape: nn.Linear(shape[0], int(str(layer["n"])), bias=bool(layer["bias"])),
    "gap": _plain(GlobalAveragePool),
    "flatten": _plain(nn.Flatten),
    "unflatten": lambda layer, _shape: nn.Unflatten(1, _unflattened(layer)),
    "code": lambda layer, shape: Code(shape[0], int(str(layer["n"])), str(layer["activation"])),
    "up": _upsample,
}
