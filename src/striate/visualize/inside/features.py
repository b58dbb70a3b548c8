"""Features of samples: the inputs of the last layer with weights, or the outputs of another layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.errors import DataError
from striate.layers.code import Code
from striate.models.preserved_state import on_trial
from striate.observe.module_calls import ModuleCall, module_calls
from striate.visualize.inside.passes import as_input, batches, choose_layer, layer_outputs, run
from striate.wording import several

_HEADS = (nn.Linear, nn.modules.conv._ConvNd)


@dataclass(frozen=True, eq=False)
class Features:
    """Features `values` (N, F), float32, of the layer that `source` names in words."""

    values: NDArray[np.float32]
    source: str


def find_features(module: nn.Module, x: torch.Tensor, layer: str | None = None) -> Features:
    """The features of normalized inputs `x` (N, …): the code of an autoencoder, of other networks the inputs of the
    last layer with weights, or the outputs of `layer`.

    A map with positions gives one feature, its mean. Computed in batches, in eval mode. Raises UsageError for an
    unknown layer, DataError where features are not finite.
    """
    if layer is not None:
        parts = [choose_layer(layer_outputs(module, part), layer).values for part in batches(x)]
        source = f"outputs of {layer}"
    elif code := next((name for name, part in module.named_modules() if isinstance(part, Code)), ""):
        parts = [layer_outputs_of(module, code, part) for part in batches(x)]
        source = f"the code, outputs of {code}"
    else:
        head = _last_head(module, x[:1])
        parts = [_inputs_of(module, head, part) if head else part for part in batches(x)]
        source = f"inputs of {head}" if head else "inputs of the network"
    flat = torch.cat([_flat(part) for part in parts])
    if not bool(torch.isfinite(flat).all()):
        raise DataError("features", "numbers that are NaN or Inf", "finite ones", "striate doctor RUN")
    mean = f", mean over {several(math.prod(parts[0].shape[2:]), 'position')}" if parts[0].ndim > 2 else ""
    return Features(flat.numpy(), source + mean)


def _flat(values: torch.Tensor) -> torch.Tensor:
    values = values.detach().float().cpu()
    return values.flatten(2).mean(2) if values.ndim > 2 else values.reshape(len(values), -1)


def _last_head(module: nn.Module, x: torch.Tensor) -> str:
    """The name of the layer with weights that runs last; "" if that is the network itself, or if there is none."""
    ran: list[str] = []
    heads = {name: part for name, part in module.named_modules() if isinstance(part, _HEADS)}
    with on_trial(module), torch.no_grad(), module_calls(heads, end=lambda call: ran.append(call.name)):
        run(module, as_input(module, x))
    # A linear layer that runs repeatedly has features of a step of a sequence, not of the sample.
    once = [name for name in ran if ran.count(name) == 1 or not isinstance(heads[name], nn.Linear)]
    return (once or ran or [""])[-1]


def layer_outputs_of(module: nn.Module, name: str, x: torch.Tensor) -> torch.Tensor:
    """The outputs of the layer `name` for normalized inputs `x` (N, …)."""
    return choose_layer(layer_outputs(module, x), name).values


def _inputs_of(module: nn.Module, name: str, x: torch.Tensor) -> torch.Tensor:
    given: list[torch.Tensor] = []

    def keep(call: ModuleCall) -> None:
        given.append(call.args[0].detach().clone())

    with on_trial(module), torch.no_grad(), module_calls({name: module.get_submodule(name)}, keep):
        run(module, as_input(module, x))
    if len(given[-1]) != len(x):
        got = f"{several(len(given[-1]), 'row')} for {several(len(x), 'sample')}"
        raise DataError(f"inputs of {name}", got, "one row for each sample", "name another layer: --layer NAME")
    return given[-1]
