"""Validation samples that are trained on."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.constant_images import bare_samples, blank_samples
from striate.doctor.checks.data.looking import picture_of
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.describing import is_grid
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.nearness import MOST, columns_dealt, comparable, neighbors, same_in
from striate.doctor.evidence.reading import shared_positions
from striate.records import Finding, Remedy
from striate.wording import several

SHARE, GRAVE, FEWEST = 0.02, 0.05, 3
TABLE = 0.1
_CERTAIN = 4.0
THRESHOLD = (
    f"equal samples: a warning from {SHARE:.0%} of validation and {FEWEST} samples (real sets have a copy or two), an "
    f"error from {GRAVE:.0%}; of tables, whose rows may agree by chance, from {TABLE:.0%} and three times chance. Near "
    f"copies: {GRAVE:.0%} of validation, three times as many as within training, beyond {_CERTAIN:g} standard errors"
)


def _run(evidence: Evidence) -> Iterable[Finding]:
    shared = shared_positions(evidence.patient.train, evidence.patient.val)
    if shared is not None and shared[0] >= max(FEWEST, SHARE * shared[1]):
        count, total = shared
        yield _told(count, total, "the same positions of the same data set as training samples", GRAVE)
        return
    train, val = evidence.samples, evidence.val_samples
    x, known = val.sole_inputs, train.inputs
    useful = torch.arange(len(x))[~(blank_samples(val) | bare_samples(x))]
    if x[0].numel() < 3 or len(useful) < 5:
        raise NoEvidence("validation samples of one or two numbers each, or less than five, tell no copies from chance")
    x = x[useful]
    where = same_in(x, known)
    count = int((where >= 0).sum())
    if count >= max(FEWEST, _least_share(x, known) * len(x)):
        pair = (where >= 0).nonzero()[:3].flatten()
        _draw(evidence, x[pair], known[where[pair]])
        yield _told(count, len(x), f"equal to a training sample, number for number{_first(useful, where)}", GRAVE)
        return
    yield from _near(evidence, x, known, useful)


def _least_share(x: torch.Tensor, known: torch.Tensor) -> float:
    """From which share of equal samples on it is no chance."""
    if is_grid(x) or x[0].numel() > 64:
        return SHARE
    chance = float((same_in(columns_dealt(x), known) >= 0).double().mean())
    return max(TABLE, 3 * chance)


def _near(evidence: Evidence, x: torch.Tensor, known: torch.Tensor, useful: torch.Tensor) -> Iterable[Finding]:
    x, known = x[:MOST], known[:MOST]
    if x.shape[1:] != known.shape[1:] or len(known) < 30 or len(x) < 20:
        return
    if not bool(torch.isfinite(x).all() and torch.isfinite(known).all()):
        return
    base = comparable(known, known)
    across, within = neighbors(comparable(x, known), base), neighbors(base, base, same=True)
    count, share, usual = int(across.near.sum()), float(across.near.double().mean()), float(within.near.double().mean())
    error = (max(usual * (1 - usual), 1e-4) * (1 / len(x) + 1 / len(known))) ** 0.5
    if count < max(FEWEST, GRAVE * len(x)) or share < 3 * usual + 0.03 or share - usual < _CERTAIN * error:
        return
    pair = across.near.nonzero()[:3].flatten()
    _draw(evidence, x[pair], known[across.nearest[pair]])
    first = int(pair[0])
    yield _told(
        count,
        len(x),
        f"nearly the same as a training sample: their distance is less than 0.3 of that to the tenth nearest; within "
        f"training that holds for {usual:.1%} (the first: validation sample {int(useful[first])} and training sample "
        f"{int(across.nearest[first])})",
        0.2,
    )


def _first(useful: torch.Tensor, where: torch.Tensor) -> str:
    first = int((where >= 0).nonzero()[0])
    return f" (the first: validation sample {int(useful[first])} and training sample {int(where[first])} as they come)"


def _draw(evidence: Evidence, val: torch.Tensor, train: torch.Tensor) -> None:
    pairs = [image for both in zip(val, train, strict=True) for image in both]
    drawn = picture_of("Validation beside training", pairs, ["validation", "training"] * len(val))
    if drawn is not None:
        evidence.pictures["data.leak"] = drawn


def _told(count: int, total: int, how: str, grave: float) -> Finding:
    return Finding(
        code="data.leak",
        severity="error" if count >= grave * total else "warning",
        where="validation loader",
        measured=f"{count:,} of {several(total, 'validation sample is', 'validation samples are')} {how}",
        threshold=THRESHOLD,
        why="What was trained on is recognized, not understood: validation measures too well.",
        remedy=Remedy(
            "Split before anything else is done, by position and once: `order = torch.randperm(len(x)); train, "
            "val = "
            "order[:n], order[n:]`. Remove copies first, and keep what belongs together (frames, patients) on one "
            "side. Copies, crops and augmentation come after the split, in training only.",
            command=("data", "check", "DATA"),
        ),
    )


CHECK = Check(
    codes=("data.leak",),
    question="Is anything that validation measures on also trained on?",
    threshold=THRESHOLD,
    run=_run,
)
