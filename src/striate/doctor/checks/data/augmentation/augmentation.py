"""`data.augmentation`: does what augmentation leaves of training inputs still show what is asked?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import combinations

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.augmentation.color_orders import colors_exchanged
from striate.doctor.checks.data.augmentation.drowned import (
    drowned_beside_validation,
    drowned_by_step,
    drowned_when_drawn,
)
from striate.doctor.checks.data.augmentation.erased import erased, erased_by_step, tokens_erased
from striate.doctor.checks.data.augmentation.exchanged import classes_exchanged, exchanged_once
from striate.doctor.checks.data.augmentation.given import Given, given_to_network
from striate.doctor.checks.data.augmentation.hidden_targets import (
    FEWEST,
    GAP,
    SHARE,
    label_hidden,
    number_hidden,
    several_labels,
)
from striate.doctor.checks.data.augmentation.told import told
from striate.doctor.checks.data.augmentation.views_of_nothing import views_of_nothing
from striate.doctor.checks.data.augmentation.wrapped import wrapped_around
from striate.doctor.checks.data.labels.as_held import labels_fit_as_held
from striate.doctor.evidence.changed_by_reading import ChangedByReading
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.comparable_outputs import predicts_targets
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.read_batches import collation_varies
from striate.doctor.evidence.simple_models import Reference, fit_simple_models, labels_are_independent
from striate.doctor.setup.batch import parts
from striate.observe.tensors import tensors_in
from striate.records import Finding
from striate.wording import several, show_shape

_LEARNED = 0.15
"""So near to simple models of validation, the network has learned all the same, as from samples that are blended."""
_PAIRS, _ASKED = 4, 1000
_CROPPED = 0.1
"""Of the area of validation."""


def _run(evidence: Evidence) -> Iterator[Finding]:
    changed = evidence.changed_by_reading
    if changed is not None and not changed.same:
        yield _piling_up(changed)
        return
    found = (
        _views_that_are_one(evidence)
        or views_of_nothing(evidence)
        or wrapped_around(evidence)
        or colors_exchanged(evidence)
        or erased(evidence)
        or tokens_erased(evidence)
        or erased_by_step(evidence)
        or drowned_by_step(evidence)
        or drowned_when_drawn(evidence)
        or _beside_validation(evidence)
    )
    if found is not None:
        yield found


def _beside_validation(evidence: Evidence) -> Finding | None:
    if (destroyed := _destroyed(evidence)) is not None:
        return destroyed
    if (labels := several_labels(evidence)) is not None:
        return label_hidden(evidence, *labels)
    with suppress(NoEvidence):
        if (hidden := number_hidden(evidence)) is not None:
            return hidden
    given = given_to_network(evidence)
    if len(given.inputs) < FEWEST or len(evidence.val_samples.labels) < FEWEST:
        raise NoEvidence(f"fewer than {FEWEST} samples to compare")
    anew, unknown = _is_drawn_anew(evidence) if given.place == "loader" else (True, None)
    if anew:
        return _of_classes(evidence, given)
    moved = exchanged_once(evidence, given)
    if moved is None and unknown is not None:
        raise unknown
    return moved


def _of_classes(evidence: Evidence, given: Given) -> Finding | None:
    """Simple models of what the network is given, beside those of validation."""
    val = evidence.val_samples
    shown, plain = (
        fit_simple_models(x, labels, evidence.clock) for x, labels in (given[:2], (val.sole_inputs, val.labels))
    )
    seen, there = _best(shown), _best(plain)
    alike = given.inputs.shape[1:] == val.sole_inputs.shape[1:] and val.sole_inputs.ndim >= 3
    if alike and (moved := classes_exchanged(evidence, given, shown, plain)) is not None:
        return moved
    if there - seen < GAP or seen > SHARE * there or _learned(evidence) > there - _LEARNED:
        return None
    if given.place == "step" and there - _best(evidence.reference) > GAP:
        return None  # it is the loader's samples themselves
    others = alike and labels_are_independent(plain, given.inputs[:_ASKED], given.labels[:_ASKED])
    if others and not labels_fit_as_held(evidence):
        return None  # it is the labels
    return told(
        given.place,
        f"simple models predict {seen:.0%} of {several(len(shown.labels), 'training sample')} right after "
        f"augmentation ({show_shape(given.inputs.shape[1:])}), and {there:.0%} of "
        f"{several(len(plain.labels), 'validation sample')} ({show_shape(val.inputs.shape[1:])}); each sample is "
        "predicted by models fitted to others",
        why="After augmentation, samples hardly show what their labels say: a person could not tell either.",
        remedy="look at a training batch and augment less: larger crops (such as `F.pad(x, [2] * 4)` and a crop of "
        "the full size, or a scale of 0.5 or more), smaller rotations, less noise",
        threshold=f"simple models predict augmented training samples {GAP:.0%} less often right than validation "
        f"samples, and less than {SHARE:.0%} as well, and the trial's network predicts validation {_LEARNED:.0%} "
        "less often right than they do",
    )


def _learned(evidence: Evidence) -> float:
    """The network's accuracy in validation after the trial; 0 where it names no classes, as of embeddings."""
    try:
        return evidence.after_val.accuracy
    except NoEvidence:
        if predicts_targets(evidence):
            raise
        return 0.0


