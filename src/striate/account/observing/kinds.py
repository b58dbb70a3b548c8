"""The kind of a layer or function: its word in layer strings where there is one, else the name of its class."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from striate.layers.code import Code
from striate.layers.convolution import LocallyConnected
from striate.layers.normalization import LocalContrastNorm
from striate.layers.pooling import ChannelL2Pool, GlobalAveragePool, L2Pool
from striate.models.layer_strings.words import WORDS
from striate.observe.layer_calls import activation_kind

_WORDS: tuple[tuple[str, tuple[type[nn.Module], ...]], ...] = (
    ("conv", (nn.Conv1d, nn.Conv2d, nn.Conv3d)),
    ("local", (LocallyConnected,)),
    ("code", (Code,)),
    ("fc", (nn.Linear,)),
    ("pool", (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)),
    ("avgpool", (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)),
    ("l2pool", (L2Pool,)),
    ("chpool", (ChannelL2Pool,)),
    ("lrn", (nn.LocalResponseNorm,)),
    ("lcn", (LocalContrastNorm,)),
    ("bn", (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)),
    ("gn", (nn.GroupNorm,)),
    ("ln", (nn.LayerNorm,)),
    ("softmax", (nn.Softmax, nn.Softmax2d)),
    ("dropout", (nn.Dropout,)),
    ("gap", (GlobalAveragePool,)),
    ("flatten", (nn.Flatten,)),
    ("up", (nn.Upsample,)),
)
_ADAPTIVE = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)

_FUNCTIONS: dict[str, tuple[str, ...]] = {
    "conv": ("conv1d", "conv2d", "conv3d"),
    "fc": ("linear",),
    "pool": ("max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices"),
    "avgpool": ("avg_pool1d", "avg_pool2d", "avg_pool3d"),
    "lrn": ("local_response_norm",),
    "bn": ("batch_norm",),
    "gn": ("group_norm",),
    "ln": ("layer_norm",),
    "softmax": ("softmax",),
    "dropout": ("dropout",),
    "up": ("interpolate", "upsample"),
    "relu": ("relu",),
    "leaky": ("leaky_relu",),
    "prelu": ("prelu",),
    "elu": ("elu",),
    "sigmoid": ("sigmoid",),
    "tanh": ("tanh",),
    "swish": ("silu",),
}
_WORD_OF_FUNCTION = {name: word for word, names in _FUNCTIONS.items() for name in names}
_NAMED_LIKE_FUNCTIONS = (
    *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d"),
    *("adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "lp_pool1d"),
    *("lp_pool2d", "lp_pool3d", "fractional_max_pool2d", "fractional_max_pool3d", "relu6", "selu", "celu", "gelu"),
    *("mish", "hardswish", "hardsigmoid", "hardtanh", "softplus", "softsign", "log_softmax", "glu", "rrelu"),
    *("instance_norm", "rms_norm", "alpha_dropout", "feature_alpha_dropout", "dropout1d", "dropout2d", "dropout3d"),
    *("bilinear", "embedding", "scaled_dot_product_attention", "multi_head_attention_forward", "grid_sample"),
    *("pixel_shuffle", "pixel_unshuffle", "logsigmoid", "threshold", "normalize"),
)
_OF_TENSORS = ("relu", "sigmoid", "tanh", "softmax", "log_softmax", "prelu", "hardshrink")
_PRODUCTS = ("matmul", "bmm", "mm", "mv", "addmm", "addbmm", "baddbmm", "addmv", "einsum", "tensordot", "chain_matmul")


def layer_kind(layer: nn.Module) -> str:
    """The word of layer strings for a module, else the name of its class."""
    activation = activation_kind(layer)
    if activation in WORDS:
        return activation
    if isinstance(layer, _ADAPTIVE) and _is_one(layer.output_size):
        return "gap"
    if isinstance(layer, nn.GroupNorm) and layer.num_groups == 1 and layer.num_channels > 1:
        return "ln"
    word = next((word for word, kinds in _WORDS if isinstance(layer, kinds)), None)
    # torch makes a new class for each parametrized layer.
    return word or type(layer).__name__.removeprefix("Parametrized")


def function_kind(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, str] | None:
    """Name and kind of a function that does what a layer does; None for all others."""
    name = _LAYER_FUNCTIONS.get(function)
    if name is None:
        return None
    if name.startswith("adaptive_avg_pool") and _is_one(kwargs["output_size"] if "output_size" in kwargs else args[1]):
        return name, "gap"
    return name, _WORD_OF_FUNCTION.get(name, name)


def _is_one(output_size: Any) -> bool:
    """Whether the output of a pooling has a single position."""
    return set(_numbers(output_size)) == {1}


def _numbers(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _layer_functions() -> dict[Any, str]:
    found: dict[Any, str] = {}
    for name in (*_WORD_OF_FUNCTION, *_NAMED_LIKE_FUNCTIONS):
        for place in (functional, torch):
            for spelled in (name, f"{name}_"):
                if hasattr(place, spelled):
                    found[getattr(place, spelled)] = name
    for name in _OF_TENSORS:
        for spelled in (name, f"{name}_"):
            if hasattr(torch.Tensor, spelled):
                found[getattr(torch.Tensor, spelled)] = name
    for name in _PRODUCTS:
        for owner in (torch, torch.Tensor):
            if hasattr(owner, name):
                found[getattr(owner, name)] = name
    found[torch.Tensor.__matmul__] = found[torch.Tensor.__rmatmul__] = "matmul"
    return found


_LAYER_FUNCTIONS = _layer_functions()
