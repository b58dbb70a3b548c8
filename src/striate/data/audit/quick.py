"""Findings before every training, while the data are read: nothing that decodes samples a second time."""

from __future__ import annotations

from collections.abc import Mapping

from striate.data.audit.alike import equal_groups
from striate.data.audit.boxes import box_sizes, find_box_faults, find_missing_box_classes
from striate.data.audit.classes import (
    find_missing_classes,
    find_repeated_folders,
    find_small_classes,
    find_suspicious_names,
)
from striate.data.audit.copies import find_label_noise
from striate.data.audit.evidence import DataEvidence
from striate.data.audit.exchanged import find_exchanged_targets
from striate.data.audit.files import find_hidden, find_ignored, find_misplaced, find_unread_formats, find_unreadable
from striate.data.audit.leaks import find_divided_groups, find_given_leaks, find_group_columns
from striate.data.audit.points import find_unseen_points, points_before_training
from striate.data.audit.readings import find_readings
from striate.data.config import DataConfig
from striate.data.listing import Listing
from striate.data.scan import Scan
from striate.records import Finding


def quick_evidence(
    listing: Listing, scan: Scan, unreadable: Mapping[int, str], split: Mapping[int, str], config: DataConfig
) -> DataEvidence:
    """The evidence without statistics of samples. `split` names the split of each readable sample."""
    groups = equal_groups(scan, unreadable)
    return DataEvidence(listing, scan, None, unreadable, split, groups, groups, config)


def find_before_training(evidence: DataEvidence) -> tuple[Finding, ...]:
    """The findings of `find_all`, and those about classes: folders of another level, too few samples, splits that lack
    a class."""
    listing, headers = evidence.listing, evidence.scan.headers
    sizes = {number: size for number, h in headers.items() if (size := listing.medium.size_of(h)) is not None}
    found = (
        find_repeated_folders(evidence),
        find_group_columns(evidence),
        find_small_classes(evidence),
        find_missing_classes(evidence),
        find_missing_box_classes(evidence),
        find_exchanged_targets(evidence),
        *points_before_training(listing, sizes),
        find_unseen_points(listing, sizes),
    )
    return (*find_all(evidence), *(mark.finding for mark in found if mark is not None))


def find_all(evidence: DataEvidence) -> tuple[Finding, ...]:
    """Findings about unreadable files, leaks and divided groups in given splits, contradicting labels, faulty boxes,
    suspicious names and unused files."""
    listing, scan = evidence.listing, evidence.scan
    found = (
        find_unreadable(evidence),
        find_given_leaks(evidence),
        find_divided_groups(evidence),
        find_label_noise(evidence),
        *find_box_faults(listing, box_sizes(listing, scan.headers)),
        find_suspicious_names(evidence),
        find_unread_formats(evidence),
        find_misplaced(evidence),
        find_hidden(evidence),
        find_ignored(evidence),
    )
    return (*listing.findings, *find_readings(listing), *(mark.finding for mark in found if mark is not None))
