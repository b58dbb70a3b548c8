"""Samples whose contents are equal byte for byte."""

from __future__ import annotations

from collections.abc import Collection

from striate.data.scan import Scan


def equal_groups(scan: Scan, unreadable: Collection[int]) -> tuple[tuple[int, ...], ...]:
    """The readable samples whose contents are equal, two or more a group, in the order of their ids."""
    alike: dict[bytes, list[int]] = {}
    for number, content in scan.contents.items():
        if number not in unreadable:
            alike.setdefault(content, []).append(number)
    return tuple(tuple(group) for group in alike.values() if len(group) > 1)
