"""`data.targets-left-behind`: are masks, boxes, points and positions moved together with their inputs?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.moved.blended_masks import blended_masks
from striate.doctor.checks.data.moved.dropped_elements import left_of_sequences
from striate.doctor.checks.data.moved.left_behind import FEWEST_LEFT, left_behind
from striate.doctor.checks.data.moved.mirrored_by_loader import left_by_loader
from striate.doctor.checks.data.moved.mirrored_by_step import left_by_step
from striate.doctor.checks.data.moved.mismatched_crops import mismatched_crops
from striate.doctor.checks.data.moved.moved_draws import left_in_draws
from striate.doctor.checks.data.moved.resized_alone import resized_alone
from striate.doctor.checks.data.moved.rotated_masks import rotated_masks
from striate.doctor.checks.data.moved.shifted_places import left_when_shifted
from striate.doctor.checks.data.moved.sides_in_texts import left_in_texts
from striate.doctor.evidence.changed_by_reading import targets_changed_by_reading
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding
from striate.wording import several

Rule = Callable[[Evidence], Finding | None]


def _left_behind(evidence: Evidence) -> Iterator[Finding]:
    # `left_in_draws` comes last and may raise: it finds most mistakes, so that without it the check has no result.
    left = next(filter(None, (_finding_of(rule, evidence) for rule in _RULES)), None) or left_in_draws(evidence)
    if left is not None:
        yield left


def _finding_of(rule: Rule, evidence: Evidence) -> Finding | None:
    with suppress(NoEvidence):
        return rule(evidence)
    return None


def _left_by_reading(evidence: Evidence) -> Finding | None:
    changed = targets_changed_by_reading(evidence.setup.train)
    if changed is None or changed[0] < FEWEST_LEFT:
        return None
    return left_behind(
        "the training data set",
        "reading samples changes their stored targets, while the images stay the same: this happens to "
        f"{changed[0]} of {several(changed[1], 'sample')}",
        f"{FEWEST_LEFT} stored targets that change when samples are read, while their images stay the same",
        "A target that is moved in place stays moved: later draws show the image unmoved, or move the target "
        "once more.",
        "move a copy: `points = self.points[index].copy()`, or `copy.deepcopy(record)` for a record with arrays",
    )


_RULES: tuple[Rule, ...] = (
    _left_by_reading,
    mismatched_crops,
    left_by_step,
    left_by_loader,
    left_when_shifted,
    left_of_sequences,
    resized_alone,
    rotated_masks,
    blended_masks,
    left_in_texts,
)
"""Rules in order of priority: the first finding is reported."""

LEFT_BEHIND = Check(
    codes=("data.targets-left-behind",),
    run=_left_behind,
    explains="data.label-noise data.labels-random data.augmentation data.target-scale fit.*",
)
