"""`data.not-finite`: are all values of inputs and targets finite, or harmless if not?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.common import WORDS, both_parts
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.predictions import predict
from striate.doctor.evidence.read_batches import Batches
from striate.doctor.evidence.samples import Samples
from striate.doctor.setup.batch import leaves
from striate.records import Finding
from striate.wording import several

_THRESHOLD = "no NaN or Inf; a note if outputs and loss are finite anyway"


@dataclass(frozen=True)
class _NotFinite:
    """NaN or Inf in inputs or targets."""

    what: str
    """inputs or targets."""
    samples: int
    """Samples with such values."""
    total: int
    """Samples that were read."""
    nan: bool
    """Whether some are NaN, not only Inf."""
    columns: tuple[int, ...]
    """Columns with such values; empty unless samples are rows."""
    batches: tuple[int, ...]
    """Batches with such values."""


def _find_not_finite(evidence: Evidence) -> Iterable[Finding]:
    found = []
    for samples, batches in both_parts(evidence):
        for odd in _not_finite(samples, batches):
            matters = _matters(evidence, samples.name, batches, odd)
            found.append(_finding(samples, odd, matters))
    return sorted(found, key=lambda finding: finding.severity)[:1]


def _not_finite(samples: Samples, batches: Batches) -> Iterator[_NotFinite]:
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
        yield _NotFinite(what, count, batches.count, nan, columns, tuple(number for number, _ in parts))


def _matters(evidence: Evidence, name: str, batches: Batches, odd: _NotFinite) -> bool:
    """Whether outputs or losses contain NaN or Inf as well: some networks and losses ignore such values."""
    trial = evidence.trial
    if name == "train":
        if trial.error is not None or any(loss != loss or abs(loss) == float("inf") for loss in trial.losses):
            return True
        if all(number < len(trial.rows) for number in odd.batches):
            return False
    try:
        predictions = predict(evidence.setup, evidence.fresh, [batches.raw[odd.batches[0]]])
    except NoEvidence:
        return True
    return (odd.what == "targets" and name == "train") or not bool(torch.isfinite(predictions.outputs).all())


def _finding(samples: Samples, odd: _NotFinite, matters: bool) -> Finding:
    part = WORDS[samples.name]
    kind = "NaN" if odd.nan else "infinite"
    where = f", in column{'s' * (len(odd.columns) > 1)} {', '.join(map(str, odd.columns[:6]))}" if odd.columns else ""
    many = "…" if len(odd.columns) > 6 else ""
    return NOT_FINITE.finding(
        severity="error" if matters else "note",
        where=f"{part} {odd.what}",
        measured=f"{odd.samples:,} of {several(odd.total, 'sample has', 'samples have')} {odd.what} with a number "
        f"that is {kind}{where}{many}; the first in batch {odd.batches[0]}",
        why="Network and loss cope with them here; other code may not."
        if not matters
        else "One such number makes the loss of its whole batch and then all parameters NaN."
        if samples.name == "train"
        else "One such number makes the loss of validation and other metrics NaN, or their predictions meaningless.",
        remedy="Find where it comes from: `assert torch.isfinite(x).all()` after each step of your preparation (0 / "
        "0 for a constant column, log(0), an empty field). Then fix it there, or replace it: "
        "`x = torch.where(torch.isfinite(x), x, x_mean)`.",
    )


NOT_FINITE = Check(
    codes=("data.not-finite",),
    threshold=_THRESHOLD,
    run=_find_not_finite,
    explains="data.constant-images data.shift loss.* model.* optim.* fit.*",
)
