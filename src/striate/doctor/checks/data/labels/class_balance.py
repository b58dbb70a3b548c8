"""Classes that the loader yields far too seldom, or never: `data.missing-class` and `data.imbalance`."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.utils.data import WeightedRandomSampler

from striate.data.audit.classes import IMBALANCE_THRESHOLD, VERY_IMBALANCED, imbalance_severity
from striate.doctor.checks.check import Check
from striate.doctor.checks.data.labels.missing_tokens import CHANCE, SHARE, tokens_missing
from striate.doctor.checks.data.looking import are_tokens
from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.answering import need_all_data, need_targets
from striate.doctor.evidence.calls import watch_steps
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.nearness import first_of_each
from striate.doctor.evidence.quality import are_directions
from striate.doctor.evidence.token_targets import CLASS_LOSSES
from striate.doctor.setup.batch import main_tensor, parts
from striate.doctor.setup.recorded_iterators import deals_by_own
from striate.records import Finding, Remedy
from striate.wording import several

_MOST_CLASSES = 100_000

_OF_QUANTITIES = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")


@dataclass(frozen=True)
class ClassCounts:
    """Samples of each class, from 0; of maps, those that have the class, and `positions` of each in training.
    `outputs`: for how many classes
    the network has one; None where the step numbers classes in its own way."""

    train: torch.Tensor
    val: torch.Tensor | None
    outputs: int | None
    positions: torch.Tensor | None = None

    @property
    def things(self) -> str:
        """What is counted in words."""
        return "samples" if self.positions is None else "maps"


def class_counts(evidence: Evidence) -> ClassCounts:
    """Count what was read. Raises NoEvidence where the targets are no classes, or others train the rest."""
    need_all_data(evidence)
    outputs = _outputs(evidence)
    if evidence.samples.maps is not None:
        return _of_maps(evidence, evidence.samples.maps, outputs)
    labels = evidence.samples.labels
    need_class_loss(evidence)
    need_targets(evidence)
    _need_no_entries(evidence)
    if are_tokens(evidence, labels):
        raise NoEvidence("the classes are tokens, some of which are rare in any text")
    val = None
    with suppress(NoEvidence):
        val = evidence.val_samples.labels
    known = [labels[labels >= 0]] + ([val[val >= 0]] if val is not None else [])
    size = max([int(part.max()) + 1 for part in known if len(part)] + [outputs or 0])
    if size > _MOST_CLASSES or not len(known[0]):
        raise NoEvidence("the targets are not class numbers")
    counted = [torch.bincount(part, minlength=size) for part in known]
    return ClassCounts(counted[0], counted[1] if len(counted) > 1 else None, outputs)


def need_class_loss(evidence: Evidence) -> None:
    """Raise NoEvidence where the step's losses are all of quantities, as of a batch that has actions or ends of
    episodes among its tensors: its last one is no class."""
    losses = evidence.calls.losses
    if losses and all(call.name in _OF_QUANTITIES and len(call.target.unique()) > 2 for call in losses):
        raise NoEvidence("the loss asks for quantities, not for classes")


def _need_no_entries(evidence: Evidence) -> None:
    """Raise NoEvidence where the step looks up what stands for classes in a table, and asks no loss for them."""
    calls, labels = evidence.calls, main_tensor(parts(evidence.train.raw[0])[1])
    if labels is not None and not calls.losses and any(torch.equal(one, labels.cpu()) for one in calls.entries):
        raise NoEvidence("the class numbers are looked up in a table, like the items of users")


def _need_asked(evidence: Evidence) -> None:
    """Raise NoEvidence where nothing is learned from targets, as where views of an image are told from others."""
    if not evidence.targets_matter:
        raise NoEvidence("the loss is the same with other targets")


def _outputs(evidence: Evidence) -> int | None:
    plain = evidence.samples.plain
    if plain is None:  # no loss of a name was called
        plain = evidence.setup.own_step or _asks_for_labels(evidence)
    given = main_tensor(evidence.first.outputs)
    embeds = given is not None and are_directions(given)
    return evidence.classes if plain and evidence.setup.classifies and not embeds else None


def _asks_for_labels(evidence: Evidence) -> bool:
    """Whether a cross entropy of the step is given the batch's targets as they are."""
    targets = main_tensor(parts(evidence.train.raw[0])[1])
    calls = [call.target for call in evidence.calls.losses if call.name in CLASS_LOSSES]
    return targets is not None and any(torch.equal(given.cpu(), targets.cpu()) for given in calls)


