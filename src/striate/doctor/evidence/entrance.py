"""What the first layer that sees places is given: a convolution, or a recurrent layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from striate.doctor.evidence.answers import answer
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.patient.copies import Double
from striate.doctor.patient.patient import Patient

_CONVOLUTIONS = nn.modules.conv._ConvNd


@dataclass(frozen=True)
class Entrance:
    """`name` of the first such layer; None where it is a function. `x`: what it
    was given (N, …). `channels`: the axis that is no place: 1, or the last one of a recurrent layer."""

    name: str | None
    x: torch.Tensor
    channels: int


def find_entrance(patient: Patient, double: Double, batch: Any) -> Entrance:
    """Ask the double about a batch and look at its first such layer. Raises NoEvidence where it has none."""
    caught: list[Entrance] = []
    handles = []
    for name, part in double.model.named_modules():
        if isinstance(part, _CONVOLUTIONS | nn.RNNBase):
            handles.append(part.register_forward_pre_hook(_catch(name, caught)))
    try:
        with _Functions(caught):
            answer(patient, double, [batch])
    finally:
        for handle in handles:
            handle.remove()
    if caught:
        return caught[0]
    raise NoEvidence("no layer of the network sees places side by side")


def _catch(name: str, caught: list[Entrance]) -> Any:
    def enter(part: nn.Module, args: tuple[Any, ...]) -> None:
        if caught or not args or not isinstance(args[0], torch.Tensor):
            return
        x = args[0].detach().cpu().float()
        if isinstance(part, nn.RNNBase):
            x = x if part.batch_first else x.transpose(0, 1)
            caught.append(Entrance(name, x.clone(), x.ndim - 1))
        else:
            caught.append(Entrance(name, x.clone(), 1))

    return enter


class _Functions(TorchFunctionMode):
    """Catches what the first convolution is given that is called as a function, not by a module."""

    def __init__(self, caught: list[Entrance]) -> None:
        super().__init__()
        self.caught = caught

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self.caught and getattr(func, "__name__", "") in ("conv1d", "conv2d", "conv3d") and args:
            self.caught.append(Entrance(None, args[0].detach().cpu().float().clone(), 1))
        return func(*args, **(kwargs or {}))
