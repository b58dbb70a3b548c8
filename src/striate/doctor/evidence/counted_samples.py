"""Which samples a loss counts, by the gradients that come back to the network's outputs."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.trial import Change
from striate.doctor.setup.batch import Path, leaf, leaves, main_tensor, parts
from striate.observe.gradients import on_gradient
from striate.observe.module_calls import ModuleCall, module_calls
from striate.observe.tensors import tensors_in

if TYPE_CHECKING:
    from striate.doctor.evidence.evidence import Evidence

_STEPS, _MOST, _TARGETS = 12, 40, 640
"""Steps that are recorded; most steps; steps are added until there are this many targets, to include rare classes."""
_FEWEST = 4


@dataclass(frozen=True)
class CountedSamples:
    """The targets of some steps, and which of them the loss counts, by its gradient."""

    samples: tuple[torch.Tensor, ...]
    """(N,) for each step, whether the loss has a gradient by any output of the sample."""
    targets: tuple[torch.Tensor, ...]
    """(N, …) for each step, the loader's targets."""
    entries: tuple[torch.Tensor, ...] | None
    """(N, …) for each step, whether the loss has a gradient by the outputs at the target's position; None where the
    outputs do not correspond to the targets position by position."""


def loss_target_path(evidence: Evidence) -> Path | None:
    """The place in a batch of the targets that a loss of the first step receives, in any shape; None where there is no
    such place, and the usual one applies."""
    found = list(leaves(evidence.train.raw[0]))
    for call in evidence.calls.losses:
        given = call.target.detach().cpu().flatten()
        for path, tensor in found:
            shown = tensor.detach().cpu()
            forms = (
                [shown, shown.transpose(0, 1), shown[:, 0], shown[:, -1]]
                if shown.ndim > 1 and shown.shape[1]
                else [shown]
            )
            if any(len(given) == form.numel() > 1 and bool((given == form.flatten()).all()) for form in forms):
                return path
    return None


def counted_samples(evidence: Evidence) -> CountedSamples:
    """The samples that the loss counts in a few steps. Raises NoEvidence where outputs and targets differ in length, or
    outputs have no gradient."""
    steps: list[list[torch.Tensor]] = []
    shown: list[torch.Tensor] = []
    path = evidence.loss_target_path

    def watched(model: nn.Module, batch: Any, *_: Any) -> AbstractContextManager[Any]:
        targets = main_tensor(parts(batch)[1]) if path is None else leaf(batch, path)
        if targets is None or not targets.ndim:
            raise NoEvidence("the targets are not one tensor")
        steps.append([])
        shown.append(targets.detach().cpu())
        return module_calls({"": model}, end=lambda call: _note(steps[-1], call, targets))

    change = Change(around=watched, notes=(steps, shown))
    first = main_tensor(parts(evidence.train.raw[0])[1]) if path is None else leaf(evidence.train.raw[0], path)
    few = 1 if first is None else first.numel()
    count = min(max(_STEPS, _TARGETS // max(1, few)), _MOST)
    trial = evidence.variant("with outputs watched", change, steps=count)
    steps, shown = trial.notes
    if isinstance(trial.error, NoEvidence):
        raise trial.error
    every = zip(steps, shown, strict=True)
    found = [(sizes, y) for sizes, y in every if sizes and 0 < float(sum(s.sum() for s in sizes)) < math.inf]
    if len(found) < _FEWEST:
        raise NoEvidence("no gradient comes back to outputs that belong to targets")
    samples = tuple(torch.stack([s.reshape(len(s), -1).sum(1) for s in sizes]).sum(0) > 0 for sizes, _ in found)
    entries = [_placed(sizes[0], y) for sizes, y in found] if all(len(sizes) == 1 for sizes, _ in found) else [None]
    fitting = tuple(entry for entry in entries if entry is not None)
    return CountedSamples(samples, tuple(y for _, y in found), fitting if len(fitting) == len(found) else None)


def _note(sizes: list[torch.Tensor], call: ModuleCall, targets: torch.Tensor) -> None:
    """Record the absolute gradient by each output with a row for each sample, or for each position of all samples."""
    for output in tensors_in(call.output):
        if not output.requires_grad or not output.is_floating_point() or not output.ndim:
            continue
        flattened = targets.ndim == 2 == output.ndim and not targets.is_floating_point()
        shape = (*targets.shape, *output.shape[1:]) if flattened and len(output) == targets.numel() else output.shape
        if shape[0] == len(targets):
            place = len(sizes)
            sizes.append(torch.zeros(shape))

            def back(gradient: torch.Tensor, place: int = place) -> None:
                sizes[place] = sizes[place] + gradient.detach().float().abs().cpu().reshape(sizes[place].shape)

            on_gradient(output, back)


def _placed(sizes: torch.Tensor, targets: torch.Tensor) -> torch.Tensor | None:
    """Whether each target has a gradient, in the shape of the targets; None where the outputs have another shape."""
    if sizes.numel() == targets.numel():
        return sizes.reshape(targets.shape) > 0
    if sizes.ndim == targets.ndim + 1:
        for axis in (1, sizes.ndim - 1):
            rest = sizes.sum(axis)
            if rest.shape == targets.shape:
                return rest > 0
    return None
