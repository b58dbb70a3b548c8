"""All that the findings about a data set are made from, gathered once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from striate.data.audit.alike import equal_groups, find_alike, joined, with_parts
from striate.data.audit.heard import Heard, hear
from striate.data.audit.looks import Looks, look_at
from striate.data.audit.volumes import VolumeLooks, look_through
from striate.data.audit.watched import watch
from striate.data.config import DataConfig
from striate.data.listing import Listing
from striate.data.media.every_medium import medium_of
from striate.data.progress import announce_tenths
from striate.data.scan import Scan, scan_listing
from striate.data.splits import assign_membership
from striate.records import Remedy


@dataclass(frozen=True)
class Evidence:
    """A listing after two looks at every sample.

    `looks` is None for what is not an image, `heard` for what is not a sound, `volumes` for files of other media.
    `splits` maps readable samples to the split that the source gives, or that `striate train` makes by default; `given`
    is whether the source gives any. Groups of two or more samples: `equal` byte for byte, `alike` those too and what
    shows nearly the same, `related` those too and what shows a part of another sample of its class, or its mirror
    image. `quarantine` is the command that writes a manifest without the defects, or empty where none can be written.
    """

    listing: Listing
    scan: Scan
    looks: Looks | None
    unreadable: Mapping[int, str]
    splits: Mapping[int, str]
    equal: tuple[tuple[int, ...], ...]
    alike: tuple[tuple[int, ...], ...]
    config: DataConfig
    quarantine: tuple[str, ...] = ()
    related: tuple[tuple[int, ...], ...] = ()
    heard: Heard | None = None
    volumes: VolumeLooks | None = None

    @property
    def given(self) -> bool:
        """Whether the source says of any sample which split it is in."""
        return any(self.listing.given)

    @cached_property
    def readable(self) -> tuple[int, ...]:
        """The samples that can be read, in the order of their ids."""
        return tuple(sorted(self.splits))

    @property
    def mask_values(self) -> Mapping[int, frozenset[int]] | None:
        """The values that occur in each mask, by id; None where nobody looked."""
        looks = self.looks or self.volumes
        return None if looks is None else looks.masks

    @property
    def misfits(self) -> Mapping[int, str]:
        """Masks that are not as large as their samples, in words, by id."""
        looks = self.looks or self.volumes
        return {} if looks is None else looks.misfits

    def named(self, number: int) -> str:
        """The path of a sample."""
        return self.listing.paths[number]


def gather(
    listing: Listing,
    config: DataConfig,
    quarantine: tuple[str, ...] = (),
    announce: Callable[[str], None] | None = None,
) -> Evidence:
    """Look twice at every sample: at its bytes, and at its pixels."""
    scan = scan_listing(listing, range(len(listing)), config.max_pixels)
    unreadable, looks = dict(scan.unreadable), None
    if listing.medium.pictures:
        ids = [i for i in range(len(listing)) if i not in unreadable]
        progress = announce_tenths(f"Checking {listing.name}", len(ids), listing.medium.many, announce)
        looks = look_at(listing, ids, scan.headers, config.max_pixels, progress)
        unreadable |= looks.unreadable
    heard = None
    if listing.medium.lasting:
        ids = [i for i in range(len(listing)) if i not in unreadable]
        heard = hear(listing, ids, announce_tenths(f"Checking {listing.name}", len(ids), listing.medium.many, announce))
        unreadable |= heard.unreadable
    watched = None
    if listing.medium.folders:
        ids = [i for i in range(len(listing)) if i not in unreadable]
        progress = announce_tenths(f"Checking {listing.name}", len(ids), listing.medium.many, announce)
        watched = watch(listing, ids, config.max_pixels, progress)
        unreadable |= watched.unreadable
    volumes = None
    if listing.kind == medium_of("volume").name:
        ids = [i for i in range(len(listing)) if i not in unreadable]
        progress = announce_tenths(f"Checking {listing.name}", len(ids), listing.medium.many, announce)
        volumes = look_through(listing, ids, scan.headers, progress)
        unreadable |= volumes.unreadable
    kept = [i for i in range(len(listing)) if i not in unreadable]
    splits = assign_membership(listing, scan.contents, kept, config)[0] if kept else {}
    equal = equal_groups(scan, unreadable)
    alike = equal if looks is None else find_alike(looks, equal, kept)
    known = heard or watched or volumes
    copies = [(group[0], number) for group in equal for number in group[1:]]
    if known is not None:
        copies += known.alike()
        alike = joined(copies, len(listing))
    labels = listing.labels if listing.has_one_class_each else None
    related = alike if looks is None else with_parts(alike, looks, labels)
    if watched is not None:
        related = joined([*copies, *_within_class(listing, watched.same_scene())], len(listing))
    headers = {number: header for number, header in scan.headers.items() if number not in unreadable}
    scan = replace(scan, headers=headers)
    return Evidence(listing, scan, looks, unreadable, splits, equal, alike, config, quarantine, related, heard, volumes)


def _within_class(listing: Listing, pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Pairs of one class that no group keeps together."""
    labels, groups = listing.labels if listing.has_one_class_each else None, listing.groups or None
    return [
        (a, b)
        for a, b in pairs
        if (labels is None or labels[a] == labels[b])
        and (groups is None or groups[a] is None or groups[a] != groups[b])
    ]


def leaving_out(evidence: Evidence, text: str, what: str = "does that for them") -> Remedy:
    """The remedy with the command that writes a manifest, where one can be written; `what` says what that does."""
    does_it = f" --quarantine {what}." if evidence.quarantine else ""
    return Remedy(text + does_it, command=evidence.quarantine, advice=text.removesuffix("."))


def keep_together(evidence: Evidence, groups: Iterable[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """Those of the groups that a split made from the data could tear: not all equal, and not torn by given splits. Also
    those that no split tears now, since another seed, or a sample more, would."""
    contents, given = evidence.scan.contents, evidence.listing.given
    return tuple(
        group
        for group in groups
        if len({contents[number] for number in group}) > 1 and len({given[number] for number in group} - {None}) < 2
    )
