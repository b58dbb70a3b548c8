"""A head that has learned numbers in the units of other data gives the same answers in those of the new ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from striate.models.depth import output_layer
from striate.models.untouched import untouched
from striate.models.weights.saved import SavedNetwork
from striate.tasks.task import Task

Tensors = dict[str, torch.Tensor]


def head_tensors(network: nn.Module) -> Tensors:
    """A copy of what the output layer holds, by name in the network; empty where there is none."""
    head = output_layer(network)
    return {k: v.detach().clone() for k, v in network.state_dict().items() if k.rpartition(".")[0] == head}


def fit_head(network: nn.Module, weights: SavedNetwork, task: Task, sample: torch.Tensor, drawn: Tensors) -> str:
    """Make the head, just taken over from `weights`, one for `task`, and say how ("" where nothing has to be done).

    Numbers are learned as (t − mean) / std: with other training targets the same output means another number. The head
    is rescaled by `in_units`, or where it cannot be, or has learned another task, gets the tensors that were `drawn`.
    `sample` is a normalized batch.
    """
    if weights.outputs != task.outputs or not weights.task:
        return ""  # the head is new already, or nobody knows what it has learned
    if weights.task != task.name:
        network.load_state_dict(network.state_dict() | drawn)
        return f"the last layer is new: the other was trained to {weights.task}"
    now = _scale(task.state())
    if weights.target_scale == now:
        return ""
    if in_units(network, weights.target_scale, now, sample):
        return "the last layer is rescaled to the targets of these data: its answers stay the same"
    network.load_state_dict(network.state_dict() | drawn)
    return "the last layer is new: the other speaks in units of other targets"


def in_units(network: nn.Module, before: Any, now: Any, sample: torch.Tensor) -> bool:
    """Rescale the output layer from targets of (means, stds) `before` to those of `now`; False, and nothing is done,
    where the answers would not be the same: (W h + b) · std + mean has to be, of a linear layer that comes last."""
    name = output_layer(network)
    layer = None if name is None else network.get_submodule(name)
    if not isinstance(layer, nn.Linear) or not _comes_last(network, layer, sample):
        return False
    own = dict(layer.named_parameters(recurse=False))  # a parametrized layer has others
    if "weight" not in own or ("bias" not in own and before[0] != now[0]) or len(own["weight"]) != len(now[0]):
        return False
    (mean, std), (new_mean, new_std) = (torch.tensor(scale, dtype=torch.float64) for scale in (before, now))
    with torch.no_grad():
        own["weight"].copy_(own["weight"].double() * (std / new_std)[:, None])
        if "bias" in own:
            own["bias"].copy_((own["bias"].double() * std + mean - new_mean) / new_std)
    return True


def _comes_last(network: nn.Module, layer: nn.Module, sample: torch.Tensor) -> bool:
    """Whether what `layer` gives is what the network gives."""
    seen: list[torch.Tensor] = []
    handle = layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output.clone()))
    try:
        with untouched(network), torch.no_grad():
            outputs = network(sample)
    finally:
        handle.remove()
    return len(seen) == 1 and torch.equal(seen[0], outputs)


def _scale(state: dict[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(state.get("mean", ())), tuple(state.get("std", ()))
