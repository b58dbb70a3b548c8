"""Classes that training never sees."""

from __future__ import annotations

from collections.abc import Iterable

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.class_counts import ClassCounts, class_counts
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding, Remedy

_SEEN, _ROWS = 10, 20
THRESHOLD = (
    f"every class of validation in training, where chance would show it; where the loader yields {_SEEN} samples for "
    "each output, and most outputs have a class, all of them"
)


_MAPS = (
    "Look at a few maps beside their inputs: a scale of 0 to 1 that became whole numbers (`(mask * 255).long()`), an "
    "empty folder, maps of another data set. `torch.bincount(y.flatten())` counts what the loader yields."
)
_SAMPLES = (
    "Look at what the loader draws from: weights of 0 in a `WeightedRandomSampler`, a folder left out, a split by "
    "position instead of at random. `torch.bincount(torch.cat([y for _, y in train]))` counts what it yields."
)


def _run(evidence: Evidence) -> Iterable[Finding]:
    counts = class_counts(evidence)
    whole = evidence.train.whole
    wanted = _of_validation(counts, whole)
    certain = bool(wanted)
    if not wanted and whole and counts.outputs is not None:
        wanted = _of_outputs(counts, counts.outputs)
        certain = int((counts.train > 0).sum()) == 1
    if not wanted:
        return
    named = ", ".join(map(str, wanted[:8])) + (f" and {len(wanted) - 8} more" if len(wanted) > 8 else "")
    held = 0 if counts.val is None else int(counts.val[wanted].sum())
    beside = f"; validation has {held:,} of {'it' if len(wanted) == 1 else 'them'}" if held else ""
    yield Finding(
        code="data.missing-class",
        severity="error" if certain else "warning",
        where="training loader",
        measured=f"of {_seen(counts):,} {counts.things} of {'an epoch' if whole else 'the first batches'}, none is of "
        f"class {named}{beside or f', though there are {counts.outputs} outputs'}",
        threshold=THRESHOLD,
        why="What is never shown cannot be learned: every such sample will be taken for something else.",
        remedy=Remedy(_SAMPLES if counts.positions is None else _MAPS, command=("data", "check", "DATA")),
    )


def _seen(counts: ClassCounts) -> int:
    """How many samples, or maps, there are: most classes of maps lie in several."""
    return int(counts.train.sum() if counts.positions is None else counts.train.max())


def _of_validation(counts: ClassCounts, whole: bool) -> list[int]:
    """Classes of validation that training lacks, and would not by chance."""
    if counts.val is None or (not whole and int((counts.train > 0).sum()) < 2):
        return []  # the beginning of a sorted set shows one class: that is another fault
    seen, held = _seen(counts), int(counts.val.sum() if counts.positions is None else counts.val.max())
    share = (counts.val.double() / max(held, 1)).clamp(max=1)
    unlikely = (1 - share) ** seen < 1e-3
    found: list[int] = ((counts.train == 0) & (counts.val > 0) & unlikely).nonzero().flatten().tolist()
    return found


def _of_outputs(counts: ClassCounts, outputs: int) -> list[int]:
    """Outputs without a class, where most have one: a head for more classes than there are is common."""
    total, absent = _seen(counts), counts.train[:outputs] == 0
    found: list[int] = absent.nonzero().flatten().tolist()
    if int((counts.train > 0).sum()) == 1 and total >= _ROWS and outputs > 1:
        return found
    if found == [0]:
        return []  # classes counted from one, with an output to spare
    return found if len(found) < 0.5 * outputs and total >= _SEEN * outputs else []


CHECK = Check(
    codes=("data.missing-class",),
    question="Does the loader yield every class?",
    threshold=THRESHOLD,
    run=_run,
    explains="data.imbalance data.shift fit.*",
)
