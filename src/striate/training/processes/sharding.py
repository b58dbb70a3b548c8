"""A network spread over the processes (torch's FSDP): each keeps a part of every weight, gradient and of what the
optimizer remembers, and has a block whole only while it computes it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from striate.models.preserved_state import copied
from striate.training.config import Config
from striate.training.optimizers import make_optimizer
from striate.training.state import TrainingState


def shard(state: TrainingState, config: Config, count: int) -> nn.Module:
    """Spread network and optimizer of `state`, which are the same in all of `count` processes; returns a copy of the
    network as it was. Raises ModelError for a network that cannot be copied."""
    # Loaded here: only such a training needs them.
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor, distribute_tensor

    plain, saved = copied(state.module), state.optimizer.state_dict()
    mesh = init_device_mesh(state.device.type, (count,))
    for block in (*_blocks(state.module), state.module):
        fully_shard(block, mesh=mesh)
    state.optimizer = make_optimizer(state.module, config)
    state.optimizer.load_state_dict(saved)
    for group in state.optimizer.param_groups:
        group["fused"] = False  # of which torch's spread tensors know nothing
    for parameter, values in state.optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape and isinstance(parameter, DTensor):
                values[name] = distribute_tensor(value, mesh, parameter.placements)
    return plain


def gathered(state: TrainingState) -> dict[str, Any]:
    """What `state.to_dict` gives, with whole tensors. All processes have to call it."""
    state.gathered = None
    whole: dict[str, Any] = _whole(state.to_dict())
    for group in whole["optimizer"]["param_groups"]:
        group["fused"] = True  # as it is of whole ones
    return whole


def unshard(state: TrainingState, plain: nn.Module) -> None:
    """Give `state` the network `plain` with the weights that it has now. All processes have to call it."""
    plain.load_state_dict(gathered(state)["model"])
    state.module = plain


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """What is called as one: parts of the network, and of the sequences in it, that have weights."""
    for part in module.children():
        if isinstance(part, nn.Sequential | nn.ModuleList):
            yield from _blocks(part)
        elif next(part.parameters(), None) is not None:
            yield part


def _whole(value: Any) -> Any:
    if hasattr(value, "full_tensor"):
        return value.full_tensor()
    if isinstance(value, dict):
        shallow = copy.copy(value)  # of its own type: a state_dict carries the versions of its layers
        shallow.update({key: _whole(part) for key, part in value.items()})
        return shallow
    return [_whole(part) for part in value] if isinstance(value, list) else value
