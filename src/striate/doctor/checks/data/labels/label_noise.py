"""`data.label-noise`: wrong labels of a part of the samples."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.common import picture_of
from striate.doctor.checks.data.inputs.near_blank import near_blank_samples
from striate.doctor.checks.data.labels.class_counts import need_class_loss
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.features import is_grid
from striate.doctor.evidence.nearness import copies_in
from striate.doctor.evidence.simple_models import Reference
from striate.doctor.evidence.substituted_outputs import class_numbers_matter
from striate.doctor.setup.syntax import last_name
from striate.records import Finding, Remedy
from striate.statistics.intervals import wilson_ends
from striate.wording import percent, several

NOISE, SURELY = 0.12, 0.08
AGREE = 0.7
LEARNED = 0.3
"""Least advantage over chance of the models, as a share of what there is to gain."""
FLAT, FLATTER = 0.45, 0.75
ONE_CLASS, ONE_CLASS_SURELY = 0.3, 0.2
CONTRADICTORY = 0.03
_FEWEST = 30
_FEWEST_IN_CLASS = 15


@dataclass(frozen=True)
class _Doubt:
    """Labels that two models agree to contradict."""

    names: tuple[str, str]
    """Names of the two models."""
    agree: float
    """Share of the samples for which both predict the same."""
    both: NDArray[np.bool_]
    """(N,) whether both predict the same."""
    certainty: NDArray[np.float64]
    """(N,) the smaller of both models' ranks of certainty, from 0 to 1."""
    sure: NDArray[np.bool_]
    """(N,) whether both predict the same, and the sample is in the more certain half of those with its prediction."""
    predictions: NDArray[np.int64]
    """(N,) the predictions of the first model."""
    labels: NDArray[np.int64]
    """(N,) the given labels."""
    wrong: float
    """Share of the `sure` samples with another label."""
    all_wrong: float
    """Share with another label of all samples for which they agree."""

    @property
    def flat(self) -> bool:
        """Whether the surest quarter has about as many contradicted labels as all samples. If classes merely overlap,
        samples far from the other class have fewer."""
        order = np.flatnonzero(self.both)[np.argsort(-self.certainty[self.both], kind="stable")]
        surest = order[: max(len(order) // 4, 1)]
        share = float((self.labels[surest] != self.predictions[surest]).mean())
        slack = 1.28 * (max(share * (1 - share), 0.01) / len(surest)) ** 0.5
        return self.wrong >= FLAT * self.all_wrong and share + slack >= FLATTER * self.all_wrong


def _run(evidence: Evidence) -> Iterable[Finding]:
    need_class_loss(evidence)
    contradictory = list(_contradictory_copies(evidence))
    if contradictory:
        return contradictory
    reference = evidence.reference
    doubt = _doubt(reference)
    if doubt is None:
        return []
    low = wilson_ends(doubt.wrong, int(doubt.sure.sum()), 0.99)[0]
    everywhere = doubt.wrong >= NOISE and low >= SURELY and doubt.flat
    pair = None if everywhere else _one_class(doubt)
    if not everywhere and pair is None:
        return []
    if _knows_better(evidence, reference, doubt):
        return []
    _draw(evidence, reference, doubt)
    finding = _finding(doubt, pair)
    return [replace(finding, severity="note") if _on_purpose(evidence) else finding]


_NOISY = re.compile(r"nois(y|e)_?(rate|labels?|targets?|y)$|^(y|labels?|targets?)_?nois(y|e)|^noisy$", re.IGNORECASE)


def _on_purpose(evidence: Evidence) -> bool:
    """Whether names in the script show that it makes labels wrong on purpose, to study noisy labels."""
    source = evidence.setup.source
    nodes = source.nodes() if source is not None else ()
    return any(_NOISY.search(last_name(node)) for node in nodes)


def _doubt(reference: Reference) -> _Doubt | None:
    """The labels that the two most accurate models contradict; None if they agree too rarely."""
    if len(reference.best) < 2:
        return None
    one, other = reference.best[:2]
    first, second = reference.out_of_fold[one], reference.out_of_fold[other]
    both = first.predictions == second.predictions
    chance = reference.by_chance(one)
    if both.mean() < AGREE or reference.accuracy(one) - chance < LEARNED * (1 - chance):
        return None
    certainty = np.minimum(_ranks(first.confidence), _ranks(second.confidence))
    sure = np.zeros(len(both), bool)
    for predicted in np.unique(first.predictions[both]):
        of_class = np.flatnonzero(both & (first.predictions == predicted))
        # By class: one class may be harder than the others, and noisy alone.
        sure[of_class[np.argsort(-certainty[of_class], kind="stable")[: (len(of_class) + 1) // 2]]] = True
    if sure.sum() < _FEWEST:
        return None
    different = first.predictions != reference.labels
    wrong, all_wrong = float(different[sure].mean()), float(different[both].mean())
    return _Doubt(
        (one, other), float(both.mean()), both, certainty, sure, first.predictions, reference.labels, wrong, all_wrong
    )


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.argsort(np.argsort(values, kind="stable"), kind="stable") / max(len(values), 1)


def _one_class(doubt: _Doubt) -> tuple[int, float] | None:
    """The class with the largest share of samples with another label, and that share, if the other classes are
    clean."""
    worst: tuple[int, float] | None = None
    rest = []
    for predicted in np.unique(doubt.predictions[doubt.sure]):
        of_class = doubt.sure & (doubt.predictions == predicted)
        share = float((doubt.labels[of_class] != predicted).mean())
        count = int(of_class.sum())
        surely = count >= _FEWEST_IN_CLASS and wilson_ends(share, count, 0.9)[0] >= ONE_CLASS_SURELY
        if share >= ONE_CLASS and surely and (worst is None or share > worst[1]):
            worst = (int(predicted), share)
        rest.append(share)
    return worst if worst is not None and float(np.median(rest)) < NOISE / 2 else None


def _knows_better(evidence: Evidence, reference: Reference, doubt: _Doubt) -> bool:
    """Whether the network, which may see more than simple models, predicts the labels that they contradict, and
    predicts validation better than they do."""
    try:
        after, val = evidence.after, evidence.after_val
        predicted = after.predicted.flatten().numpy()
        accuracy = val.accuracy
    except NoEvidence:
        return False
    rows = reference.rows.numpy()
    doubted = doubt.sure & (doubt.predictions != doubt.labels) & (rows < len(predicted))
    if not doubted.any():
        return False
    keeps = float((predicted[rows[doubted]] == doubt.labels[doubted]).mean())
    return keeps > 0.5 and accuracy > reference.accuracy(doubt.names[0]) + 0.05


def _contradictory_copies(evidence: Evidence) -> Iterable[Finding]:
    """Images (not rows of tables) that occur several times with different labels."""
    samples = evidence.samples
    x, labels = samples.sole_inputs, samples.labels
    if not is_grid(x):
        return
    keep = ~near_blank_samples(x)
    x, labels = x[keep], labels[keep]
    if not len(x):
        return
    first = copies_in(x)
    counts: dict[int, set[int]] = {}
    for home, label in zip(first.tolist(), labels.tolist(), strict=True):
        counts.setdefault(home, set()).add(label)
    odd = [home for home, found in counts.items() if len(found) > 1]
    share = sum(len(counts[int(home)]) > 1 for home in first) / len(x)
    if len(odd) < 3 or share < CONTRADICTORY or not class_numbers_matter(evidence):
        return
    yield LABEL_NOISE.finding(
        severity="error" if share >= 0.2 else "warning",
        where="training labels",
        measured=f"{several(len(odd), 'image occurs', 'images occur')} with two or more different labels, "
        f"{percent(share, 0)} of the samples; the first have the classes "
        + ", ".join("/".join(map(str, sorted(counts[home]))) for home in odd[:3]),
        limit=f"{percent(CONTRADICTORY, 0)} of the images occur with two different labels",
        why="At most one of the labels is right, and the network gets contradictory gradients.",
        remedy=Remedy(
            "Keep one label for each image (that of the majority, or check them), and remove the copies.",
            command=("data", "check", "DATA"),
        ),
    )


def _draw(evidence: Evidence, reference: Reference, doubt: _Doubt) -> None:
    rows = np.flatnonzero(doubt.sure & (doubt.predictions != doubt.labels))[:6]
    images = list(evidence.samples.inputs[reference.rows[torch.from_numpy(rows)]])
    words = [f"label {doubt.labels[row]}, looks like {doubt.predictions[row]}" for row in rows]
    drawn = picture_of("Doubtful labels", images, words)
    if drawn is not None:
        evidence.pictures["data.label-noise"] = drawn


def _finding(doubt: _Doubt, pair: tuple[int, float] | None) -> Finding:
    rows = np.flatnonzero(doubt.sure & (doubt.predictions != doubt.labels))
    shown = ", ".join(f"{doubt.labels[row]} for what looks like {doubt.predictions[row]}" for row in rows[:3])
    where = "" if pair is None else f" ({percent(pair[1], 0)} of what looks like class {pair[0]})"
    return LABEL_NOISE.finding(
        severity="warning",
        where="training labels",
        measured=f"{percent(doubt.wrong, 0)} of the samples with the clearest class have another label{where}: "
        f"{shown}. Two simple models ({' and '.join(doubt.names)}), fitted to other samples, judge this; they agree on "
        f"{percent(doubt.agree, 0)} of all samples",
        limit=f"two different simple models agree on {percent(AGREE, 0)} of held-out samples, and {percent(NOISE, 0)} "
        f"of the half that they are surest of have another label (certainly {percent(SURELY, 0)}; or "
        f"{percent(ONE_CLASS, 0)} of one class)",
        why="Wrong labels limit the accuracy, and a network that trains long memorizes them.",
        remedy=Remedy(
            "Check the samples whose label contradicts a confident prediction (`striate data check DATA --labels` "
            "lists them), and correct or remove them. Until then: stop early, use "
            "`CrossEntropyLoss(label_smoothing=0.1)`, and measure on verified labels.",
            command=("data", "check", "DATA", "--labels"),
        ),
    )


LABEL_NOISE = Check(
    codes=("data.label-noise",),
    run=_run,
    quick=False,
    explains="fit.*",
)
