"""`data.too-few`: too few different samples to learn from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch.utils.data import WeightedRandomSampler

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.common import are_tokens
from striate.doctor.checks.data.labels.class_counts import need_class_loss
from striate.doctor.checks.data.labels.never_reached import ends_at_once, says_less
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.comparable_outputs import need_all_data
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.features import is_grid
from striate.doctor.evidence.nearness import columns_shuffled, first_of_each
from striate.doctor.evidence.read_batches import positions_drawn
from striate.doctor.setup.recorded_iterators import draws_own_batches, has_own_batch_sampler
from striate.models.preserved_state import same_random_state
from striate.records import Finding, Remedy
from striate.wording import percent, several

FEW, FEW_ROWS, CHANCE = 5, 20, 0.5
FEW_DRAWN, _OFTEN = 100, 8
_PASSES, _LEFT_OUT = 3, 0.25
_WHY = "The network memorizes these few samples and never sees the others."
_UNREACHED = "Most samples are never trained on."
_ENDED = "a `break` in the body of the training loop under no condition, and two batches or more"
_DIVIDED = "a `__len__` with a floor division, and samples of the same shape at twice its value and beyond"
_DRAWN_OFTEN = f"at most {FEW_DRAWN} samples, each drawn {_OFTEN} times or more, in smaller batches"


def _find_too_few(evidence: Evidence) -> Iterable[Finding]:
    for rule, limit in ((ends_at_once, _ENDED), (says_less, _DIVIDED)):
        if (found := rule(evidence)) is not None:
            where, measured, remedy = found
            yield TOO_FEW.finding(
                severity="error", where=where, measured=measured, limit=limit, why=_UNREACHED, remedy=remedy
            )
            return
    weighted = weights_of_few(evidence.setup.train)
    if weighted and are_drawn_often(evidence.setup.train, evidence.samples.inputs):
        # Augmentation makes several images of one sample.
        distinct = min(len(first_of_each(evidence.samples.inputs)), len(evidence.setup.train.sampler.weights))  # type: ignore[attr-defined]
        yield TOO_FEW.finding(
            severity="error",
            where="the sampler of the training loader",
            measured=f"{several(distinct, 'different training sample')} in {evidence.train.count:,} draws{weighted}",
            limit=f"a sampler with fewer weights than samples, which draws each of these {_OFTEN} times or more",
            why=_WHY,
            remedy="one weight for each sample, `class_weights[labels]`, not for each class: "
            "`WeightedRandomSampler(class_weights[labels], len(labels))`",
        )
        return
    if not evidence.train.whole or draws_own_batches(evidence.setup.step):  # semi-supervised: few samples have labels
        return
    need_all_data(evidence)
    x, y = evidence.samples.inputs, evidence.samples.y
    if y is not None and len(y) != len(x):
        raise NoEvidence("the inputs and targets have different lengths, like the nodes of many graphs")
    kept = first_of_each(x)
    drawn = getattr(evidence.setup.train, "repeats_samples", False) is True  # the script draws samples, not a sampler
    if drawn and evidence.train.largest < len(kept) <= FEW_DRAWN and len(x) >= _OFTEN * len(kept):
        yield _too_few(f"{len(kept)} different training samples in {len(x):,} draws", _DRAWN_OFTEN)
        return
    if not is_grid(x) and len(first_of_each(columns_shuffled(x))) < CHANCE * len(x):
        kept = torch.arange(len(x))  # a table of few values: its rows are equal by chance
    own_sampler = has_own_batch_sampler(evidence.setup.train)
    if (
        own_sampler
        and len(kept) <= FEW_DRAWN
        and len(x) >= _OFTEN * len(kept)
        and (measured := _never_drawn(evidence, len(kept)))
    ):
        yield TOO_FEW.finding(
            severity="error",
            where="the sampler of the training loader",
            measured=measured,
            limit=f"a sampler that draws the same samples in {_PASSES} passes: at most {FEW_DRAWN}, and at most "
            f"{percent(_LEFT_OUT, 0)} of the data set",
            why=_WHY,
            remedy="let the sampler draw from all indices: `pool[torch.randperm(len(pool))[:k]]`",
        )
        return
    given = own_sampler or _is_probe(evidence)
    scarce = [] if given else _scarce_classes(evidence, kept)
    if scarce:
        named = ", ".join(f"{k} ({n})" for k, n in scarce[:6])
        more = f" and {len(scarce) - 6} more" if len(scarce) > 6 else ""
        limit = f"fewer than {FEW} different samples of a class"
        got = f"{several(len(scarce), 'class has', 'classes have')} fewer than {FEW} different samples: {named}{more}"
    elif len(kept) < FEW_ROWS:
        again = f", {len(x):,} with copies" if len(x) > len(kept) else ""
        limit = f"fewer than {FEW_ROWS} different samples"
        got = f"{several(len(kept), 'different training sample')} in all{again}"
    else:
        return
    yield _too_few(got, limit)


def _never_drawn(evidence: Evidence, distinct: int) -> str:
    """The measured number of samples that a custom sampler draws in several passes, if it leaves out most; else
    empty."""
    drawn = set[int]()
    for seed in range(_PASSES):
        with same_random_state():
            torch.manual_seed(seed)
            found = positions_drawn(evidence.setup.train)
        drawn |= set() if found is None else found[1]
    length = evidence.train.length or 0
    held = getattr(evidence.setup.train.batch_sampler, "__dict__", {}).values()  # type: ignore[attr-defined]
    chosen = any(hasattr(value, "__len__") and len(value) == len(drawn) for value in held)  # chosen on purpose
    if not drawn or chosen or len(drawn) > min(distinct, _LEFT_OUT * length):
        return ""
    return f"the sampler draws {len(drawn)} of {several(length, 'sample')}, the same in {_PASSES} passes"


def _is_probe(evidence: Evidence) -> bool:
    """Whether the network has a single layer, such as a linear probe of features."""
    return sum(parameter.ndim > 1 for parameter in evidence.setup.model.parameters()) == 1


def _too_few(measured: str, limit: str) -> Finding:
    return TOO_FEW.finding(
        severity="warning",
        where="training loader",
        measured=measured,
        limit=limit,
        why="So few samples can be told apart by any feature, including features that are unrelated to the class.",
        remedy=Remedy(
            "Collect more samples, a few dozen of each class to start with; or start from a pretrained network and "
            "train only its last layer; or merge classes. Augmentation helps, but makes no new samples.",
            advice="more samples: a few dozen of each class to start with",
        ),
    )


def _scarce_classes(evidence: Evidence, kept: torch.Tensor) -> list[tuple[int, int]]:
    """Classes with too few different samples, and their numbers of samples; empty if the targets are not classes."""
    try:
        labels = evidence.samples.labels
        need_class_loss(evidence)
        if are_tokens(evidence, labels):
            return []
        labels = labels[kept]
    except NoEvidence:
        return []
    counts = torch.bincount(labels[labels >= 0])
    return [(int(k), int(counts[k])) for k in ((counts > 0) & (counts < FEW)).nonzero().flatten()]


def weights_of_few(loader: object) -> str:
    """The measured fault of a weighted sampler with fewer weights than samples, such as one for each class; empty for
    others."""
    sampler, data = getattr(loader, "sampler", None), getattr(loader, "dataset", None)
    if not isinstance(sampler, WeightedRandomSampler) or not hasattr(data, "__len__"):
        return ""
    known, samples = len(sampler.weights), len(cast(Any, data))
    few = f"; its WeightedRandomSampler has {several(known, 'weight')} for {several(samples, 'sample')}"
    return f"{few}: the others are never drawn" if known < samples else ""


def are_drawn_often(loader: object, x: torch.Tensor | None) -> bool:
    """Whether a weighted sampler draws each of its samples many times, or the drawn inputs `x` are mostly copies."""
    sampler = getattr(loader, "sampler", None)
    if isinstance(sampler, WeightedRandomSampler) and _OFTEN * len(sampler.weights) <= sampler.num_samples:
        return True
    return x is not None and _OFTEN * len(first_of_each(x)) <= len(x)


TOO_FEW = Check(
    codes=("data.too-few",),
    run=_find_too_few,
    explains="data.label-noise fit.overfit",
)