def _of_maps(evidence: Evidence, maps: torch.Tensor, outputs: int | None) -> ClassCounts:
    """Positions of one map are no samples of their own: whether a class is missing, maps say."""
    val = None
    with suppress(NoEvidence):
        val = evidence.val_samples.maps
    size = max(int(maps.max()) + 1, 0 if val is None else int(val.max()) + 1, outputs or 0)
    if size > _MOST_CLASSES or not bool((maps >= 0).any()):
        raise NoEvidence("the targets are not class numbers")
    positions = torch.bincount(maps[maps >= 0], minlength=size)
    return ClassCounts(_having(maps, size), None if val is None else _having(val, size), outputs, positions)


def _having(maps: torch.Tensor, size: int) -> torch.Tensor:
    """(size,) how many maps have each class."""
    flat = maps.flatten(1)
    rows = torch.arange(len(flat))[:, None].expand_as(flat)
    known = flat >= 0
    return torch.bincount(torch.unique(rows[known] * size + flat[known]) % size, minlength=size)


_MISSING_CLASS_SEEN, _ROWS = 10, 20
MISSING_CLASS_THRESHOLD = (
    "each class of validation occurs in training, if chance would show it; each output has a class, if the loader "
    f"yields {_MISSING_CLASS_SEEN} samples for each output and most outputs (half of them for maps) have one"
)


_MAPS = (
    "Check a few maps beside their inputs: a scale of 0 to 1 that became integers (`(mask * 255).long()`), an "
    "empty folder, maps of another data set. `torch.bincount(y.flatten())` counts what the loader yields."
)
_WEIGHTED = (
    "Give the sampler a weight for each sample: `WeightedRandomSampler(class_weight[targets], len(targets))`, with "
    "the class numbers of all samples as `targets`."
)
_SAMPLES = (
    "Check what the loader draws from: weights of 0 in a `WeightedRandomSampler`, a missing folder, a split by "
    "position instead of at random. `torch.bincount(torch.cat([y for _, y in train]))` counts what it yields."
)


def _find_missing_class(evidence: Evidence) -> Iterable[Finding]:
    if (missing := tokens_missing(evidence)) is not None:
        yield _of_tokens(*missing)
        return
    counts = class_counts(evidence)
    whole = evidence.train.whole
    wanted = _of_validation(counts, whole)
    certain = bool(wanted)
    # A part of a sorted set has one class; a part of maps that have nothing but one is not what the set is like.
    if not wanted and (whole or counts.positions is not None) and counts.outputs is not None:
        wanted = _of_outputs(counts, counts.outputs)
        certain = int((counts.train > 0).sum()) == 1
        if not whole and not certain:
            return
    if not wanted:
        return
    if counts.val is not None and tried_with_others(evidence, counts.train.nonzero(), counts.val.nonzero()):
        raise NoEvidence("validation has none of the classes of training: embeddings are evaluated on new classes")
    weighted, x = weights_of_few(evidence.setup.train), evidence.samples.x
    if x is not None and not weighted and 2 * len(first_of_each(x)) < len(x):
        raise NoEvidence("most samples are copies of others, which explains missing classes")
    _need_asked(evidence)
    named = ", ".join(map(str, wanted[:8])) + (f" and {len(wanted) - 8} more" if len(wanted) > 8 else "")
    held = 0 if counts.val is None else int(counts.val[wanted].sum())
    beside = f"; validation has {held:,} of {'it' if len(wanted) == 1 else 'them'}" if held else ""
    remedy = _SAMPLES if counts.positions is None else _MAPS
    yield MISSING_CLASS.finding(
        severity="error" if certain else "warning",
        where="training loader",
        measured=f"of {_seen(counts):,} {counts.things} of {'an epoch' if whole else 'the first batches'}, none is of "
        f"class {named}{beside or f', though there are {counts.outputs} outputs'}{weighted}",
        why="The network cannot learn a class that it never sees: it predicts another class for all such samples.",
        remedy=Remedy(_WEIGHTED if weighted else remedy, command=("data", "check", "DATA")),
    )


def _of_tokens(share: float, by_chance: float, tokens: list[int]) -> Finding:
    named = ", ".join(map(str, tokens[:8])) + (f" and {len(tokens) - 8} more" if len(tokens) > 8 else "")
    return MISSING_CLASS.finding(
        severity="error",
        where="the training sequences",
        measured=f"{share:.0%} of the tokens that validation sequences ask for never occur in training (number "
        f"{named}); between two halves of training it is {by_chance:.0%}",
        limit=f"{SHARE:.0%} of the tokens of validation that the loss asks for never occur in training, {CHANCE:g} "
        "times as many as between two halves of training",
        why="The network never predicts a token that it was never trained to predict: validation has sentences of "
        "another kind, or its words are numbered in another way.",
        remedy="split sorted data at random: `order = torch.randperm(len(data))`, and use one vocabulary for both",
    )


