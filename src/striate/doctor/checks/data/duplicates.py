"""The same sample many times in training."""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter
from typing import Any

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.constant_images import bare_samples, blank_samples
from striate.doctor.checks.data.looking import picture_of
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.describing import is_grid
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.nearness import columns_dealt, copies_in
from striate.doctor.evidence.reading import draws_again
from striate.doctor.patient.batch import main_tensor, parts
from striate.records import Finding, Remedy

SHARE, GRAVE, FEWEST = 0.2, 0.5, 10
_MOST = 2000
_SECONDS = 0.3
THRESHOLD = (
    f"a warning where {SHARE:.0%} of the samples are copies, an error from {GRAVE:.0%}; of tables, whose rows "
    "may agree by chance, beyond three times chance; what a sampler draws again on purpose does not count"
)


def _run(evidence: Evidence) -> Iterable[Finding]:
    samples = evidence.samples
    x = samples.sole_inputs[~blank_samples(samples)]
    if _share(x) < SHARE:
        return
    x = x[~bare_samples(x)]
    where = "training loader"
    if draws_again(evidence.patient.train):
        x, where = _of_data_set(evidence), "training data set"
    share = _share(x)
    if len(x) < FEWEST or share < _least(x):
        return
    first = copies_in(x)
    counts = torch.bincount(first)
    most = int(counts.argmax())
    rows = (first == most).nonzero().flatten()
    shown = torch.cat([rows[:3], first.unique()[:2]])
    drawn = picture_of("The same image again and again", list(x[shown]), ["the same"] * len(rows[:3]) + ["other"] * 2)
    if drawn is not None:
        evidence.pictures["data.duplicates"] = drawn
    distinct = len(first.unique())
    yield Finding(
        code="data.duplicates",
        severity="error" if share >= GRAVE else "warning",
        where=where,
        measured=f"{len(x) - distinct:,} of {len(x):,} samples are copies of others: {distinct:,} different ones, the "
        f"commonest {int(counts.max()):,} times",
        threshold=THRESHOLD,
        why="The network sees less than it seems, learns the copies by heart, and copies on both sides of a split make "
        "validation look too good.",
        remedy=Remedy(
            "Look at how the list of samples is made (a folder listed twice, an index that `__getitem__` does not "
            "use, "
            "`x.repeat`), and keep each once: `x, first = np.unique(x, axis=0, return_index=True); y = y[first]`, "
            "before the split.",
            command=("data", "check", "DATA"),
        ),
    )


def _share(x: torch.Tensor) -> float:
    """The share of samples that are copies of others."""
    return 1 - len(copies_in(x).unique()) / len(x) if len(x) else 0.0


def _least(x: torch.Tensor) -> float:
    """From which share on copies are no chance."""
    if not len(x) or is_grid(x) or x[0].numel() > 64:
        return SHARE
    return max(SHARE, min(3 * _share(columns_dealt(x)), 1.0))


def _of_data_set(evidence: Evidence) -> torch.Tensor:
    """Inputs as the data set holds them, one by one. Raises NoEvidence where it cannot be asked for them."""
    data: Any = getattr(evidence.patient.train, "dataset", None)
    until = perf_counter() + _SECONDS
    found: list[torch.Tensor] = []
    try:
        for number in range(min(len(data), _MOST)):
            tensor = main_tensor(parts(data[number])[0])
            if tensor is None or perf_counter() > until:
                break
            found.append(tensor.detach().cpu())
    except Exception:  # a data set that is asked in another way than by positions
        raise NoEvidence("the sampler draws again on purpose, and the data set cannot be read by positions") from None
    if not found or len({(tensor.shape, tensor.dtype) for tensor in found}) != 1:
        raise NoEvidence("the sampler draws again on purpose, and the data set's samples do not fit together")
    return torch.stack(found)


CHECK = Check(
    codes=("data.duplicates",),
    question="Is training shown different samples?",
    threshold=THRESHOLD,
    run=_run,
    explains="data.label-noise data.too-few fit.overfit",
)
