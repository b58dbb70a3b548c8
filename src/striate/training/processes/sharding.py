"""A network sharded over the processes (torch's FSDP): each holds a part of every weight, gradient and optimizer state,
and all of a block only while it computes it."""

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
    """Shard network and optimizer of `state`, which are the same in all of `count` processes. Returns a copy of the
    network as it was. Raises ModelError for a network that cannot be copied."""
    # Only a sharded training needs these.
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
        group["fused"] = False  # not available for torch's sharded tensors
    for parameter, values in state.optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape and isinstance(parameter, DTensor):
                values[name] = distribute_tensor(value, mesh, parameter.placements)
    return plain


def gathered(state: TrainingState) -> dict[str, Any]:
    """The result of `state.to_dict` with whole tensors. All processes have to call it."""
    state.gathered = None
    whole: dict[str, Any] = _whole(state.to_dict())
    for group in whole["optimizer"]["param_groups"]:
        group["fused"] = True  # as for whole tensors
    return whole


def unshard(state: TrainingState, plain: nn.Module) -> None:
    """Give `state` the network `plain` with its current weights. All processes have to call it."""
    plain.load_state_dict(gathered(state)["model"])
    state.module = plain


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The modules to shard, each of which is called as a whole: the children of the network, and of sequences in it,
    that have weights."""
    for part in module.children():
        if isinstance(part, nn.Sequential | nn.ModuleList):
            yield from _blocks(part)
        elif next(part.parameters(), None) is not None:
            yield part


def _whole(value: Any) -> Any:
    if hasattr(value, "full_tensor"):
        return value.full_tensor()
    if isinstance(value, dict):
        shallow = copy.copy(value)  # keeps the type: a state_dict carries the versions of its layers
        shallow.update({key: _whole(part) for key, part in value.items()})
        return shallow
    return [_whole(part) for part in value] if isinstance(value, list) else value