def tried_with_others(evidence: Evidence, train: torch.Tensor, val: torch.Tensor) -> bool:
    """Whether validation has none of the classes of training, and the network no outputs for just those of both."""
    outputs = main_tensor(evidence.first.outputs)
    given = outputs.shape[1] if outputs is not None and outputs.ndim == 2 else 0
    return not bool(torch.isin(val, train).any()) and given != 1 + int(val.max())


def weights_of_few(loader: object) -> str:
    """Where a weighted sampler has weights for a part of the samples only, as one for each class, what comes of it."""
    sampler, data = getattr(loader, "sampler", None), getattr(loader, "dataset", None)
    if not isinstance(sampler, WeightedRandomSampler) or not hasattr(data, "__len__"):
        return ""
    known, samples = len(sampler.weights), len(cast(Any, data))
    few = f"; its WeightedRandomSampler has {several(known, 'weight')} for {several(samples, 'sample')}"
    return f"{few}: the others are never drawn" if known < samples else ""


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
    """Outputs without a class, where most have one, or half of those for maps: a head for more classes than there are
    is common."""
    total, absent = _seen(counts), counts.train[:outputs] == 0
    found: list[int] = absent.nonzero().flatten().tolist()
    if int((counts.train > 0).sum()) == 1 and total >= _ROWS and outputs > 1:
        return found
    if found == [0]:
        return []  # classes counted from one, with an output to spare
    few = len(found) < 0.5 * outputs or (counts.positions is not None and len(found) == 0.5 * outputs)
    return found if few and total >= _MISSING_CLASS_SEEN * outputs else []


MISSING_CLASS = Check(
    codes=("data.missing-class",),
    question="Does the loader yield every class?",
    threshold=MISSING_CLASS_THRESHOLD,
    run=_find_missing_class,
    explains="data.imbalance data.shift fit.*",
)


_IMBALANCE_SEEN, _SEEN_OF_A_PART = 10, 30
"""Samples of the commonest class: of the few that are read of a large loader, rare classes have none by chance."""
_FOUND = 0.9
IMBALANCE_LIMIT = (
    f"{IMBALANCE_THRESHOLD}; class weights in the loss count; a note if {_FOUND:.0%} of the rare class are found in "
    "validation"
)


def _find_imbalance(evidence: Evidence) -> Iterable[Finding]:
    counted = class_counts(evidence)
    if counted.positions is not None:
        return _of_positions(evidence, counted.positions)
    if deals_by_own(evidence.setup.train):
        raise NoEvidence("a custom sampler makes the batches")
    return _of_samples(evidence, counted.train)


def _of_positions(evidence: Evidence, counts: torch.Tensor) -> Iterable[Finding]:
    """Maps have large and small things: only what the network does not find at all is told."""
    present = counts.nonzero().flatten()
    if len(present) < 2:
        return
    most, least = int(present[counts[present].argmax()]), int(present[counts[present].argmin()])
    ratio = float(counts[most] / counts[least])
    found, words = _recall(evidence, least)
    if ratio < VERY_IMBALANCED or found is None or found >= 0.5:
        return
    yield IMBALANCE.finding(
        severity="note",
        where="training loader",
        measured=f"{ratio:.0f} times as many positions of class {most} as of class {least} "
        f"({int(counts[least]):,}){words.replace('samples', 'positions')}",
        why="The loss is lowest if the network hardly ever predicts the rare class, and pixel accuracy still looks "
        "good.",
        remedy="Weight the loss: `CrossEntropyLoss(weight=counts.sum() / (len(counts) * counts))`, or crop the "
        "images around the rare class. Report the IoU of each class.",
    )


def _of_samples(evidence: Evidence, counts: torch.Tensor) -> Iterable[Finding]:
    present = counts.nonzero().flatten()
    if len(present) < 2:
        return
    weighed = counts[present].double() * weights_of_classes(evidence, present)
    most, least = int(present[weighed.argmax()]), int(present[weighed.argmin()])
    ratio = float(weighed.max() / weighed.min().clamp_min(1e-12))
    severity = imbalance_severity(ratio)
    if severity is None or int(counts[most]) < (_IMBALANCE_SEEN if evidence.train.whole else _SEEN_OF_A_PART):
        return
    _need_asked(evidence)
    known, words = _recall(evidence, least)
    if known is not None and known >= _FOUND:
        severity = "note"
    evidence.pictures["data.imbalance"] = Picture(
        "bars",
        "Samples of each class",
        {"samples": tuple(map(float, counts.tolist()))},
        labels=tuple(map(str, range(len(counts)))),
    )
    yield IMBALANCE.finding(
        severity=severity,
        where="training loader",
        measured=f"class {most} is {ratio:.0f} times as frequent ({several(int(counts[most]), 'sample')}) as class "
        f"{least} ({int(counts[least]):,}){words}",
        why="The loss is lowest if the network hardly ever predicts the rare class, and the accuracy still looks good.",
        remedy=Remedy(
            "Sample the classes equally: `WeightedRandomSampler(1 / counts[y].double(), len(y))` as the loader's "
            "sampler, or weight the loss: `CrossEntropyLoss(weight=counts.sum() / (len(counts) * counts))`. Report "
            "the accuracy of each class.",
            settings={"task.class_weights": "balanced"},
            advice="more samples of the rare class",
        ),
    )


