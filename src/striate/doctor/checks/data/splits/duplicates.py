"""`data.duplicates`: does training get different samples?"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import suppress
from time import perf_counter
from typing import Any

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.common import picture_of
from striate.doctor.checks.data.inputs.constant_images import blank_samples
from striate.doctor.checks.data.inputs.near_blank import near_blank_samples
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.features import is_grid
from striate.doctor.evidence.nearness import columns_shuffled, copies_in
from striate.doctor.evidence.read_batches import repeats_samples
from striate.doctor.setup.batch import main_tensor, parts
from striate.records import Finding, Remedy, Severity
from striate.wording import percent, several

_SHARE, _GRAVE, _FEWEST = 0.2, 0.5, 10
_MOST, _ALL = 2000, 0.95
_SECONDS = 0.3
_EVEN, _EVEN_IN_PART = 0.05, 0.2
_TIMES = 20
"""The most copies of each sample that only make an epoch longer."""
_SCALED = 0.995
"""The correlation of loader samples and inputs of the network above which the step only scales them."""


def _find_duplicates(evidence: Evidence) -> Iterable[Finding]:
    call = getattr(evidence.setup.train, "drawn_once", "")
    if call:
        yield _same_batch(call, evidence.train.largest)
        return
    samples = evidence.samples
    x = samples.sole_inputs[~blank_samples(samples)]
    if share_of_copies(x) < _SHARE:
        return
    x = x[~near_blank_samples(x)]
    where = "training loader"
    if repeats_samples(evidence.setup.train):
        x, where = _read_data_set(evidence), "training data set"
    share = share_of_copies(x)
    if len(x) < _FEWEST or share < _least_share(x):
        return
    first = copies_in(x)
    counts = torch.bincount(first)
    if _bootstrapped(counts[counts > 0]):
        return
    severity: Severity = "error" if share >= _GRAVE else "warning"
    if of_whole_numbers(x) and float((counts[counts > 0] > 1).double().mean()) < _ALL:
        severity = "note"
    if where == "training loader" and (_balanced(evidence, first) or (_uniform(counts) and _varied_in_step(evidence))):
        severity = "note"
    most = int(counts.argmax())
    rows = (first == most).nonzero().flatten()
    shown = torch.cat([rows[:3], first.unique()[:2]])
    drawn = picture_of("The same image again and again", list(x[shown]), ["the same"] * len(rows[:3]) + ["other"] * 2)
    if drawn is not None:
        evidence.pictures["data.duplicates"] = drawn
    distinct = len(first.unique())
    yield DUPLICATES.finding(
        severity=severity,
        where=where,
        measured=f"{len(x) - distinct:,} of {several(len(x), 'sample')} are copies of others: {distinct:,} "
        f"different ones, the most frequent {int(counts.max()):,} times",
        why="The network sees less data than it seems and memorizes the copies; copies on both sides of a split "
        "make validation look too good.",
        remedy=Remedy(
            "Check how the list of samples is made (a folder listed twice, an index that `__getitem__` ignores, "
            "`x.repeat`), and keep each sample once: `x, first = np.unique(x, axis=0, return_index=True); y = "
            "y[first]`, before the split.",
            command=("data", "check", "DATA"),
        ),
    )


def _balanced(evidence: Evidence, first: torch.Tensor) -> bool:
    """Whether copies only make all classes as frequent as the most frequent one, which has hardly any copies: rare
    classes are oversampled on purpose."""
    with suppress(NoEvidence):
        labels = evidence.samples.labels
        if len(labels) == len(first):
            counts = torch.bincount(labels)
            different = torch.stack([torch.tensor(len(first[labels == k].unique())) for k in range(len(counts))])
            apart = _EVEN if evidence.train.whole else _EVEN_IN_PART
            even = int(counts.max()) - int(counts.min()) <= apart * int(counts.max())
            return even and float((different / counts.clamp(min=1)).max()) >= 1 - _EVEN
    return False


def _uniform(counts: torch.Tensor) -> bool:
    """Whether all samples have the same number of copies, at most 20, which only makes an epoch longer."""
    known = counts[counts > 0]
    return int(known.min()) == int(known.max()) <= _TIMES


def _varied_in_step(evidence: Evidence) -> bool:
    """Whether the step changes inputs by more than their scale before the network gets them: copies then differ."""
    first, inputs = evidence.first, main_tensor(parts(evidence.train.raw[0])[0])
    given = first.shown
    if given is None or inputs is None or given.shape != inputs.shape or len(given) < 2:
        return False
    pairs = torch.stack([tensor.detach().cpu().double().flatten() for tensor in (given, inputs)])
    return float(torch.corrcoef(pairs)[0, 1]) < _SCALED


def _bootstrapped(counts: torch.Tensor) -> bool:
    """Whether samples occur as often as in a bootstrap sample, as for bagging (Breiman 1996): of n, n/e never, n/e
    once, n/(2e) twice."""
    drawn, distinct, once = int(counts.sum()), len(counts), int((counts == 1).sum())
    room = 4 * (0.1 / drawn) ** 0.5  # about four standard deviations of such a share
    return bool(abs(distinct / drawn - (1 - 1 / math.e)) < room and abs(once / drawn - 1 / math.e) < 2 * room)


def _same_batch(call: str, batch: int) -> Finding:
    return DUPLICATES.finding(
        severity="error",
        where="the training loop",
        measured=f"`{call}` gives other samples each time, but is only called before the loop: all steps get the "
        f"same {several(batch, 'sample')}",
        limit="one batch for all steps",
        why="The network memorizes one batch and never sees the other data.",
        remedy=f"call `{call}` in each pass of the loop, before the network",
    )


def share_of_copies(x: torch.Tensor) -> float:
    """The share of samples that are copies of others."""
    return 1 - len(copies_in(x).unique()) / len(x) if len(x) else 0.0


def _least_share(x: torch.Tensor) -> float:
    """The share from which on copies are not chance."""
    if not len(x) or is_grid(x) or x[0].numel() > 64:
        return _SHARE
    return max(_SHARE, min(3 * share_of_copies(columns_shuffled(x)), 1.0))


def _read_data_set(evidence: Evidence) -> torch.Tensor:
    """Inputs of the data set, read one by one. Raises NoEvidence if it cannot be read by index."""
    data: Any = getattr(evidence.setup.train, "dataset", None)
    until = perf_counter() + _SECONDS
    found: list[torch.Tensor] = []
    try:
        for number in range(min(len(data), _MOST)):
            tensor = main_tensor(parts(data[number])[0])
            if tensor is None or perf_counter() > until:
                break
            found.append(tensor.detach().cpu())
    except Exception:  # a data set that is not read by positions
        raise NoEvidence("the sampler repeats samples on purpose, and the data set cannot be read by index") from None
    if not found or len({(tensor.shape, tensor.dtype) for tensor in found}) != 1:
        raise NoEvidence(
            "the sampler repeats samples on purpose, and the samples of the data set differ in shape or type"
        )
    return torch.stack(found)


DUPLICATES = Check(
    codes=("data.duplicates",),
    threshold=f"a warning if {percent(_SHARE, 0)} of the samples are copies (for tables, three times as many as "
    f"by chance), an error from {percent(_GRAVE, 0)}; a note for token sequences if less than {percent(_ALL, 0)} have "
    "copies, and if copies balance the classes or the step varies them",
    run=_find_duplicates,
    explains="data.imbalance data.label-noise data.missing-class data.too-few fit.overfit",
)
NEARLY_EQUAL, MOST_OF_THEM = 0.05, 0.6
"""The largest distance to the nearest sample, as a share of that to the tenth, of nearly equal samples; and the least
share of validation (a third of it, if images differ in one quantity alone)."""


def of_whole_numbers(x: torch.Tensor) -> bool:
    """Whether samples are sequences of integers, such as tokens."""
    whole = not x.is_floating_point() or bool((x == x.round()).all())
    return whole and x.ndim == 2 and not is_grid(x)
