"""A network of timm (https://github.com/huggingface/pytorch-image-models): `timm/convnext_atto`; an extra."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from striate.errors import InputMisfit, ModelError, reason_of
from striate.models.layer_strings.arguments import nearest_few
from striate.wording import show_shape

PREFIX = "timm/"
_EXTRA = "pip install 'striate[timm]'"


def names_timm(text: str) -> bool:
    """Whether the text names a network of timm."""
    return text.startswith(PREFIX)


def build_from_timm(text: str, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """The network with random weights, from images (N, C, H, W) to (N, outputs). Images have the network's fixed size,
    or any size if it has none. Raises ModelError where timm cannot be imported or has no such network, or the network
    does not take the size.
    """
    name, timm = text.removeprefix(PREFIX), _timm(text)
    if not re.fullmatch(r"\w+", name):
        remedy = f"--model {PREFIX}{name.partition('.')[0]} --weights {text}" if "." in name else "striate models"
        raise ModelError(f"model {text}", "more than the name of a network", "a network name without weights", remedy)
    if not timm.is_model(name):
        close = nearest_few(name, timm.list_models())
        remedy = f"--model {PREFIX}{close[0]}" if close else "timm.list_models() in Python lists them"
        raise ModelError(f"model {text}", f"no network {name} in timm {timm.__version__}", "a network of timm", remedy)
    if len(input_shape) != 3:
        raise ModelError(f"model {text}", f"inputs of {show_shape(input_shape)}", "images", "--model auto")
    own = (timm.get_pretrained_cfg(name, allow_unregistered=True) or _Unknown()).input_size
    try:
        network: nn.Module = timm.create_model(name, pretrained=False, num_classes=outputs, in_chans=input_shape[0])
    except Exception as error:  # timm's constructors may raise anything
        raise ModelError(
            f"model {text}", reason_of(error), "a network for these images", "use another network"
        ) from None
    if getattr(getattr(network, "patch_embed", None), "strict_img_size", False) and input_shape[1:] != own[1:]:
        size = "x".join(map(str, own[1:]))
        got, expected = (
            f"images of {show_shape(input_shape)}",
            f"images of {show_shape(own)}, the only size that it takes",
        )
        raise InputMisfit(f"model {text}", got, expected, f"--size {size}", fitting=tuple(own))
    return network


class _Unknown:
    input_size = (3, 224, 224)


def published_shape(text: str) -> tuple[int, ...]:
    """The input shape that the network was published for."""
    found = _timm(text).get_pretrained_cfg(text.removeprefix(PREFIX), allow_unregistered=True)
    return tuple((found or _Unknown()).input_size)


def _timm(text: str) -> Any:
    try:
        import timm
    except ModuleNotFoundError as error:
        got = f"{error.name}: not installed"
        raise ModelError(f"model {text}", got, "the extra `timm`, with the torchvision of this torch", _EXTRA) from None
    except Exception as error:  # a torchvision built for another torch fails on import
        got = f"timm cannot be imported: {reason_of(error)}"
        expected = "a torchvision built for this torch, which timm needs"
        raise ModelError(f"model {text}", got, expected, f"{_EXTRA}; --model resnet18 needs neither") from None
    return timm
