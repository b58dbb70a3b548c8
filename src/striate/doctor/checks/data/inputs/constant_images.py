"""`data.constant-images`: does every image or signal have content?"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.common import WORDS, both_parts, deviation_of, picture_of
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.samples import Samples
from striate.records import Finding
from striate.wording import percent, several

_WARN, _GRAVE, _FEWEST = 0.02, 0.2, 3
_FLAT = 1e-4
_SMALLEST = 16
_THRESHOLD = (
    f"a warning from {percent(_WARN, 0)} and {_FEWEST} samples, as many good data sets have one or two blank ones; an "
    f"error from {percent(_GRAVE, 0)}. Blank: a standard deviation below {_FLAT:g} times the median, and a target that "
    "is not empty"
)


def _find_constant_images(evidence: Evidence) -> Iterable[Finding]:
    for samples, _ in both_parts(evidence):
        blank = blank_samples(samples) & ~_empty_by_target(samples)
        count, total = int(blank.sum()), len(blank)
        if count < max(_FEWEST, _WARN * total):
            continue
        shown = samples.inputs[torch.cat([blank.nonzero()[:3], (~blank).nonzero()[:2]]).flatten()]
        words = ["blank"] * min(3, count) + ["not blank"] * (len(shown) - min(3, count))
        drawn = picture_of("Blank images", list(shown), words)
        if drawn is not None:
            evidence.pictures["data.constant-images"] = drawn
        first = int(blank.nonzero()[0])
        yield CONSTANT_IMAGES.finding(
            severity="error" if count >= _GRAVE * total else "warning",
            where=f"{WORDS[samples.name]} inputs",
            measured=f"{count:,} of {several(total, 'sample', 'samples')} have one value everywhere; the first is "
            f"sample {first} with {float(samples.inputs[first].flatten()[0]):g}",
            why="They contain nothing that tells classes apart: their labels can only be guessed.",
            remedy="Check how these are read: a file that fails and becomes zeros, integer division of bytes (`x "
            "// 255`), an empty mask or crop. Let the reader raise instead of `return torch.zeros(…)`, or leave "
            "such samples out: `keep = x.flatten(1).std(1) > 0; x, y = x[keep], y[keep]`.",
        )
        return


def blank_samples(samples: Samples) -> torch.Tensor:
    """Which samples (N,) are blank; none for tables and tokens."""
    x = samples.inputs
    none = torch.zeros(len(x), dtype=torch.bool)
    grid = x.ndim > 2 or (x.ndim == 2 and x.shape[1] >= 4 * _SMALLEST)
    if not grid or x[0].numel() < _SMALLEST or not (x.is_floating_point() or x.dtype == torch.uint8):
        return none
    deviation = torch.nan_to_num(deviation_of(x), nan=1.0, posinf=1.0)
    some = deviation[deviation > 0]
    typical = float(some.median()) if len(some) else 0.0
    level = torch.nan_to_num(x.double().flatten(1).abs().amax(1))
    # Rounding leaves a small deviation in a large constant.
    return deviation <= torch.maximum(torch.tensor(_FLAT * typical).double(), 1e-7 * level)


def _empty_by_target(samples: Samples) -> torch.Tensor:
    """Which samples (N,) are empty according to their targets: no label of several, or a mask of background alone. None
    if the targets are the inputs themselves."""
    x, y = samples.inputs, samples.y
    if y is None or len(y) != len(x) or y.ndim < 2 or y[0].numel() < 2 or (y.shape == x.shape and torch.equal(y, x)):
        return torch.zeros(len(x), dtype=torch.bool)
    flat = y.flatten(1)
    background = flat[:, :: max(1, flat.shape[1] // 256)].flatten().mode().values if y.ndim > 2 else 0
    return (flat == background).all(1)


CONSTANT_IMAGES = Check(
    codes=("data.constant-images",),
    threshold=_THRESHOLD,
    run=_find_constant_images,
    explains=(
        "data.duplicates data.label-noise data.labels-random data.leak data.too-few model.collapsed "
        "model.dead-units fit.*"
    ),
)
