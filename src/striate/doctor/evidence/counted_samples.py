"""Which samples a loss counts, by the gradients that come back to the network's outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.trial import Change
from striate.doctor.setup.batch import Path, leaf, leaves, main_tensor, parts
from striate.doctor.setup.replicas import Replica
from striate.doctor.setup.training_setup import Step
from striate.observe.gradients import on_gradient
from striate.observe.module_calls import ModuleCall, module_calls
from striate.observe.tensors import tensors_in

if TYPE_CHECKING:
    from striate.doctor.evidence.evidence import Evidence

_STEPS, _MOST, _TARGETS = 12, 40, 640
"""Steps that are watched, and more of small batches, until there are so many targets: of rarer classes, too, there are
some."""
_FEWEST = 4


@dataclass(frozen=True)
class Counted:
    """Of each step, for each target of the loader: `samples` (N,) and `entries`, of the targets' shape, whether the
    loss has a gradient there. `entries` is None where the outputs do not fit the targets position by position."""

    samples: tuple[torch.Tensor, ...]
    targets: tuple[torch.Tensor, ...]
    entries: tuple[torch.Tensor, ...] | None


def asked_for(evidence: Evidence) -> Path | None:
    """Where in a batch the targets lie that a loss of the first step is given, in whatever shape; None where nowhere:
    then they are what usually stands for them."""
    found = list(leaves(evidence.train.raw[0]))
    for call in evidence.calls.losses:
        given = call.target.detach().cpu().flatten()
        for path, tensor in found:
            shown = tensor.detach().cpu()
            ways = (
                [shown, shown.transpose(0, 1), shown[:, 0], shown[:, -1]]
                if shown.ndim > 1 and shown.shape[1]
                else [shown]
            )
            if any(len(given) == way.numel() > 1 and bool((given == way.flatten()).all()) for way in ways):
                return path
    return None


def counted_by(evidence: Evidence) -> Counted:
    """What a few steps count. Raises NoEvidence where outputs have another length than targets, or no gradient."""
    steps: list[list[torch.Tensor]] = []
    shown: list[torch.Tensor] = []
    replicas: list[Replica] = []
    path = evidence.loss_target_path

    def wrap(step: Step) -> Step:
        def watched(model: Any, batch: Any, *given: Any) -> Any:
            targets = main_tensor(parts(batch)[1]) if path is None else leaf(batch, path)
            if targets is None or not targets.ndim:
                raise NoEvidence("the targets are not one tensor")
            steps.append([])
            shown.append(targets.detach().cpu())
            with module_calls({"": replicas[-1].model}, end=lambda call: _note(steps[-1], call, targets)):
                return step(model, batch, *given)

        return watched

    change = Change(prepare=replicas.append, wrap=wrap, notes=(steps, shown))
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
    return Counted(samples, tuple(y for _, y in found), fitting if len(fitting) == len(found) else None)


def _note(sizes: list[torch.Tensor], call: ModuleCall, targets: torch.Tensor) -> None:
    """Add the size of each gradient that comes back to outputs of so many samples, or of all their positions in a
    row."""
    for output in tensors_in(call.output):
        if not output.requires_grad or not output.is_floating_point() or not output.ndim:
            continue
        whole = targets.ndim == 2 == output.ndim and not targets.is_floating_point()
        shape = (*targets.shape, *output.shape[1:]) if whole and len(output) == targets.numel() else output.shape
        if shape[0] == len(targets):
            place = len(sizes)
            sizes.append(torch.zeros(shape))

            def back(gradient: torch.Tensor, place: int = place) -> None:
                sizes[place] = sizes[place] + gradient.detach().float().abs().cpu().reshape(sizes[place].shape)

            on_gradient(output, back)


def _placed(sizes: torch.Tensor, targets: torch.Tensor) -> torch.Tensor | None:
    """Whether each target has a gradient, in the shape of the targets; None where outputs do not fit them."""
    if sizes.numel() == targets.numel():
        return sizes.reshape(targets.shape) > 0
    if sizes.ndim == targets.ndim + 1:
        for axis in (1, sizes.ndim - 1):
            rest = sizes.sum(axis)
            if rest.shape == targets.shape:
                return rest > 0
    return None
