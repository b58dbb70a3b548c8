"""What is noticed about a data set while it is read, before every training: nothing that needs a second look."""

from __future__ import annotations

from collections.abc import Mapping

from striate.data.audit.alike import equal_groups
from striate.data.audit.classes import find_suspicious_names
from striate.data.audit.copies import find_label_noise
from striate.data.audit.files import find_ignored, find_unreadable
from striate.data.audit.leaks import find_given_leaks, find_torn_groups
from striate.data.audit.readings import find_readings
from striate.data.listing import Listing
from striate.data.scan import Scan
from striate.records import Finding


def find_all(listing: Listing, scan: Scan, unreadable: Mapping[int, str]) -> tuple[Finding, ...]:
    """Unreadable files, leaks and torn groups in given splits, contradicting labels, suspicious names, ignored
    files; grave first."""
    groups = equal_groups(scan, unreadable)
    damaged = find_unreadable(listing, unreadable, len(scan.contents) + len(scan.unreadable))
    noise = find_label_noise(listing, scan, groups)
    found = (
        None if damaged is None else damaged.finding,
        find_given_leaks(listing, groups),
        find_torn_groups(listing, unreadable),
        None if noise is None else noise.finding,
        find_suspicious_names(listing),
        find_ignored(listing),
    )
    return (*listing.findings, *find_readings(listing), *(finding for finding in found if finding is not None))
