"""`data.labels-random`: labels or numeric targets that are unrelated to the inputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.inputs.near_blank import near_blank_samples
from striate.doctor.checks.data.labels.above_chance import (
    MOST_NUMBERS,
    NOTHING_TO_LEARN,
    SIGMAS,
    better_than_chance,
    held_out,
    network_on_held_out,
    rank_sum,
    validation_predictions,
)
from striate.doctor.checks.data.labels.collated_rows import mismatched_by_collate
from striate.doctor.checks.data.labels.mismatched_maps import mismatched_maps
from striate.doctor.checks.data.labels.mismatched_sequences import mismatched_sequences
from striate.doctor.checks.data.labels.mispaired_files import mispaired_files
from striate.doctor.checks.data.labels.stored_images import labels_fit_stored_images
from striate.doctor.checks.data.labels.unseen_noise import unseen_noise
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.comparable_outputs import need_targets
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.features import is_grid
from striate.doctor.evidence.graph_batches import graphs_described
from striate.doctor.evidence.held_samples import FEWEST_IN_CLASS, labeled_samples
from striate.doctor.evidence.nearness import copies_in
from striate.doctor.evidence.predictions import Predictions
from striate.doctor.evidence.samples import Samples, class_numbers, gathered
from striate.doctor.evidence.simple_models import Reference, fit_simple_models, labels_are_independent, related
from striate.doctor.evidence.substituted_outputs import class_numbers_matter
from striate.doctor.evidence.trial import Change
from striate.doctor.setup.batch import is_binary, leaves, parts
from striate.observe.tensors import tensors_in
from striate.records import Finding
from striate.wording import percent, several

_OF_SEVERAL = 4.5
"""Standard errors above chance if there are several targets."""
SLIGHT = 0.05
"""The least gain over chance, as a share of the possible gain: one of several models may reach less by chance."""
LEAST = 0.12
LEAST_NUMBERS = 0.25
_FEWEST, _MOST_TARGETS, _TO_GAIN = 60, 2, 0.3
_TURNED, _SURELY = 0.35, 5.0
"""The area under the ROC curve below which labels are inverted, and its standard errors."""
_FROM_HALF = 0.35
"""The largest distance from 0.5 of a label's frequency for which it is judged."""
_MOST, _SKILL = 1000, 0.4
"""The most samples; the skill that models of validation need."""
_AT_CHANCE = f"no simple model is better than chance by {SIGMAS:g} standard errors on held-out samples"
_REMEDY = (
    "Check ten samples with their targets. Usual reasons: only x or only y was shuffled or sorted (use `p = "
    "torch.randperm(len(x)); x, y = x[p], y[p]`), they are drawn with different indices (use one `i`: `i = "
    "torch.randint(len(x), (32,)); x[i], y[i]`), files and labels come from lists in different orders (take the "
    "label from the file's own row or folder), a join on the wrong column."
)


def _run(evidence: Evidence) -> Iterable[Finding]:
    with suppress(NoEvidence):
        if (noise := unseen_noise(evidence)) is not None:
            return [noise]
    if (files := mispaired_files(evidence)) is not None:
        return [files]
    if (sequences := mismatched_sequences(evidence)) is not None:
        return [sequences]
    if (apart := mismatched_by_collate(evidence)) is not None:
        return [apart]
    return _of_samples(evidence)


def _of_samples(evidence: Evidence) -> Iterable[Finding]:
    if evidence.samples.maps is not None:
        return mismatched_maps(evidence, evidence.samples.maps)
    if not evidence.samples.alone and (linked := _classes_of_pairs(evidence.train.raw)) is not None:
        return _of_stored(evidence, *linked, where="training labels", how="of samples that pairs mark as the same")
    need_targets(evidence)
    try:
        labels = evidence.samples.labels
    except NoEvidence:
        held = labeled_samples(evidence.setup.train)
        return _numbers(evidence) if held is None else _of_stored(evidence, *held)
    if len(labels) < _FEWEST:
        raise NoEvidence(
            f"{several(len(labels), 'sample is', 'samples are')} too few to distinguish random labels from hard ones"
        )
    return _classes(evidence)


