"""`data.augmentation`: do augmented training inputs still show their targets?"""

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
from striate.doctor.checks.data.augmentation.erased_views import erased_views
from striate.doctor.checks.data.augmentation.exchanged import classes_exchanged, exchanged_once
from striate.doctor.checks.data.augmentation.finding import augmentation_finding
from striate.doctor.checks.data.augmentation.hidden_targets import (
    FEWEST,
    GAP,
    SHARE,
    label_hidden,
    number_hidden,
    several_labels,
)
from striate.doctor.checks.data.augmentation.network_inputs import NetworkInputs, network_inputs
from striate.doctor.checks.data.augmentation.wrapped import wrapped_around
from striate.doctor.checks.data.labels.stored_images import labels_fit_stored_images
from striate.doctor.checks.loss.pairs.contrastive_partners import scores_all_pairs
from striate.doctor.evidence.changed_by_reading import ChangedByReading
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.comparable_outputs import predicts_targets
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.read_batches import collation_varies
from striate.doctor.evidence.simple_models import Reference, fit_simple_models, labels_are_independent
from striate.doctor.evidence.token_targets import class_losses
from striate.doctor.setup.batch import parts
from striate.observe.tensors import tensors_in
from striate.records import Finding
from striate.wording import percent, several, show_shape

_LEARNED = 0.15
"""The network has learned nevertheless, as from blended samples, if its accuracy is less than this below that of simple
models."""
_PAIRS, _MOST = 4, 1000
_ROUNDED = 1e-5
"""The largest difference between outputs that differ by rounding."""
_CROPPED = 0.1
"""A share of the area of validation images."""


