"""Too few samples to learn from."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.describing import is_grid
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.nearness import columns_dealt, first_of_each
from striate.records import Finding, Remedy
from striate.wording import several

FEW, FEW_ROWS, CHANCE = 5, 20, 0.5
THRESHOLD = f"{FEW} different samples of each class, {FEW_ROWS} in all: fewer are learned by heart"


def _run(evidence: Evidence) -> Iterable[Finding]:
    if not evidence.train.whole:
        return
    x = evidence.samples.inputs
    kept = first_of_each(x)
    if not is_grid(x) and len(first_of_each(columns_dealt(x))) < CHANCE * len(x):
        kept = torch.arange(len(x))  # a table of few values: its rows agree by chance
    scarce = _scarce_classes(evidence, kept)
    if scarce:
        named = ", ".join(f"{k} ({n})" for k, n in scarce[:6])
        more = f" and {len(scarce) - 6} more" if len(scarce) > 6 else ""
        got = f"{several(len(scarce), 'class has', 'classes have')} fewer than {FEW} different samples: {named}{more}"
    elif len(kept) < FEW_ROWS:
        again = f", {len(x):,} with copies" if len(x) > len(kept) else ""
        got = f"{several(len(kept), 'different training sample')} in all{again}"
    else:
        return
    yield Finding(
        code="data.too-few",
        severity="warning",
        where="training loader",
        measured=got,
        threshold=THRESHOLD,
        why="So few can be told apart by anything, also by what has nothing to do with the class.",
        remedy=Remedy(
            "Collect more, a few dozen of each class to begin with; or begin with a network that was trained on "
            "other data "
            "and train its last layer only; or join classes. Augmentation helps, but makes no new samples.",
            advice="more samples: a few dozen of each class to begin with",
        ),
    )


def _scarce_classes(evidence: Evidence, kept: torch.Tensor) -> list[tuple[int, int]]:
    """Classes with too few different samples, and how many they have; none where the targets are no classes."""
    try:
        labels = evidence.samples.labels[kept]
    except NoEvidence:
        return []
    counts = torch.bincount(labels[labels >= 0])
    return [(int(k), int(counts[k])) for k in ((counts > 0) & (counts < FEW)).nonzero().flatten()]


CHECK = Check(
    codes=("data.too-few",),
    question="Are there samples enough to learn from?",
    threshold=THRESHOLD,
    run=_run,
    explains="data.label-noise fit.overfit",
)
