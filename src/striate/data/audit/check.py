"""All checks of `striate data check`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from striate.data.annotations.annotation_kinds import annotation_kind
from striate.data.audit.box_pixels import find_in_boxes
from striate.data.audit.boxes import find_missing_box_classes
from striate.data.audit.captions import find_captions
from striate.data.audit.classes import (
    find_imbalance,
    find_missing_classes,
    find_repeated_folders,
    find_small_classes,
    find_suspicious_names,
)
from striate.data.audit.copies import (
    find_contradictions,
    find_duplicates,
    find_near_contradictions,
    find_near_duplicates,
)
from striate.data.audit.data_check import DataCheck, grave_first
from striate.data.audit.evidence import DataEvidence
from striate.data.audit.exchanged import find_exchanged_targets
from striate.data.audit.files import find_hidden, find_ignored, find_misplaced, find_unread_formats, find_unreadable
from striate.data.audit.images import (
    find_even_images,
    find_huge_images,
    find_mixed_modes,
    find_tiny_images,
    find_turned,
    find_wrong_suffixes,
)
from striate.data.audit.leaks import find_divided_groups, find_divided_series, find_group_columns, find_leaks
from striate.data.audit.masks import (
    find_doubtful_objects,
    find_even_masks,
    find_interpolated_masks,
    find_misfitting_masks,
    find_missing_mask_values,
    find_shifted_masks,
    find_turned_masks,
    find_unnamed_values,
)
from striate.data.audit.objects import find_object_faults
from striate.data.audit.points import find_points
from striate.data.audit.readings import find_readings
from striate.data.audit.sample_finding import SampleFinding, some
from striate.data.audit.sounds import find_clipping, find_silence
from striate.data.audit.unusable import refuse_unusable
from striate.data.audit.volume_faults import find_constant_volumes, find_misplaced_masks, find_mixed_spacing
from striate.data.scan import placements, plan_inputs
from striate.errors import DataError
from striate.records import Finding
from striate.wording import several_of


def find_constant_columns(evidence: DataEvidence) -> SampleFinding | None:
    """`data.constant-columns`: columns with one value in all rows."""
    inputs = evidence.listing.inputs
    if not evidence.listing.medium.flat or inputs is None or len(inputs) < 2:
        return None
    places = np.flatnonzero((inputs == inputs[:1]).all(axis=0)).tolist()
    if not places:
        return None
    names = evidence.listing.features or tuple(f"column {i}" for i in range(inputs.shape[1]))
    return SampleFinding(
        Finding(
            code="data.constant-columns",
            severity="warning",
            where=evidence.listing.source,
            measured=f"{several_of(len(places), inputs.shape[1], 'column', 'have')} the same value in all rows: "
            f"{some([names[place] for place in places])}",
            threshold="0 columns",
            why="A constant column carries no information, and often points to an error when the file was written.",
            remedy="Check where the columns come from, or leave them out.",
        )
    )


def _of_inputs(evidence: DataEvidence) -> list[SampleFinding]:
    """Findings about the inputs of the network: images that training would scale, depths that differ, pages that are
    not read."""
    if not evidence.splits:
        return []
    return [SampleFinding(finding) for finding in plan_inputs(evidence.listing, evidence.scan, evidence.config)[2]]


FINDERS: tuple[Callable[[DataEvidence], SampleFinding | None], ...] = (
    find_unreadable,
    find_misfitting_masks,
    find_shifted_masks,
    find_turned_masks,
    find_interpolated_masks,
    find_misplaced_masks,
    find_unnamed_values,
    find_leaks,
    find_divided_groups,
    find_group_columns,
    find_divided_series,
    find_contradictions,
    find_near_contradictions,
    find_repeated_folders,
    find_exchanged_targets,
    find_missing_classes,
    find_missing_mask_values,
    find_doubtful_objects,
    find_missing_box_classes,
    find_small_classes,
    find_suspicious_names,
    find_imbalance,
    find_even_images,
    find_even_masks,
    find_silence,
    find_clipping,
    find_constant_volumes,
    find_mixed_spacing,
    find_constant_columns,
    find_duplicates,
    find_near_duplicates,
    find_tiny_images,
    find_huge_images,
    find_wrong_suffixes,
    find_unread_formats,
    find_misplaced,
    find_mixed_modes,
    find_turned,
    find_hidden,
    find_ignored,
)


def check_evidence(evidence: DataEvidence) -> DataCheck:
    """All findings about a data set. Where training would refuse the data, one of them is an error that says why."""
    found = [SampleFinding(finding) for finding in (*evidence.listing.findings, *find_readings(evidence.listing))]
    found += find_in_boxes(evidence)
    found += find_object_faults(evidence)
    found += [mark for find in FINDERS if (mark := find(evidence)) is not None]
    found += _of_inputs(evidence)
    found += find_points(evidence)
    found += find_captions(evidence)
    if not any(mark.finding.code in _REFUSED for mark in found if _is_error(mark)):
        try:
            refuse_unusable(evidence.listing, evidence.scan, evidence.unreadable, evidence.splits, evidence.config)
            _refuse_targets(evidence)
        except DataError as error:
            why = "No training can start with these data."
            where = evidence.listing.source
            remedy = f"{error.remedy[0].upper()}{error.remedy[1:]}."
            found.append(
                SampleFinding(
                    Finding(
                        code="data.unusable",
                        severity="error",
                        where=where,
                        measured=error.got,
                        threshold=error.expected,
                        why=why,
                        remedy=remedy,
                    )
                )
            )
    return DataCheck(evidence, grave_first(found))


_REFUSED = frozenset(("data.missing-class", "data.too-few", "data.points-unseen", "data.one-caption", "data.box-range"))
"""Errors that say why training may refuse the data."""


def _refuse_targets(evidence: DataEvidence) -> None:
    """Raise DataError for a split whose targets leave nothing to learn or to measure. Masks are not examined."""
    listing, kind = evidence.listing, annotation_kind(evidence.listing.annotation)
    if not kind.of_whole:
        return
    preparation = plan_inputs(listing, evidence.scan, evidence.config)[0]
    place, ids = placements(listing, evidence.scan, preparation), {}
    for name in dict.fromkeys(evidence.splits.values()):
        ids[name] = np.array([number for number in evidence.readable if evidence.splits[number] == name])
    targets = {
        name: torch.from_numpy(kind.placed_targets(listing, own, None, listing.classes, place))
        for name, own in ids.items()
    }
    kind.check(listing, ids, targets)


def _is_error(mark: SampleFinding) -> bool:
    return mark.finding.severity == "error"