def _classes(evidence: Evidence) -> Iterable[Finding]:
    if (turned := _inverted_in_validation(evidence)) is not None:
        yield turned
        return
    graphs = graphs_described(evidence.train.raw, evidence.samples.labels)
    mismatch = (_copies(evidence) or _beside_validation(evidence)) if graphs is None else None
    if mismatch is not None:
        if not labels_fit_stored_images(evidence):
            yield mismatch
        return
    if better_than_chance(validation_predictions(evidence)):
        return
    labels = evidence.samples.labels
    rows = _balanced_rows(labels) if graphs is None else None
    if rows is not None:
        reference = fit_simple_models(evidence.samples.sole_inputs[rows], labels[rows], evidence.clock)
    else:
        reference = evidence.reference if graphs is None else fit_simple_models(graphs, labels, evidence.clock)
    accuracies = _at_chance(reference)
    if accuracies is None:
        return
    network = network_on_held_out(evidence, graphs is not None, ranked=rows is not None)
    if network is None or labels_fit_stored_images(evidence):
        return
    yield LABELS_RANDOM.finding(
        severity="error",
        where="training labels",
        measured=f"accuracy on {several(len(reference.labels), 'held-out sample')}"
        f"{', as many of the most frequent class as of the next' if rows is not None else ''}: "
        f"{', '.join(accuracies)}; the network {network}",
        limit=f"{_AT_CHANCE}, though a gain of {LEAST:g} would be visible, and neither is the network",
        why=NOTHING_TO_LEARN,
        remedy=_REMEDY,
    )


def _inverted_in_validation(evidence: Evidence) -> Finding | None:
    """Labels for IDs that are the opposite of those of validation: the network predicts held-out training samples
    right, but inverts validation."""
    given = list(tensors_in(parts(evidence.train.raw[0])[0]))
    if any(part.ndim != 1 or part.is_floating_point() for part in given):
        return None
    area, sigmas = _area(validation_predictions(evidence))
    held = held_out(evidence) if area < _TURNED and sigmas < -_SURELY else None
    if held is None:
        return None
    trial = evidence.variant("held out", Change(), batches=held[0])
    own, sure = _area(evidence.predictions_of(trial, held[1]))
    if own < 1 - _TURNED or sure < _SURELY:
        return None
    return LABELS_RANDOM.finding(
        severity="error",
        where="training labels",
        measured=f"samples labeled 1 get a higher output than others in {percent(area, 0)} of the pairs of validation, "
        f"and in {percent(own, 0)} of the pairs of held-out training samples",
        limit=f"for inputs that are IDs: less than {percent(_TURNED, 0)} in validation by {_SURELY:g} standard errors, "
        f"and more than {percent(1 - _TURNED, 0)} in training",
        why="What the network learns from training is the opposite of what validation asks for.",
        remedy=_REMEDY,
    )


def _area(predictions: Predictions | None) -> tuple[float, float]:
    """The area under the ROC curve of single outputs for labels of 0 and 1, and its distance from 0.5 in standard
    errors; 0.5 and 0 for other outputs."""
    labels = None if predictions is None else class_numbers(predictions.targets)
    if predictions is None or labels is None or predictions.outputs.numel() != len(labels):
        return 0.5, 0.0
    return rank_sum(predictions.outputs.flatten().double(), labels == 1)


def _is_predictable(evidence: Evidence) -> bool:
    """Whether a simple model is better than chance on held-out training samples; False where none can be fitted."""
    with suppress(NoEvidence):
        reference = evidence.reference
        return any(_gain(reference, name) >= _least_gain(reference, name) for name in reference.best)
    return False


def _gain(reference: Reference, name: str) -> float:
    """By how much a simple model's accuracy on held-out samples exceeds chance."""
    return reference.accuracy(name) - reference.by_chance(name)


def _least_gain(reference: Reference, name: str) -> float:
    """The gain over chance from which on a simple model is better than chance."""
    return max(SIGMAS * _error(reference, name), SLIGHT * (1 - reference.by_chance(name)))


def _error(reference: Reference, name: str) -> float:
    """The standard error of an accuracy at chance."""
    chance = reference.by_chance(name)
    return float((chance * (1 - chance) / len(reference.labels)) ** 0.5)


def _at_chance(reference: Reference) -> list[str] | None:
    """The accuracies of simple models and of chance, in words, if all are at chance; None if one is better, or may be.
    Raises NoEvidence if a gain would hardly be visible."""
    accuracies = []
    for name in reference.best:
        chance, gain = reference.by_chance(name), _gain(reference, name)
        if 1 - chance < _TO_GAIN:
            raise NoEvidence("almost all samples have the same class: a gain over chance would hardly be visible")
        if gain >= _least_gain(reference, name) or gain + 2 * _error(reference, name) > LEAST:
            return None
        accuracies.append(f"{name} {reference.accuracy(name):.2f} (chance {chance:.2f})")
    return accuracies


