"""Samples that are one place each, seen across many samples: the axis of samples was not where it was thought to be."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.constant_images import blank_samples
from striate.doctor.checks.data.labels_random import SLIGHT
from striate.doctor.checks.data.looking import picture_of
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.describing import channels_first, is_grid
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding

ALIKE, APART, SIGMAS = 0.05, 20.0, 3.0
_MOST, _FEWEST = 512, 60
THRESHOLD = (
    f"neighbors within a sample are correlated by less than {ALIKE:g}, samples differ in their mean {APART:g} times as "
    f"much as such neighbors would make them, and no simple model is better than chance by {SIGMAS:g} standard errors"
)


def _run(evidence: Evidence) -> Iterable[Finding]:
    samples = evidence.samples
    x = samples.sole_inputs
    if not is_grid(x) or not x.is_floating_point() or not bool(torch.isfinite(x).all()):
        raise NoEvidence("the inputs have no places side by side")
    x = channels_first(x[~blank_samples(samples)][:_MOST]).float()
    if len(x) < _FEWEST:
        raise NoEvidence("there are too few samples that show anything")
    alike, apart = neighbors_alike(x), means_apart(x)
    if alike >= ALIKE or apart < APART or _learned(evidence):
        return
    drawn = picture_of("Samples as they come", list(x[:4]), ["sample"] * 4)
    if drawn is not None:
        evidence.pictures["data.scrambled"] = drawn
    yield Finding(
        code="data.scrambled",
        severity="error",
        where="inputs of the network",
        measured=f"within a sample neighbors are correlated by {alike:.2f}, as in noise, but samples differ in their "
        f"mean {apart:.0f} times as much as noise would; simple models are no better than chance",
        threshold=THRESHOLD,
        why="So it looks where each sample holds one place of very many samples: `reshape` keeps the order in "
        "memory, and does not bring the axis of samples to the front.",
        remedy="Of an array (H, W, N), or (H, W, C, N) as MATLAB writes it: `x = np.moveaxis(x, -1, 0)`, not "
        "`x.reshape(N, …)`; then look at a few samples.",
    )


def neighbors_alike(x: torch.Tensor) -> float:
    """The largest correlation along an axis of space between neighbors in grids (N, C, …), means of samples apart."""
    centered = x - x.flatten(2).mean(2).reshape(*x.shape[:2], *[1] * (x.ndim - 2))
    found = [0.0]
    for axis in range(2, x.ndim):
        if x.shape[axis] < 2:
            continue
        one, other = centered.narrow(axis, 0, x.shape[axis] - 1), centered.narrow(axis, 1, x.shape[axis] - 1)
        scale = float((one.square().sum() * other.square().sum()).sqrt())
        found.append(abs(float((one * other).sum())) / scale if scale > 0 else 1.0)
    return max(found)


def means_apart(x: torch.Tensor) -> float:
    """How many times the variance of samples' means is that of means of as many independent numbers."""
    flat = x[:, 0].flatten(1).double()
    within = float(flat.var(1).mean())
    return float(flat.mean(1).var()) * flat.shape[1] / within if within > 0 else 0.0


def _learned(evidence: Evidence) -> bool:
    reference = evidence.reference
    for name in reference.best:
        chance = reference.by_chance(name)
        error = (chance * (1 - chance) / len(reference.labels)) ** 0.5
        if reference.accuracy(name) - chance >= max(SIGMAS * error, SLIGHT * (1 - chance)):
            return True
    return False


CHECK = Check(
    codes=("data.scrambled",),
    question="Is a sample one sample?",
    threshold=THRESHOLD,
    run=_run,
    quick=False,
    explains="data.constant-images data.labels-random data.shift model.receptive-field fit.*",
)
