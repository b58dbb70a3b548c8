"""Images and signals in which every number is the same."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.looking import WORDS, both_parts, picture_of, spread_of
from striate.doctor.evidence.describing import is_grid
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.samples import Samples
from striate.records import Finding
from striate.wording import several

WARN, GRAVE, FEWEST = 0.02, 0.2, 3
FLAT = 1e-4
BARE = 0.96
_SMALLEST = 16
THRESHOLD = (
    f"a warning from {WARN:.0%} and {FEWEST} samples: one or two blank ones are in many good sets; an error from "
    f"{GRAVE:.0%}. Blank: a standard deviation below {FLAT:g} of the median one"
)


def _run(evidence: Evidence) -> Iterable[Finding]:
    for samples, _ in both_parts(evidence):
        blank = blank_samples(samples)
        count, total = int(blank.sum()), len(blank)
        if count < max(FEWEST, WARN * total):
            continue
        shown = samples.inputs[torch.cat([blank.nonzero()[:3], (~blank).nonzero()[:2]]).flatten()]
        words = ["blank"] * min(3, count) + ["not blank"] * (len(shown) - min(3, count))
        drawn = picture_of("Blank images", list(shown), words)
        if drawn is not None:
            evidence.pictures["data.constant-images"] = drawn
        first = int(blank.nonzero()[0])
        yield Finding(
            code="data.constant-images",
            severity="error" if count >= GRAVE * total else "warning",
            where=f"{WORDS[samples.name]} inputs",
            measured=f"{count:,} of {several(total, 'sample', 'samples')} have one value everywhere; the first is "
            f"sample {first} with {float(samples.inputs[first].flatten()[0]):g}",
            threshold=THRESHOLD,
            why="There is nothing in them to tell classes apart by; their labels can only be guessed.",
            remedy="Look at how these are read: a file that fails and becomes zeros, bytes divided as whole numbers "
            "(`x // 255`), a mask or crop that is empty. Let reading raise instead of `return torch.zeros(…)`, or "
            "leave them out: `keep = x.flatten(1).std(1) > 0; x, y = x[keep], y[keep]`.",
        )
        return


def blank_samples(samples: Samples) -> torch.Tensor:
    """Which samples (N,) are blank: none of tables, and of whole numbers that stand for words."""
    x = samples.inputs
    none = torch.zeros(len(x), dtype=torch.bool)
    grid = x.ndim > 2 or (x.ndim == 2 and x.shape[1] >= 4 * _SMALLEST)
    if not grid or x[0].numel() < _SMALLEST or not (x.is_floating_point() or x.dtype == torch.uint8):
        return none
    spread = torch.nan_to_num(spread_of(x), nan=1.0, posinf=1.0)
    some = spread[spread > 0]
    typical = float(some.median()) if len(some) else 0.0
    level = torch.nan_to_num(x.double().flatten(1).abs().amax(1))
    # Rounding leaves a little spread in a large constant.
    return spread <= torch.maximum(torch.tensor(FLAT * typical).double(), 1e-7 * level)


def bare_samples(x: torch.Tensor) -> torch.Tensor:
    """Which images and signals (N, …) are one value nearly everywhere, so that two of them may agree by chance."""
    if not is_grid(x):
        return torch.zeros(len(x), dtype=torch.bool)
    flat = x.flatten(1)
    # What fills more than half of the places is the median.
    return (flat == flat.median(1, keepdim=True).values).float().mean(1) >= BARE


CHECK = Check(
    codes=("data.constant-images",),
    question="Does every image or signal show something?",
    threshold=THRESHOLD,
    run=_run,
    explains=(
        "data.duplicates data.label-noise data.labels-random data.leak data.too-few model.collapsed "
        "model.dead-units fit.*"
    ),
)
