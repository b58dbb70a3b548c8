"""How much autograd keeps of one sample for the backward pass, call by call."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from striate.account.observing.live_memory import storage_key
from striate.account.observing.observe import Observer


def saved_bytes(module: nn.Module, run: Callable[[Observer], object]) -> dict[int | None, int]:
    """Bytes by the number of the call that keeps them, in eval mode; `run` is a forward pass that is watched.

    What several calls keep counts once, for the first of them; parameters and buffers do not count, as they are there
    anyway. Training keeps in addition what only exists in training: the masks of dropout, one byte a number.
    """
    observer = Observer(module)
    known = {storage_key(tensor) for tensor in (*module.parameters(), *module.buffers())}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        key = storage_key(tensor)
        if key not in known:
            known.add(key)
            observer.entries.tally().saved_bytes += tensor.untyped_storage().nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = run(observer)
    found = {entry.call: entry.tally.saved_bytes for entry in observer.entries.done}
    del output  # until here the graph holds what it keeps, so that no two storages share a number
    return found
