"""Build a network of the zoo from its entry and the text that names it."""

from __future__ import annotations

import importlib
import math
from typing import Any

import torch
from torch import nn

from striate.errors import InputMisfit, LayerStringError, ModelError
from striate.models.from_spec import most_parameters
from striate.models.layer_strings.layer_string import parse_call
from striate.models.layer_strings.words import Value
from striate.models.registry import ModelInfo
from striate.models.shape_error import not_without_batch
from striate.wording import several, show_shape


def build_from_zoo(info: ModelInfo, text: str, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """The network of an entry for inputs (C, *spatial) or (F,), with the arguments in `text` (`resnet18(width=8)`).
    Raises ModelError where the network does not take arguments, inputs or outputs."""
    given = parse_call(text, info.parameters)
    defaults: dict[str, Value] = {p.name: p.default for p in info.parameters if not isinstance(p.default, type(...))}
    module, _, function = info.path.partition(":")
    make: Any = getattr(importlib.import_module(module), function)
    try:
        if given or outputs > info.outputs or math.prod(input_shape) > math.prod(info.input_shape):
            _refuse_huge(make, info, text, input_shape, outputs, defaults | given)
        network: nn.Module = make(input_shape, outputs, **(defaults | given))
    except LayerStringError as error:
        if len(input_shape) == len(info.input_shape) + 1 and input_shape[0] == 1:
            raise not_without_batch(info.name, input_shape) from None
        # The layers are the zoo's, so the error points at no text of the user; the remedy is a layer string that fits.
        where = f"{info.name} on inputs of {show_shape(input_shape)}"
        raise ModelError(where, error.got, error.expected, error.remedy) from None
    except InputMisfit as error:
        error.fitting = error.fitting or info.input_shape
        raise
    return network


def _refuse_huge(
    make: Any, info: ModelInfo, text: str, input_shape: tuple[int, ...], outputs: int, arguments: dict[str, Value]
) -> None:
    """Raise ModelError for too many parameters, before memory is allocated for them."""
    most = most_parameters()
    with torch.device("meta"):
        count = sum(p.numel() for p in make(input_shape, outputs, **arguments).parameters())
    if count > most:
        got = f"{several(count, 'parameter')} with {several(outputs, 'output')} on inputs of {show_shape(input_shape)}"
        published = f"{info.name}, with {several(info.outputs, 'output')} on inputs of {show_shape(info.input_shape)}"
        raise ModelError(text[:80], got, f"at most {most:,}", f"use the published form: {published}")
