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
from striate.data.audit.files import find_ignored, find_unreadable
from striate.data.audit.leaks import find_divided_groups, find_given_leaks, find_group_columns
from striate.data.audit.points import points_before_training
from striate.data.audit.readings import find_readings
from striate.data.config import DataConfig
from striate.data.listing import Listing
from striate.data.scan import Scan
from striate.records import Finding


def find_before_training(
    listing: Listing, scan: Scan, unreadable: Mapping[int, str], split: Mapping[int, str], config: DataConfig
) -> tuple[Finding, ...]:
    """The findings of `find_all`, and those about classes: folders of another level, too few samples, splits that lack
    a class. `split` names the split of each readable sample."""
    groups = equal_groups(scan, unreadable)
    evidence = DataEvidence(listing, scan, None, unreadable, split, groups, groups, config)
    levels = find_repeated_folders(listing) if config.class_level is None else None
    sizes = {number: size for number, h in scan.headers.items() if (size := listing.medium.size_of(h)) is not None}
    marked = (
        find_small_classes(evidence),
        find_missing_classes(evidence),
        find_missing_box_classes(evidence),
        find_exchanged_targets(evidence),
        *points_before_training(listing, sizes),
    )
    found = (levels, find_group_columns(listing, split), *(mark.finding for mark in marked if mark is not None))
    return (*find_all(listing, scan, unreadable), *(finding for finding in found if finding is not None))


def find_all(listing: Listing, scan: Scan, unreadable: Mapping[int, str]) -> tuple[Finding, ...]:
    """Findings about unreadable files, leaks and divided groups in given splits, contradicting labels, faulty boxes,
    suspicious names and ignored files."""
    groups = equal_groups(scan, unreadable)
    boxes = find_box_faults(listing, box_sizes(listing, scan.headers))
    damaged = find_unreadable(listing, unreadable, len(scan.contents) + len(scan.unreadable))
    noise = find_label_noise(listing, scan, groups)
    found = (
        None if damaged is None else damaged.finding,
        find_given_leaks(listing, groups),
        find_divided_groups(listing, unreadable),
        None if noise is None else noise.finding,
        *(mark.finding for mark in boxes),
        find_suspicious_names(listing),
        find_ignored(listing),
    )
    return (*listing.findings, *find_readings(listing), *(finding for finding in found if finding is not None))