def _classes_of_pairs(batches: Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The samples of pairs (N, …), each once, and a class for each (N,): pairs marked as the same connect samples of
    one class. None for other batches, and if no sample occurs in several pairs."""
    sample_paths = [path for path, t in leaves(batches[0]) if t.ndim > 1]
    label_paths = [path for path, t in leaves(batches[0]) if t.ndim == 1]
    if len(sample_paths) != 2 or len(label_paths) != 1:
        return None
    one, other, same_or_not = (gathered(batches, path) for path in (*sample_paths, *label_paths))
    if one is None or other is None or same_or_not is None or one.shape != other.shape:
        return None
    if sorted(same_or_not.unique().tolist()) != [0, 1]:
        return None
    samples = torch.cat([one, other])
    first, count = copies_in(samples), len(one)
    for value in (1, 0):  # some data sets mark different pairs with 1
        same = (same_or_not == value).nonzero().flatten()
        links = coo_array((np.ones(len(same)), (first[same], first[same + count])), shape=(2 * count, 2 * count))
        parts_of = torch.from_numpy(connected_components(links, directed=False)[1]).long()
        rows = first.unique()
        numbers, sizes = parts_of[rows].unique(return_inverse=True, return_counts=True)[1:]
        kept = sizes[numbers] >= FEWEST_IN_CLASS
        if int(kept.sum()) >= max(_FEWEST, len(rows) // 2) and int(sizes.max()) < len(rows) // 2:
            return samples[rows[kept]].float(), numbers[kept].unique(return_inverse=True)[1]
    return None


def _of_stored(
    evidence: Evidence,
    images: torch.Tensor,
    labels: torch.Tensor,
    where: str = "the labels of the training data set",
    how: str = "with which it chooses samples that belong together",
) -> Iterable[Finding]:
    accuracies = _at_chance(fit_simple_models(images[:_MOST], labels[:_MOST], evidence.clock))
    if accuracies is not None:
        yield LABELS_RANDOM.finding(
            severity="error",
            where=where,
            measured=f"classes {how}: accuracy on {several(len(labels[:_MOST]), 'held-out sample')}: "
            f"{', '.join(accuracies)}",
            limit=f"{_AT_CHANCE}, though a gain of {LEAST:g} would be visible",
            why=NOTHING_TO_LEARN,
            remedy=_REMEDY,
        )


def _balanced_rows(labels: torch.Tensor) -> torch.Tensor | None:
    """Rows with as many samples of the most frequent class as of the next, if nearly all samples have that class, so
    that a gain over chance would hardly be visible; else None."""
    counts = torch.bincount(labels[labels >= 0])
    if len(counts) < 2 or 1 - float((counts / counts.sum()).square().sum()) >= _TO_GAIN:
        return None
    most = int(counts.argmax())
    order = torch.randperm(int(counts[most]), generator=torch.Generator().manual_seed(0))
    chosen = torch.nonzero(labels == most).flatten()[order[: int(counts.sort().values[-2])]]
    return torch.cat([chosen, torch.nonzero((labels >= 0) & (labels != most)).flatten()]).sort().values


def _copies(evidence: Evidence) -> Finding | None:
    """Images that occur several times, with unrelated labels."""
    x, labels = evidence.samples.sole_inputs, evidence.samples.labels
    if not is_grid(x):
        return None
    first = copies_in(x)
    again = (first >= 0) & (first != torch.arange(len(x))) & ~near_blank_samples(x)
    count = int(again.sum())
    if count < _FEWEST:
        return None
    shares = torch.bincount(labels).double() / len(labels)
    chance = float(shares.square().sum())
    same = float((labels[again] == labels[first[again]]).double().mean())
    if 1 - chance < _TO_GAIN or same > chance + max(SIGMAS * (chance * (1 - chance) / count) ** 0.5, SLIGHT):
        return None
    if not class_numbers_matter(evidence):
        return None
    return LABELS_RANDOM.finding(
        severity="error",
        where="training labels",
        measured=f"{several(count, 'image occurs', 'images occur')} again, with the same label in {percent(same, 0)} "
        f"of the cases (by chance {percent(chance, 0)})",
        limit=f"{_FEWEST} images occur again, with the same label as often as by chance",
        why=NOTHING_TO_LEARN,
        remedy=_REMEDY,
    )


def _balanced_part(samples: Samples) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and labels; if nearly all have one class, with as many samples of it as of the next."""
    x, labels = samples.sole_inputs, samples.labels
    rows = _balanced_rows(labels)
    return (x, labels) if rows is None else (x[rows], labels[rows])


def _beside_validation(evidence: Evidence) -> Finding | None:
    """Labels that are unrelated to the predictions of models that are fitted to validation and predict it well."""
    x, labels = _balanced_part(evidence.samples)
    x, labels = x[:_MOST], labels[:_MOST]
    try:
        known_x, known_labels = _balanced_part(evidence.val_samples)
        if min(len(known_labels), len(labels)) < _FEWEST or x.shape[1:] != known_x.shape[1:]:
            return None
        reference = fit_simple_models(known_x, known_labels, evidence.clock)
    except NoEvidence:
        return None
    name = reference.best[0]
    known, chance = reference.accuracy(name), reference.by_chance(name)
    if known - chance < _SKILL * (1 - chance) or not labels_are_independent(reference, x, labels):
        return None
    if _is_predictable(evidence):
        return None  # training can be learned: validation shows its classes in another way
    return LABELS_RANDOM.finding(
        severity="error",
        where="training labels",
        measured=f"a simple model ({name}) fitted to validation gets {percent(known, 0)} of its held-out labels right "
        f"and sees the same classes in {several(len(x), 'training sample')}, but their labels agree with these only by "
        "chance",
        limit=f"a model that gets {percent(_SKILL, 0)} of the way from chance to perfect in validation, is as "
        "confident on training samples, and does not agree with their labels",
        why=NOTHING_TO_LEARN,
        remedy=_REMEDY,
    )


def _numbers(evidence: Evidence) -> Iterable[Finding]:
    columns = _columns(evidence)
    known_targets = evidence.first.loss_targets is not None or evidence.calls.losses
    if not known_targets and sum(1 for _ in leaves(evidence.train.raw[0])) > 2:
        raise NoEvidence("it is unknown which tensors of a batch are targets: the loss is not one of torch's")
    if len(columns) < _FEWEST:
        raise NoEvidence(
            f"{several(len(columns), 'sample is', 'samples are')} too few to distinguish random targets from hard ones"
        )
    if better_than_chance(validation_predictions(evidence)):
        return
    certain = SIGMAS if columns.shape[1] == 1 else _OF_SEVERAL
    for values in columns.T[:_MOST_TARGETS]:
        found = related(evidence.samples.sole_inputs, values, evidence.clock)
        error = found.count**-0.5
        if max(found.models.values()) >= min(certain * error, LEAST_NUMBERS) or 2 * error > LEAST_NUMBERS:
            return
    network = network_on_held_out(evidence)
    if network is None:
        return
    correlations = ", ".join(f"{name} {value:.2f}" for name, value in found.models.items())
    which = "targets" if columns.shape[1] == 1 else f"second of {columns.shape[1]} targets"
    yield LABELS_RANDOM.finding(
        severity="error",
        where="training targets",
        measured=f"correlation of predictions with the {which} of {several(found.count, 'held-out sample')}: "
        f"{correlations} (chance: "
        f"0 ± {error:.2f}); the network {network}",
        limit=f"{_AT_CHANCE}, though a correlation of {LEAST_NUMBERS:g} would be visible, and neither is the network",
        why=NOTHING_TO_LEARN,
        remedy=_REMEDY,
    )


def _columns(evidence: Evidence) -> torch.Tensor:
    """Numeric targets (N, K) as float64: one for each sample, multi-label targets, or a few numbers for each image,
    such as a box or the logits of a teacher. Raises NoEvidence for other targets."""
    try:
        return evidence.samples.values[:, None]
    except NoEvidence:
        y = evidence.samples.y
        few = y is not None and y.is_floating_point() and y.ndim == 2 and 1 < y.shape[1] <= MOST_NUMBERS
        if y is None or not few or bool((y.std(0) <= 0).any()):
            raise
        if bool(((y.sum(1) - 1).abs() < 1e-3).all()):
            raise  # soft labels
        if not is_binary(y):
            if not is_grid(evidence.samples.sole_inputs):
                raise
            return y.double()
        common = y[:, (y.mean(0) - 0.5).abs() <= _FROM_HALF]  # multi-label targets
        if not common.numel():
            raise
        return common.double()


LABELS_RANDOM = Check(
    codes=("data.labels-random",),
    run=_run,
    quick=False,
    explains=(
        "data.label-noise data.shift loss.initial-off loss.not-finite model.collapsed model.dead-units "
        "model.exploding-gradient model.saturated model.vanishing-gradient optim.lr-too-high "
        "optim.lr-too-low fit.*"
    ),
)
