"""Two states of a training, compared bit by bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from striate.training.trace import bits

_TIMED = ("seconds", "data_wait", "augment_share")
"""What a row of the history says of the time that its epoch took."""
_COMPARED = ("model", "ema", "auxiliary", "optimizer", "scaler", "step", "best_score", "tally", "skipped", "history")
"""Entries of a checkpoint that a run which goes on depends on; the others tell times, and what the network is."""


def state_differences(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[str]:
    """Names of what differs between two checkpoints of a run, in the order of the network: `model.conv1.weight`,
    `optimizer.state.0.exp_avg`, …; times are left out."""
    return [name for key in _COMPARED for name in _differences(one.get(key), two.get(key), key)]


def layers_of(names: Sequence[str]) -> list[str]:
    """The layers that names of weights (`conv1.weight`) belong to, each once, in order."""
    return list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))


def _differences(one: Any, two: Any, name: str) -> Iterator[str]:
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        if one.shape != two.shape or one.dtype != two.dtype or not torch.equal(bits(one.cpu()), bits(two.cpu())):
            yield name
    elif isinstance(one, Mapping) and isinstance(two, Mapping):
        for key in dict.fromkeys([*one, *two]):
            if key not in _TIMED or not name.startswith("history"):
                yield from _differences(one.get(key), two.get(key), f"{name}.{key}")
    elif isinstance(one, list | tuple) and isinstance(two, list | tuple) and len(one) == len(two):
        for k, (a, b) in enumerate(zip(one, two, strict=True)):
            yield from _differences(a, b, f"{name}.{k}")
    elif one != two:
        yield name