def weights_of_classes(evidence: Evidence, classes: torch.Tensor) -> torch.Tensor:
    """How strongly the loss pulls for a sample of each class, by its gradient at predictions of zero; ones where that
    is not known."""
    even = torch.ones(len(classes)).double()
    for place, call in enumerate(evidence.calls.losses):
        alone = call.name not in CLASS_LOSSES and call.target.numel() == len(call.target)
        given = None if alone else call.weight
        if given is not None and len(given) > int(classes.max()) and bool((given > 0).all()):
            return given.detach().cpu().double()[classes]
        if (weights := _weights_of_samples(evidence, place, classes)) is not None:
            return weights
    outputs = evidence.first.loss_outputs
    y = evidence.samples.y
    if not isinstance(outputs, torch.Tensor) or y is None or y.ndim > 2 or evidence.samples.plain is False:
        return even
    rows = torch.stack([(evidence.samples.labels == k).nonzero()[0, 0] for k in classes])
    share = bool(((outputs >= 0) & (outputs <= 1)).all())
    middle = 1 / outputs.shape[1] if share and outputs.ndim > 1 and outputs.shape[1] > 1 else 0.5 if share else 0.0
    zeros = torch.full((len(rows), *outputs.shape[1:]), middle, dtype=outputs.dtype, device=outputs.device)
    zeros.requires_grad_()
    try:
        evidence.fresh.loss(zeros, y[rows].to(outputs.device)).sum().backward()
    except Exception:  # a loss of the user's, that may want more than this
        return even
    pull = zeros.grad
    if pull is None:
        return even
    norms = pull.detach().double().reshape(len(rows), -1).norm(dim=1).cpu()
    return norms / norms.mean() if bool((norms > 0).all()) and bool(torch.isfinite(norms).all()) else even


_STEPS = 32
"""Of which one has samples of a rare class, too."""


def _weights_of_samples(evidence: Evidence, place: int, classes: torch.Tensor) -> torch.Tensor | None:
    """How much samples of each class count on the mean in a loss that the step is the `place`-th to call, where it asks
    for their labels and weighs each; None elsewhere."""
    call = evidence.calls.losses[place]
    asked, labels = call.target.flatten().cpu(), evidence.samples.labels
    weighed = call.pulls or call.weight is not None or call.pos_weight is not None
    if not weighed or len(asked) != len(call.target) or not torch.equal(asked.long(), labels[: len(asked)]):
        return None
    steps = watch_steps(evidence.setup, evidence.train.raw[:_STEPS], evidence.clock.until(0.05))
    calls = [step.losses[place] for step in steps if len(step.losses) > place]
    targets = torch.cat([call.target.flatten() for call in calls]).cpu()
    weights = torch.cat([call.weights.flatten() for call in calls]).cpu()
    found = torch.stack([weights[targets == k].mean() for k in classes])
    return found if bool((found > 0).all()) else None


def _recall(evidence: Evidence, rare: int) -> tuple[float | None, str]:
    """The share of the rare class that the trial's network finds, where there are some of it: in validation, else in
    training."""
    for name in ("after_val", "after"):
        try:
            told = getattr(evidence, name)
            predicted = told.predicted
        except NoEvidence:
            continue
        wanted = told.targets.reshape(predicted.shape) == rare
        if int(wanted.sum()) >= 5:
            found = float((predicted[wanted] == rare).double().mean())
            part = "validation" if name == "after_val" else "training"
            return (
                found,
                f"; after {several(len(evidence.trial.rows), 'step')} {found:.0%} of its {part} samples are found",
            )
    return None, ""


IMBALANCE = Check(
    codes=("data.imbalance",),
    question="Does the loader yield each class often enough?",
    threshold=IMBALANCE_LIMIT,
    run=_find_imbalance,
    explains="data.labels-random loss.degenerate model.collapsed fit.*",
)