def _run(evidence: Evidence) -> Iterator[Finding]:
    changed = evidence.changed_by_reading
    if changed is not None and not changed.same:
        yield _accumulating_changes(changed)
        return
    found = (
        _identical_views(evidence)
        or erased_views(evidence)
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
    given = network_inputs(evidence)
    if len(given.inputs) < FEWEST or len(evidence.val_samples.labels) < FEWEST:
        raise NoEvidence(f"fewer than {FEWEST} samples to compare")
    differs, unknown = _differs_each_time(evidence) if given.place == "loader" else (True, None)
    if differs:
        return _of_classes(evidence, given)
    moved = exchanged_once(evidence, given)
    if moved is None and unknown is not None:
        raise unknown
    return moved


def _of_classes(evidence: Evidence, given: NetworkInputs) -> Finding | None:
    """Compare simple models fitted to the inputs of the network with those fitted to validation."""
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
        return None  # already true of the loader's samples
    others = alike and labels_are_independent(plain, given.inputs[:_MOST], given.labels[:_MOST])
    if others and not labels_fit_stored_images(evidence):
        return None  # the labels are wrong, not the inputs
    return augmentation_finding(
        given.place,
        f"simple models predict {percent(seen, 0)} of {several(len(shown.labels), 'training sample')} right after "
        f"augmentation ({show_shape(given.inputs.shape[1:])}), and {percent(there, 0)} of "
        f"{several(len(plain.labels), 'validation sample')} ({show_shape(val.inputs.shape[1:])}); each sample is "
        "predicted by models fitted to others",
        why="After augmentation, samples hardly show what their labels say: a person could not tell either.",
        remedy="look at a training batch and augment less: larger crops (such as `F.pad(x, [2] * 4)` and a crop of "
        "the full size, or a scale of 0.5 or more), smaller rotations, less noise",
        threshold=f"the accuracy of simple models on augmented training samples is {percent(GAP, 0)} below that on "
        f"validation, and less than {percent(SHARE, 0)} of it, and the validation accuracy of the trial's network is "
        f"{percent(_LEARNED, 0)} below theirs",
    )


def _learned(evidence: Evidence) -> float:
    """The network's validation accuracy after the trial; 0 where its outputs are not classes, such as embeddings."""
    try:
        return evidence.after_val.accuracy
    except NoEvidence:
        if predicts_targets(evidence):
            raise
        return 0.0


def _best(reference: Reference) -> float:
    return reference.accuracy(reference.best[0])


def _differs_each_time(evidence: Evidence) -> tuple[bool, NoEvidence | None]:
    """Whether reading a sample again gives another one, and if that is unknown, the reason."""
    try:
        return evidence.inputs_vary or collation_varies(evidence.setup.train), None
    except NoEvidence as reason:
        return False, reason


def _accumulating_changes(changed: ChangedByReading) -> Finding:
    return augmentation_finding(
        "loader",
        f"reading {several(changed.read, 'sample')} from the data set changes the stored values of "
        f"{changed.changed} of them",
        why="Noise and shifts are written into the stored samples and accumulate from epoch to epoch.",
        remedy="change a copy: `image = self.images[index].clone()` (`.copy()` in NumPy), or `image = image + "
        "noise` instead of `image += noise`",
        threshold="reading a sample changes its stored values",
    )


def _identical_views(evidence: Evidence) -> Finding | None:
    """Views of each sample for contrastive learning that are identical: as the loader yields them, concatenated in
    the input of the network, or as the step passes them one after the other."""
    if (passed := _passed_twice(evidence)) > 0:
        return _of_identical_views("step", passed)
    inputs, second = parts(evidence.train.raw[0])
    runs = sum(call.module is evidence.setup.model or not call.name for call in evidence.graph.modules)
    if runs > 1 and evidence.inputs_vary:  # one call for each view: the second is in the place of the target
        inputs = [inputs, second]
    views = [t for t in tensors_in(inputs) if isinstance(t, torch.Tensor) and t.ndim > 2]
    shown = evidence.first.shown
    if len(views) < 2 and shown is not None and shown.ndim > 2 and len(shown) >= _PAIRS and len(shown) % 2 == 0:
        views = list(shown.detach().cpu().chunk(2))
    alike = (a.shape == b.shape and torch.equal(a, b) for a, b in combinations(views, 2))
    if not any(alike) or not float(views[0].double().std()) > 0:
        return None
    return _of_identical_views("loader", len(views[0]))


def _passed_twice(evidence: Evidence) -> int:
    """The number of samples of a batch that the step passes two or three times, with equal outputs, so that the pairs
    whose scores a cross entropy raises are pairs of the same numbers; else 0. Not where outputs differ, since dropout
    makes views of equal inputs."""
    if evidence.first.calls not in (2, 3):
        return 0
    if not any(scores_all_pairs(call.input, call.target) for call in class_losses(evidence)):
        return 0
    steps = evidence.embeddings
    same = all(len(sets.inputs) > 1 and _are_equal(sets.inputs) and _are_equal(sets.outputs) for sets in steps)
    return len(steps[0].inputs[0]) if steps and same else 0


def _are_equal(tensors: list[torch.Tensor]) -> bool:
    first, *others = tensors
    return all(other.shape == first.shape and torch.allclose(other, first, atol=_ROUNDED) for other in others)


def _of_identical_views(place: str, count: int) -> Finding:
    return augmentation_finding(
        place,
        f"all views of each of {several(count, 'sample')} are identical",
        why="Identical views teach nothing: views should differ in what does not matter.",
        remedy="draw each view with its own call: `[transform(image) for _ in range(2)]`, not `[transform(image)] * 2`",
        threshold="identical views of each sample",
    )


def _destroyed(evidence: Evidence) -> Finding | None:
    """Inputs that show no label of any kind: tiny crops, or noise far above the signal."""
    x, plain = evidence.samples.x, evidence.val_samples.x
    if x is None or plain is None or x.ndim not in (3, 4) or plain.ndim != x.ndim or not evidence.inputs_vary:
        return None
    y = evidence.samples.y
    area = 1.0 if x.ndim == 3 else x.shape[2] * x.shape[3] / (plain.shape[2] * plain.shape[3])
    if area < _CROPPED and x.shape[1] == plain.shape[1] and y is not None and y.ndim <= 2:
        return augmentation_finding(
            "loader",
            f"training samples are {show_shape(x.shape[2:])}, validation samples {show_shape(plain.shape[2:])}: "
            f"{percent(area, 0)} of the area",
            why="So small a crop hardly shows what the label of the whole image says.",
            remedy="crop most of the image: `F.pad(x, [2] * 4)` and a crop of the full size, or a scale of 0.5 or more",
            threshold=f"training samples have less than {percent(_CROPPED, 0)} of the area of validation samples",
        )
    return drowned_beside_validation(evidence, x, plain)


AUGMENTATION = Check(
    codes=("data.augmentation",),
    run=_run,
    quick=False,
    explains="data.constant-images data.labels-random data.label-map "
    "data.label-noise data.shift data.not-normalized model.receptive-field "
    "model.collapsed model.too-small model.shrinks-too-fast optim.lr-too-low optim.lr-too-high fit.*",
)
