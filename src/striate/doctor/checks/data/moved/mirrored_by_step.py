"""Inputs that the training step mirrors, without their targets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import torch

from striate.doctor.checks.data.moved.left_behind import BETWEEN, left_behind
from striate.doctor.checks.data.moved.mirrored_numbers import sign_changing_number
from striate.doctor.checks.data.moved.named_sides import left_of_names
from striate.doctor.evidence.calls import StepCalls, watch_steps
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding
from striate.wording import several

_BATCHES, _DRAWS, _FEWEST, _OFTEN = 2, 6, 8, 0.9
_LIKE = 0.3
"""The largest distance to the mirrored image, as a share of that to the original: noise and colors may differ."""
WAYS = {-1: "mirror", -2: "flip upside down"}

Draw = tuple[torch.Tensor, torch.Tensor]


def left_by_step(evidence: Evidence) -> Finding | None:
    """A finding if some steps mirror samples, but not their maps, their numbers that change sign in mirrored images, or
    their labels that name sides; else None. Steps of the same batch are compared."""
    drawn = list(_pairs_of_steps(evidence))
    for axis, way in WAYS.items():
        left, mirrored, mapped = 0, 0, False
        for (before, original), (shown, target) in drawn:
            turned = nearer_rows(shown, before.flip(axis), before)
            mapped = original.shape[-2:] == before.shape[-2:]
            if mapped:
                turned &= ~equal_rows(original, original.flip(axis))
            mirrored += int(turned.sum())
            left += int((turned & equal_rows(target, original)).sum())
        if left < max(_FEWEST, _OFTEN * mirrored):
            continue
        measured = f"of {several(mirrored, 'sample')} that some of {_DRAWS} steps {way}, {left:,} keep"
        if mapped:
            return _finding(f"{measured} their target map")
        with suppress(NoEvidence):
            found = sign_changing_number(evidence.val_samples, axis)
            if found is not None:
                return _finding(
                    f"{measured} their target numbers; predictions of a ridge regression for new images correlate by "
                    f"{found[1]:.2f} with one of them, and by {found[2]:.2f} for mirrored images"
                )
    return left_of_names(evidence, drawn, "the training step")


def _finding(measured: str) -> Finding:
    return left_behind(
        "the training step",
        measured,
        "maps, or numbers that change sign with the image, that stay the same in eight or more samples that "
        "the step mirrors, and in nine of ten",
        BETWEEN,
        "move targets with their images: `masks = masks.flip(-1)`, "
        "`boxes[:, [0, 2]] = width - boxes[:, [2, 0]]`, `points[:, 0] = width - points[:, 0]`",
    )


def _pairs_of_steps(evidence: Evidence) -> Iterator[tuple[Draw, Draw]]:
    """Inputs of the network and targets of the loss in the first of several steps of a batch, and in each later
    step."""
    if _inputs_and_targets(evidence.calls) is None:
        return
    for batch in evidence.train.raw[:_BATCHES]:
        seen = watch_steps(evidence.setup, [batch] * _DRAWS, evidence.clock.until(0.1))
        if any(calls.moved_back for calls in seen):  # the step moves outputs back to their targets
            return
        draws = [draw for calls in seen if (draw := _inputs_and_targets(calls)) is not None]
        if len(draws) < _DRAWS:
            return
        first = draws[0]
        for other in draws[1:]:
            if all(one.shape == another.shape for one, another in zip(first, other, strict=True)):
                yield first, other


def _inputs_and_targets(calls: StepCalls) -> Draw | None:
    """Images (N, C, H, W) and targets (N, …) other than class numbers; None for other steps."""
    shown = None if calls.shown is None else calls.shown.cpu()
    if shown is None or shown.ndim != 4:
        return None
    targets = (call.target for call in calls.losses if call.target.ndim and len(call.target) == len(shown))
    chosen = next((target for target in targets if target.ndim > 1 or target.is_floating_point()), None)
    return None if chosen is None else (shown, chosen.cpu())


def nearer_rows(shown: torch.Tensor, moved: torch.Tensor, still: torch.Tensor) -> torch.Tensor:
    """Whether each image (N,) is near the moved image, and not near the still one."""
    to_moved, to_still = ((shown.double() - other.double()).flatten(1).norm(dim=1) for other in (moved, still))
    nearer: torch.Tensor = (to_moved < _LIKE * to_still) & (to_still > 0)
    return nearer


def equal_rows(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (one == other).reshape(len(one), -1).all(1)
