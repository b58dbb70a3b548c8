"""`data.step-labels`: does the step give the loss the labels of the inputs that the network gets?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import product

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.labels.blends import (
    blended_batches,
    blended_by_loader,
    left_unblended,
    partners_named,
    swapped_shares,
)
from striate.doctor.checks.data.labels.label_rows import (
    FEWEST_JUDGED,
    MOST_RIGHT,
    rows_of_two_samples,
    rows_with_other_labels,
)
from striate.doctor.evidence.calls import LossCall, watch_calls
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.batch import leaf, leaves, main_tensor, parts
from striate.records import Finding
from striate.wording import percent, several, show_shape

_FEWEST_LEFT = 3
"""The fewest steps that blend samples, but only use the labels of one."""
_TIE, _ALONE = 1e-6, 32
"""The least distance between outputs, as a share of the largest, by which they are identified, and how many have to be
identified."""
_FEWEST_BLENDED, _NAMED = 24, 0.6
"""The fewest blended samples whose partner is identified, and the share of them whose second label has to be that of
the partner."""
_LESS = 0.4
"""The share of a blend below which the other sample is most of it."""


def _step_labels(evidence: Evidence) -> Iterator[Finding]:
    found = (
        _by_position(evidence)
        or _constant(evidence)
        or _never_changing(evidence)
        or _blended(evidence)
        or _mixed_inputs(evidence)
    )
    found = found or _of_other_samples(evidence)
    yield from [] if found is None else [found]


def _by_position(evidence: Evidence) -> Finding | None:
    """Outputs of positions, (N, T, C) or (N, C, …), that the step flattens in another order than their targets."""
    path, batch = evidence.loss_target_path, evidence.train.raw[0]
    target = None if path is None else leaf(batch, path)
    words = [target] if target is not None else [part for _, part in leaves(batch) if not part.is_floating_point()]
    outputs = main_tensor(evidence.first.outputs)
    if outputs is None or outputs.ndim < 3 or not outputs.is_floating_point() or evidence.calls.moved_back:
        return None
    outputs = outputs.detach().cpu()
    whole = [part.cpu() for part in words if part.ndim >= 2]
    shifted = [part for tokens in whole if tokens.ndim == 2 for part in (tokens[:, 1:], tokens[:, :-1])]
    for call, targets in product(evidence.calls.losses, [*whole, *shifted]):
        right = _share_in_place(outputs, targets, call)
        wrong = right is not None and right < 0.5
        if wrong:
            return STEP_LABELS.finding(
                severity="error",
                where="the training step",
                measured=f"outputs of {show_shape(outputs.shape)} and targets of {show_shape(targets.shape)} are "
                "flattened in different orders: the loss compares outputs with the targets of other positions",
                limit="outputs and targets that are flattened in different orders",
                why="Most targets belong to other positions or samples: little can be learned.",
                remedy="put the classes on axis 1 and do not flatten: `loss(outputs.permute(0, 2, 1), targets)` "
                "for outputs (N, T, C), `loss(outputs, targets)` for outputs (N, C, T) or (N, C, H, W)",
            )
    return None


def _share_in_place(outputs: torch.Tensor, targets: torch.Tensor, call: LossCall) -> float | None:
    """The share of outputs, identified by their values, that a loss compares with the target of their own position;
    None if the step changes outputs or targets. With as many positions as classes either axis may be that of the
    classes: the larger share."""
    axes = [a for a in (1, -1) if outputs.movedim(a, -1).shape[:-1] == targets.shape]
    shares = [share for a in axes if (share := _share_along(a, outputs, targets, call)) is not None]
    return max(shares, default=None)


def _share_along(axis: int, outputs: torch.Tensor, targets: torch.Tensor, call: LossCall) -> float | None:
    """That share if the classes are along this axis."""
    if call.input.ndim != call.target.ndim + 1 or call.input.numel() != outputs.numel():
        return None
    given = call.input.cpu().movedim(1, -1).float()  # the step may cast outputs of autocast
    values, order = outputs.float().flatten().sort()
    shown, places = given.flatten().sort()
    if given.shape[-1] != outputs.shape[axis] or not torch.allclose(values, shown, rtol=1e-3, atol=1e-5):
        return None
    number = torch.arange(targets.numel()).reshape(targets.shape)
    home = number.unsqueeze(axis).expand_as(outputs).flatten()
    found = torch.empty(len(home), dtype=torch.long)
    found[places] = home[order]
    apart = values.diff() > _TIE * float(values.abs().max())  # equal values cannot be identified
    alone = torch.zeros(len(home), dtype=torch.bool)
    alone[places[1:-1]] = apart[1:] & apart[:-1]
    if int(alone.sum()) < _ALONE:
        return None
    target, lying = call.target.cpu().flatten(), number
    if not torch.equal(targets.flatten(), target):
        if targets.ndim != 2 or not torch.equal(targets.T.flatten(), target):
            return None
        lying = number.T
    right = found.reshape(-1, given.shape[-1]) == lying.flatten()[:, None]
    return float(right.flatten()[alone].double().mean())


def _constant(evidence: Evidence) -> Finding | None:
    """The finding for a loss that gets one number as the target of all samples, though those of the loader differ."""
    raw = evidence.train.raw[:2]
    labels = [target for batch in raw if (target := main_tensor(parts(batch)[1])) is not None]
    given = [main_tensor(parts(batch)[0]) for batch in raw]
    if len(labels) < 2 or any(len(y.unique()) < 3 or x is y for x, y in zip(given, labels, strict=True)):
        return None
    used = evidence.calls.losses
    if len(used) != 1 or len(used[0].target.unique()) != 1 or used[0].target.numel() != labels[0].numel():
        return None
    again, one = watch_calls(evidence.setup, raw[1], evidence.clock.until(0.05)).losses, used[0].target.flatten()[0]
    if len(again) != 1 or again[0].target.numel() != labels[1].numel() or not bool((again[0].target == one).all()):
        return None
    return STEP_LABELS.finding(
        severity="error",
        where="the training step",
        measured=f"the loss gets {float(one):g} as the target of all {several(labels[0].numel(), 'value')} of a "
        f"batch, while those of the loader range from {float(labels[0].min()):.3g} to "
        f"{float(labels[0].max()):.3g}",
        limit="one number as all targets of two batches, and three or more in each batch of the loader",
        why="The network learns this number: the loss falls to zero, and the predictions say nothing.",
        remedy="pass the loss the targets of the loader; `y.long()` cuts fractions off, and `y / 255` turns class "
        "numbers into fractions",
    )


def _never_changing(evidence: Evidence) -> Finding | None:
    """Targets that are the same for two batches with different labels, and that occur among the labels of the
    loader."""
    raw = evidence.train.raw
    labels = [target for batch in raw if (target := main_tensor(parts(batch)[1])) is not None]
    if len(raw) < 2 or len(labels) < len(raw) or labels[0].is_floating_point() or torch.equal(labels[0], labels[1]):
        return None
    known, used = torch.cat([target.flatten() for target in labels]).cpu(), evidence.calls.losses
    for call in used:
        if call.target.shape != labels[0].shape or call.target.is_floating_point() or len(call.target.unique()) < 2:
            continue
        if not bool(torch.isin(call.target.cpu(), known).all()) or _are_row_numbers(call.target):
            continue
        again = watch_calls(evidence.setup, raw[1], evidence.clock.until(0.05)).losses
        if len(again) == len(used) and all(torch.equal(a.target, b.target) for a, b in zip(used, again, strict=True)):
            return STEP_LABELS.finding(
                severity="error",
                where="the training step",
                measured=f"the loss gets the same {several(len(call.target), 'label')} for two batches with "
                "different labels",
                limit="the same labels for two batches with different labels",
                why="The labels belong to other samples: there is nothing to learn.",
                remedy="pass the loss the labels of the batch that the network gets, with the names of the loop "
                "variables",
            )
    return None


def _are_row_numbers(target: torch.Tensor) -> bool:
    """Whether targets are 0, 1, 2, …: numbers of rows (for contrastive learning), not labels."""
    return target.ndim == 1 and torch.equal(target.cpu(), torch.arange(len(target), dtype=target.dtype))


def _blended(evidence: Evidence) -> Finding | None:
    collated = blended_by_loader(evidence)
    batches = collated or blended_batches(evidence)
    shares, (right, total) = swapped_shares(batches), partners_named(batches)
    if shares is not None:
        inputs, labels = shares
        measured = (
            f"samples are blended: the network's input is {percent(inputs, 0)} the original batch, but its labels "
            f"count {percent(labels, 0)}; the weights are exchanged in several steps"
        )
        limit = "in several steps, inputs that are mostly one sample, and labels that count the other sample more"
        why = "Each input is mostly trained on the label of the sample that it contains least of."
    elif total >= _FEWEST_BLENDED and right < _NAMED * total:
        measured = (
            f"samples are blended in pairs: of {total:,} partners with another class, only {right:,} have their "
            "class as the second label"
        )
        limit = f"the second label is that of the partner in less than {percent(_NAMED, 0)} of the blended samples"
        why = "Each input is trained on the label of a sample that it does not contain."
    else:
        alone = [] if total else left_unblended(evidence)
        mostly = [own for own in alone if own < _LESS]
        if len(alone) < _FEWEST_LEFT or len(mostly) < 2 or max(alone) < 1 - _LESS:
            return None
        measured = (
            f"samples are blended: the network's input is {percent(mostly[0], 0)} the original batch, and less than "
            f"{percent(_LESS, 0)} in {len(mostly)} of {several(len(alone), 'step')}, but the loss only gets the "
            "original labels"
        )
        limit = f"less than {percent(_LESS, 0)} of a blend is the sample whose label counts alone, in two or more steps"
        why = "Each input is about half the time trained on the label of the sample that it contains least of."
    return STEP_LABELS.finding(
        severity="error",
        where="the collate function" if collated else "the training step",
        measured=measured,
        limit=limit,
        why=why,
        remedy="for inputs `lam * x + (1 - lam) * x[index]` the loss is `lam * criterion(out, y) + (1 - lam) * "
        "criterion(out, y[index])`, with the same index in both",
    )


def _mixed_inputs(evidence: Evidence) -> Finding | None:
    with suppress(NoEvidence):
        wrong, tried = rows_of_two_samples(evidence)
        if wrong >= FEWEST_JUDGED and tried - wrong <= MOST_RIGHT:
            return STEP_LABELS.finding(
                severity="error",
                where="the training step",
                measured=f"for {wrong} of {several(tried, 'sample')} the two inputs of a batch reach different rows "
                "of the network's outputs: each row mixes two samples",
                limit=f"two inputs of a sample that never reach the same output row, for {FEWEST_JUDGED} or more "
                f"samples and all but {MOST_RIGHT}, measured by exchanging an input",
                why="The network gets parts of different samples together: there is nothing to learn.",
                remedy="index all parts of a batch in the same way: `index = lengths.argsort(descending=True); x, "
                "y = x[index], y[index]`",
            )
    return None


def _of_other_samples(evidence: Evidence) -> Finding | None:
    wrong, tried, blended = rows_with_other_labels(evidence)
    if wrong < FEWEST_JUDGED or tried - wrong > MOST_RIGHT:
        return None
    return STEP_LABELS.finding(
        severity="error",
        where="the training step",
        measured=f"for {wrong} of {several(tried, 'sample')} the loss compares the label with outputs for inputs "
        f"that contain nothing of the sample{': samples are blended, each with one other' if blended else ''}",
        limit=f"labels that are compared with outputs of other samples, for {FEWEST_JUDGED} or more samples and all "
        f"but {MOST_RIGHT}, measured by exchanging a label and an input",
        why="Each blend is trained on the label of a sample that it does not contain."
        if blended
        else "The labels belong to other samples: there is nothing to learn.",
        remedy="index inputs and labels in the same way: `index = torch.randperm(len(x)); x, y = x[index], "
        "y[index]`; for mixed inputs `lam * criterion(out, y) + (1 - lam) * criterion(out, y[index])`",
    )


STEP_LABELS = Check(
    codes=("data.step-labels",),
    run=_step_labels,
    explains="data.augmentation data.labels-random data.label-noise loss.initial-off optim.lr-too-high "
    "optim.lr-too-low fit.*",
)
