"""`data.not-shuffled`: batches of similar targets, because the data are sorted by target."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import suppress

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.common import score
from striate.doctor.checks.data.labels.too_few import are_drawn_often, weights_of_few
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
    if weights_of_few(evidence.setup.train) and are_drawn_often(evidence.setup.train, evidence.samples.inputs):
        raise NoEvidence("a sampler draws a few samples alone, which `data.too-few` reports")
    numbers, what = _numbers(evidence)
    found = list(_findings(evidence, numbers, what))
    if not found and what == "target" and (classes := _step_classes(evidence)) is not None:
        found = list(_findings(evidence, classes, "class"))
    yield from found


def _findings(evidence: Evidence, numbers: torch.Tensor, what: str) -> Iterator[Finding]:
    is_class = what == "class"
    targets = torch.nn.functional.one_hot(numbers - numbers.min()).double() if is_class else numbers[:, None]
    if what == _TAGS:
        targets, numbers = numbers, numbers.unique(dim=0, return_inverse=True)[1]
    of_one = is_class and len(targets) >= _ONE_CLASS and float(targets.var(0).sum()) == 0
    if of_one and not evidence.train.whole and not evidence.setup.rivals:  # of a GAN, all may be real
        measured = f"the first {several(len(targets), 'sample is', 'samples are')} all of one class"
        yield _finding(
            _batch_size(evidence, targets), measured, "error", f"the first {_ONE_CLASS} samples or more of one class"
        )
        return
    stretch = max(WINDOW, _batch_size(evidence, targets))
    if len(targets) < max(_FEWEST, 2 * stretch):
        return
    between = between_stretches(targets, stretch)
    if between < LIKE:
        return
    gain, words = _gain_shuffled(evidence, float(targets.mean(0).max()) if is_class else None)
    matters = is_class and _one_after_the_other(evidence, numbers) if gain is None else gain >= GAIN
    if between < ALIKE and not matters:
        return
    severity = "error" if gain is not None and gain >= 4 * GAIN else "warning"
    stretches = targets.split(stretch)
    alike = sum(float(part.var(0, correction=0).sum()) == 0 for part in stretches)
    uniform = (
        f"{alike} of {several(len(stretches), 'stretch', 'stretches')} of {several(stretch, 'sample')} contain only "
        f"one {what}; "
    )
    evidence.pictures["data.not-shuffled"] = Picture(
        "lines", f"The {what} of each sample, in the loader's order", {what: tuple(numbers[:2000].double().tolist())}
    )
    better = "the samples are sorted by class"
    better = better if gain is None else f"shuffled batches learn better by {GAIN:g}"
    limit = f"{ALIKE:g} {_BETWEEN}" if between >= ALIKE else f"{LIKE:g} {_BETWEEN}; and {better}"
    measured = f"{uniform}{between:.2f} of the variance of the {what} is between them{words}"
    yield _finding(_batch_size(evidence, targets), measured, severity, limit)


def _batch_size(evidence: Evidence, targets: torch.Tensor) -> int:
    """The largest batch size; for graphs, which have a target for each node, the mean number of targets in a batch."""
    alike = len(targets) in (evidence.train.count, sum(evidence.train.sizes[:_MOST_STEPS]))
    return int(evidence.train.largest) if alike else math.ceil(len(targets) / len(evidence.train.raw))


def _numbers(evidence: Evidence) -> tuple[torch.Tensor, str]:
    """The target of each sample, and its kind: `class` or `target`. If a sample has several targets, such as a class
    and a box, the class that a loss gets; for taggers, which tags a sample has (N, K). Raises NoEvidence where none
    exists."""
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


def _step_classes(evidence: Evidence) -> torch.Tensor | None:
    """The class numbers (N,) that the steps of the first batches pass to their only loss of classes, where targets are
    numbers: the step may change classes, such as left and right of a mirrored clip. None where fewer than two classes
    occur."""
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
    """Which class numbers occur in each sequence (N, K), where each position has one that is not the next token. None
    elsewhere, and where samples are sorted by length: long ones have more tags."""
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
    """Whether an epoch is sorted by class, with many samples of each."""
    runs, classes = 1 + int((labels.diff() != 0).sum()), len(labels.unique())
    return evidence.train.whole and classes > 1 and runs <= 1.2 * classes and _EACH * classes <= len(labels)


def between_stretches(targets: torch.Tensor, stretch: int) -> float:
    """The share of the variance of targets (N, D) that is between stretches of `stretch` samples: 0 in random order, 1
    if all targets of a stretch are equal."""
    whole = len(targets) // stretch * stretch
    parts = targets[:whole].reshape(-1, stretch, targets.shape[1])
    total = float(targets[:whole].var(0, correction=0).sum())
    if total <= 0:
        return 0.0
    between = float(parts.mean(1).var(0, correction=0).sum()) / total
    return max(0.0, (between - 1 / stretch) / (1 - 1 / stretch))


def _gain_shuffled(evidence: Evidence, commonest: float | None) -> tuple[float | None, str]:
    """By how much the score of the trial rises with the same samples in shuffled batches, and that in words. None where
    the trial is too short to learn even these better than guessing the most frequent class, of the share `commonest`.
    """
    shuffled = reshuffled(evidence.train.raw)
    if shuffled is None:
        return None, ""
    try:
        own = score(evidence.after)
        other = score(
            evidence.predictions_of(evidence.variant("shuffled", Change(), batches=shuffled), evidence.train.raw)
        )
    except NoEvidence:
        return None, ""
    if own is None or other is None or (commonest is not None and max(own, other) < commonest + GAIN):
        return None, ""
    steps = len(evidence.trial.rows)
    measure = "accuracy" if evidence.setup.classifies else "explained share"
    return (
        other - own,
        f"; with shuffled batches the {measure} after {several(steps, 'step')} is {other:.2f} instead of {own:.2f}",
    )


def _finding(batch: int, measured: str, severity: str, limit: str) -> Finding:
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
    run=_run,
    explains=(
        "data.labels-random data.imbalance data.missing-class loss.degenerate model.batch-norm-small-batch "
        "model.collapsed model.dead-units model.mode optim.lr-too-high optim.lr-too-low fit.*"
    ),
)