def _best(reference: Reference) -> float:
    return reference.accuracy(reference.best[0])


def _is_drawn_anew(evidence: Evidence) -> tuple[bool, NoEvidence | None]:
    """Whether samples are drawn anew each time, and why that is not known."""
    try:
        return evidence.inputs_vary or collation_varies(evidence.setup.train), None
    except NoEvidence as reason:
        return False, reason


def _piling_up(changed: ChangedByReading) -> Finding:
    return told(
        "loader",
        f"reading {several(changed.read, 'sample')} from the data set changes the stored values of "
        f"{changed.changed} of them",
        why="Noise and shifts are written into the stored samples and accumulate from epoch to epoch.",
        remedy="change a copy: `image = self.images[index].clone()` (`.copy()` in NumPy), or `image = image + "
        "noise` instead of `image += noise`",
        threshold="reading a sample changes its stored values",
    )


def _views_that_are_one(evidence: Evidence) -> Finding | None:
    """Several views of each sample, to be compared with each other, that are equal number for number: as the loader
    yields them, or one set behind the other as the network is given them."""
    inputs, second = parts(evidence.train.raw[0])
    runs = sum(call.module is evidence.setup.model or not call.name for call in evidence.graph.modules)
    if runs > 1 and evidence.inputs_vary:  # each view by itself: the second stands where a target would
        inputs = [inputs, second]
    views = [t for t in tensors_in(inputs) if isinstance(t, torch.Tensor) and t.ndim > 2]
    shown = evidence.first.shown
    if len(views) < 2 and shown is not None and shown.ndim > 2 and len(shown) >= _PAIRS and len(shown) % 2 == 0:
        views = list(shown.detach().cpu().chunk(2))
    alike = (a.shape == b.shape and torch.equal(a, b) for a, b in combinations(views, 2))
    if not any(alike) or not float(views[0].double().std()) > 0:
        return None
    return told(
        "loader",
        f"all views of each of {several(len(views[0]), 'sample')} are identical",
        why="Identical views teach nothing: views should differ in what does not matter.",
        remedy="draw each view with its own call: `[transform(image) for _ in range(2)]`, not `[transform(image)] * 2`",
        threshold="identical views of each sample",
    )


def _destroyed(evidence: Evidence) -> Finding | None:
    """What no label can be told from, whatever it says: crops of next to nothing, noise far above the signal."""
    x, plain = evidence.samples.x, evidence.val_samples.x
    if x is None or plain is None or x.ndim not in (3, 4) or plain.ndim != x.ndim or not evidence.inputs_vary:
        return None
    y = evidence.samples.y
    area = 1.0 if x.ndim == 3 else x.shape[2] * x.shape[3] / (plain.shape[2] * plain.shape[3])
    if area < _CROPPED and x.shape[1] == plain.shape[1] and y is not None and y.ndim <= 2:
        return told(
            "loader",
            f"training samples are {show_shape(x.shape[2:])}, validation samples {show_shape(plain.shape[2:])}: "
            f"{area:.0%} of the area",
            why="So small a crop hardly shows what the label of the whole image says.",
            remedy="crop most of the image: `F.pad(x, [2] * 4)` and a crop of the full size, or a scale of 0.5 or more",
            threshold=f"training samples have less than {_CROPPED:.0%} of the area of validation samples",
        )
    return drowned_beside_validation(evidence, x, plain)


AUGMENTATION = Check(
    codes=("data.augmentation",),
    question="Do augmented training inputs still show what their labels say?",
    run=_run,
    quick=False,
    explains="data.constant-images data.labels-random data.label-map "
    "data.label-noise data.shift data.not-normalized model.receptive-field "
    "model.collapsed model.too-small model.shrinks-too-fast optim.lr-too-low optim.lr-too-high fit.*",
)
