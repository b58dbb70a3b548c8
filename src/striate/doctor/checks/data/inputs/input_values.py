"""Values of inputs that no network learns from: `data.not-finite` and `data.constant-images`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.looking import WORDS, both_parts, deviation_of, picture_of
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.describing import is_grid
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.predictions import predict
from striate.doctor.evidence.reading import Batches
from striate.doctor.evidence.samples import Samples
from striate.doctor.setup.batch import leaves
from striate.records import Finding
from striate.wording import several

NOT_FINITE_THRESHOLD = "no NaN or Inf; a note if outputs and loss are finite anyway"


@dataclass(frozen=True)
class _Odd:
    """What is not finite: `what` (inputs or targets), how many samples of how many, which columns, in which batches."""

    what: str
    samples: int
    total: int
    nan: bool
    columns: tuple[int, ...]
    batches: tuple[int, ...]


def _find_not_finite(evidence: Evidence) -> Iterable[Finding]:
    found = []
    for samples, batches in both_parts(evidence):
        for odd in _odd(samples, batches):
            matters = _matters(evidence, samples.name, batches, odd)
            found.append(_told(samples, odd, matters))
    return sorted(found, key=lambda finding: finding.severity)[:1]


def _odd(samples: Samples, batches: Batches) -> Iterator[_Odd]:
    tallies: dict[Any, list[tuple[int, torch.Tensor]]] = {}
    for number, batch in enumerate(batches.raw):
        for path, tensor in leaves(batch):
            if tensor.is_floating_point() and tensor.ndim and not bool(torch.isfinite(tensor).all()):
                tallies.setdefault(path, []).append((number, tensor))
    for path, parts in tallies.items():
        masks = [~torch.isfinite(tensor.reshape(len(tensor), -1)) for _, tensor in parts]
        nan = any(bool(tensor.isnan().any()) for _, tensor in parts)
        columns: tuple[int, ...] = ()
        if all(tensor.ndim == 2 for _, tensor in parts):
            columns = tuple(torch.stack([mask.any(0) for mask in masks]).any(0).nonzero().flatten().tolist())
        what = "targets" if path == samples.y_path and path != samples.x_path else "inputs"
        count = sum(int(mask.any(1).sum()) for mask in masks)
        yield _Odd(what, count, batches.count, nan, columns, tuple(number for number, _ in parts))


def _matters(evidence: Evidence, name: str, batches: Batches, odd: _Odd) -> bool:
    """Whether what comes of them is not finite either: some networks and losses leave such numbers out."""
    trial = evidence.trial
    if name == "train":
        if trial.error is not None or any(loss != loss or abs(loss) == float("inf") for loss in trial.losses):
            return True
        if all(number < len(trial.rows) for number in odd.batches):
            return False
    try:
        told = predict(evidence.setup, evidence.fresh, [batches.raw[odd.batches[0]]])
    except NoEvidence:
        return True
    return (odd.what == "targets" and name == "train") or not bool(torch.isfinite(told.outputs).all())


def _told(samples: Samples, odd: _Odd, matters: bool) -> Finding:
    part = WORDS[samples.name]
    kind = "NaN" if odd.nan else "infinite"
    where = f", in column{'s' * (len(odd.columns) > 1)} {', '.join(map(str, odd.columns[:6]))}" if odd.columns else ""
    many = "…" if len(odd.columns) > 6 else ""
    return NOT_FINITE.finding(
        severity="error" if matters else "note",
        where=f"{part} {odd.what}",
        measured=f"{odd.samples:,} of {several(odd.total, 'sample has', 'samples have')} {odd.what} with a number "
        f"that is {kind}{where}{many}; the first in batch {odd.batches[0]}",
        why="One such number makes the loss of its whole batch and then all parameters NaN."
        if matters
        else "Network and loss cope with them here; other code may not.",
        remedy="Find where it comes from: `assert torch.isfinite(x).all()` after each step of your preparation (0 / "
        "0 for a constant column, log(0), an empty field). Then fix it there, or replace it: "
        "`x = torch.where(torch.isfinite(x), x, x_mean)`.",
    )


NOT_FINITE = Check(
    codes=("data.not-finite",),
    question="Are all values of inputs and targets finite, or harmless if not?",
    threshold=NOT_FINITE_THRESHOLD,
    run=_find_not_finite,
    explains="data.constant-images loss.* model.* optim.* fit.*",
)


WARN, GRAVE, FEWEST = 0.02, 0.2, 3
FLAT = 1e-4
BARE = 0.96
_SMALLEST = 16
CONSTANT_IMAGES_THRESHOLD = (
    f"a warning from {WARN:.0%} and {FEWEST} samples, as many good data sets have one or two blank ones; an error "
    f"from {GRAVE:.0%}. Blank: a standard deviation below {FLAT:g} times the median, and a target that names "
    "something"
)


def _find_constant_images(evidence: Evidence) -> Iterable[Finding]:
    for samples, _ in both_parts(evidence):
        blank = blank_samples(samples) & ~_said_to_be_empty(samples)
        count, total = int(blank.sum()), len(blank)
        if count < max(FEWEST, WARN * total):
            continue
        shown = samples.inputs[torch.cat([blank.nonzero()[:3], (~blank).nonzero()[:2]]).flatten()]
        words = ["blank"] * min(3, count) + ["not blank"] * (len(shown) - min(3, count))
        drawn = picture_of("Blank images", list(shown), words)
        if drawn is not None:
            evidence.pictures["data.constant-images"] = drawn
        first = int(blank.nonzero()[0])
        yield CONSTANT_IMAGES.finding(
            severity="error" if count >= GRAVE * total else "warning",
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
    """Which samples (N,) are blank: none of tables, and of whole numbers that stand for words."""
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
    return deviation <= torch.maximum(torch.tensor(FLAT * typical).double(), 1e-7 * level)


def _said_to_be_empty(samples: Samples) -> torch.Tensor:
    """Which samples (N,) show nothing by their targets: none of several labels, a mask of nothing but background. Of
    targets that are the inputs themselves none."""
    x, y = samples.inputs, samples.y
    if y is None or len(y) != len(x) or y.ndim < 2 or y[0].numel() < 2 or (y.shape == x.shape and torch.equal(y, x)):
        return torch.zeros(len(x), dtype=torch.bool)
    flat = y.flatten(1)
    background = flat[:, :: max(1, flat.shape[1] // 256)].flatten().mode().values if y.ndim > 2 else 0
    return (flat == background).all(1)


def bare_samples(x: torch.Tensor) -> torch.Tensor:
    """Which images and signals (N, …) are one value nearly everywhere, so that two of them may agree by chance."""
    if not is_grid(x):
        return torch.zeros(len(x), dtype=torch.bool)
    flat = x.flatten(1)
    # What fills more than half of the places is the median.
    return (flat == flat.median(1, keepdim=True).values).float().mean(1) >= BARE


CONSTANT_IMAGES = Check(
    codes=("data.constant-images",),
    question="Does every image or signal have content?",
    threshold=CONSTANT_IMAGES_THRESHOLD,
    run=_find_constant_images,
    explains=(
        "data.duplicates data.label-noise data.labels-random data.leak data.too-few model.collapsed "
        "model.dead-units fit.*"
    ),
)
