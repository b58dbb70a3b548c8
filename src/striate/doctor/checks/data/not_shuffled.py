"""Batches whose targets are alike, since the data come in their order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import suppress

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.looking import score
from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.calls import watch_steps
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.token_targets import CLASS_LOSSES, class_losses, next_token_targets
from striate.doctor.evidence.trial import Change
from striate.doctor.setup.batch import leaf, leaves, reshuffled
from striate.records import Finding
from striate.wording import several

WINDOW = 16
LIKE, ALIKE = 0.2, 0.5
GAIN = 0.05
_FEWEST, _EACH = 48, 5
_TAGS, _MOST_TAGS = "set of tags", 64
_ONE_CLASS = 512
_MOST_STEPS = 64
_BETWEEN = "of the variance of the targets is between stretches of batch length (0: random order, 1: sorted)"


def _run(evidence: Evidence) -> Iterable[Finding]:
    numbers, what = _numbers(evidence)
    found = list(_judged(evidence, numbers, what))
    if not found and what == "target" and (classes := _classes_beside(evidence)) is not None:
        found = list(_judged(evidence, classes, "class"))
    yield from found


def _judged(evidence: Evidence, numbers: torch.Tensor, what: str) -> Iterator[Finding]:
    is_class = what == "class"
    targets = torch.nn.functional.one_hot(numbers - numbers.min()).double() if is_class else numbers[:, None]
    if what == _TAGS:
        targets, numbers = numbers, numbers.unique(dim=0, return_inverse=True)[1]
    if is_class and not evidence.train.whole and len(targets) >= _ONE_CLASS and float(targets.var(0).sum()) == 0:
        measured = f"the first {several(len(targets), 'sample is', 'samples are')} all of one class"
        yield _told(
            _in_a_batch(evidence, targets), measured, "error", f"the first {_ONE_CLASS} samples or more of one class"
        )
        return
    stretch = max(WINDOW, _in_a_batch(evidence, targets))
    if len(targets) < max(_FEWEST, 2 * stretch):
        return
    between = between_stretches(targets, stretch)
    if between < LIKE:
        return
    gain, words = _tried(evidence)
    matters = is_class and _one_after_the_other(evidence, numbers) if gain is None else gain >= GAIN
    if between < ALIKE and not matters:
        return
    severity = "error" if gain is not None and gain >= 4 * GAIN else "warning"
    stretches = targets.split(stretch)
    alike = sum(float(part.var(0, correction=0).sum()) == 0 for part in stretches)
    told = (
        f"{alike} of {several(len(stretches), 'stretch', 'stretches')} of {several(stretch, 'sample')} contain only "
        f"one {what}; "
    )
    evidence.pictures["data.not-shuffled"] = Picture(
        "lines", f"The {what} of each sample, in the loader's order", {what: tuple(numbers[:2000].double().tolist())}
    )
    better = "the samples are sorted by class"
    better = better if gain is None else f"shuffled batches learn better by {GAIN:g}"
    limit = f"{ALIKE:g} {_BETWEEN}" if between >= ALIKE else f"{LIKE:g} {_BETWEEN}; and {better}"
    measured = f"{told}{between:.2f} of the variance of the {what} is between them{words}"
    yield _told(_in_a_batch(evidence, targets), measured, severity, limit)


def _in_a_batch(evidence: Evidence, targets: torch.Tensor) -> int:
    """How many samples a batch has at most; of graphs, whose nodes lie in a row, how many targets on the mean."""
    alike = len(targets) in (evidence.train.count, sum(evidence.train.sizes[:_MOST_STEPS]))
    return int(evidence.train.largest) if alike else math.ceil(len(targets) / len(evidence.train.raw))


def _numbers(evidence: Evidence) -> tuple[torch.Tensor, str]:
    """What each sample's target is, and `class` or `target`; the class that a loss is given, where a sample has a box
    or the like beside it; or which tags a sample has (N, K). Raises NoEvidence where there is none of these."""
    samples = evidence.samples
    with suppress(NoEvidence):
        return samples.labels, "class"
    try:
        return samples.values, "target"
    except NoEvidence:
        if (labels := _class_among_targets(evidence)) is not None:
            return labels, "class"
        if (tags := _tags(evidence)) is None:
            raise
        return tags, _TAGS


def _class_among_targets(evidence: Evidence) -> torch.Tensor | None:
    raw = evidence.train.raw
    whole = [(path, t) for path, t in leaves(raw[0]) if t.ndim == 1 and not t.is_floating_point()]
    for call in evidence.calls.losses:
        given = call.target.detach().cpu()
        path = next((path for path, t in whole if t.shape == given.shape and torch.equal(t.cpu(), given)), None)
        if path is not None and isinstance(path[0], int) and path[0] > 0:  # behind the inputs
            found = [part.cpu() for batch in raw if (part := leaf(batch, path)) is not None]
            return torch.cat(found).long() if len(found) == len(raw) else None
    return None


def _classes_beside(evidence: Evidence) -> torch.Tensor | None:
    """The class numbers (N,) that the steps of the first batches give their one loss of classes, beside quantities: as
    they make them, where they mirror clips and exchange left and right. None where these are no two classes."""
    if not any(call.name in CLASS_LOSSES for call in evidence.calls.losses):
        return None
    steps = watch_steps(evidence.setup, evidence.train.raw[:_MOST_STEPS], evidence.clock.until(0.05))
    given = [[call.target for call in step.losses if call.name in CLASS_LOSSES] for step in steps]
    sizes = evidence.train.sizes[: len(given)]
    if any([part.shape for part in parts] != [(size,)] for parts, size in zip(given, sizes, strict=True)):
        return None
    classes = torch.cat([part.cpu() for (part,) in given])
    return classes.long() if not classes.is_floating_point() and len(classes.unique()) > 1 else None


def _tags(evidence: Evidence) -> torch.Tensor | None:
    """Which class numbers each sample has (N, K), where there is one for each place of a sequence, and not the next
    token; None elsewhere, and where samples lie in the order of their lengths: long ones have more kinds."""
    path, call = evidence.samples.y_path, next(class_losses(evidence), None)
    found = [None if path is None else leaf(batch, path) for batch in evidence.train.raw]
    tags = [t.cpu() for t in found if t is not None and t.ndim == 2 and not t.is_floating_point()]
    if call is None or len(tags) < len(found) or tags[0].numel() != call.target.numel():
        return None
    kinds = torch.cat([part[part != call.ignored] for part in tags]).unique()
    lengths = torch.cat([(part != call.ignored).sum(1) for part in tags])[:, None].double()
    by_length = between_stretches(lengths, max(WINDOW, int(evidence.train.largest))) >= LIKE
    if by_length or len(kinds) > _MOST_TAGS or next_token_targets(evidence) is not None:
        return None
    return torch.cat([(part[..., None] == kinds).any(1) for part in tags]).double()


def _one_after_the_other(evidence: Evidence, labels: torch.Tensor) -> bool:
    """Whether all samples of a class are followed by all of the next one, in a whole epoch of many of each."""
    runs, classes = 1 + int((labels.diff() != 0).sum()), len(labels.unique())
    return evidence.train.whole and classes > 1 and runs <= 1.2 * classes and _EACH * classes <= len(labels)


def between_stretches(targets: torch.Tensor, stretch: int) -> float:
    """The share of the variance of targets (N, D) between stretches of so many samples: 0 in an order by chance, 1
    where each stretch is all alike."""
    whole = len(targets) // stretch * stretch
    parts = targets[:whole].reshape(-1, stretch, targets.shape[1])
    total = float(targets[:whole].var(0, correction=0).sum())
    if total <= 0:
        return 0.0
    between = float(parts.mean(1).var(0, correction=0).sum()) / total
    return max(0.0, (between - 1 / stretch) / (1 - 1 / stretch))


def _tried(evidence: Evidence) -> tuple[float | None, str]:
    """How much better the trial learns with the same samples in batches by chance, and that in words."""
    dealt = reshuffled(evidence.train.raw)
    if dealt is None:
        return None, ""
    try:
        own = score(evidence.after)
        other = score(
            evidence.predictions_of(evidence.variant("shuffled", Change(), batches=dealt), evidence.train.raw)
        )
    except NoEvidence:
        return None, ""
    if own is None or other is None:
        return None, ""
    steps = len(evidence.trial.rows)
    measure = "accuracy" if evidence.setup.classifies else "explained share"
    return (
        other - own,
        f"; with shuffled batches the {measure} after {several(steps, 'step')} is {other:.2f} instead of {own:.2f}",
    )


def _told(batch: int, measured: str, severity: str, limit: str) -> Finding:
    return NOT_SHUFFLED.finding(
        severity="error" if severity == "error" else "warning",
        where="training loader",
        measured=measured,
        limit=limit,
        why="Each batch trains its own class and undoes what the previous one taught; batch norm sees one class at "
        "a time.",
        remedy=f"`DataLoader(dataset, batch_size={batch}, shuffle=True)`; if files are read one after the other, "
        "shuffle their samples in a buffer, or shuffle the list of files first.",
    )


NOT_SHUFFLED = Check(
    codes=("data.not-shuffled",),
    question="Is every batch a random sample of the data?",
    run=_run,
    explains=(
        "data.labels-random data.imbalance data.missing-class loss.degenerate model.batch-norm-small-batch "
        "model.collapsed model.dead-units model.mode optim.lr-too-high optim.lr-too-low fit.*"
    ),
)
