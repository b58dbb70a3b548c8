"""The data that all findings about a data set are computed from, gathered once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from striate.data.audit.alike import connected_groups, equal_groups, join_parts, near_duplicate_groups
from striate.data.audit.clip_statistics import measure_clips
from striate.data.audit.image_statistics import ImageStatistics, measure_images
from striate.data.audit.sample_finding import GRAVE, SampleFinding, each_left_out, severity_of, some
from striate.data.audit.sound_statistics import SoundStatistics, measure_sounds
from striate.data.audit.volume_statistics import VolumeStatistics, measure_volumes
from striate.data.config import DataConfig
from striate.data.listing import Listing
from striate.data.media.every_medium import medium_of
from striate.data.progress import announce_tenths
from striate.data.scan import Scan, scan_listing
from striate.data.splits import assign_membership
from striate.records import Finding, Remedy
from striate.wording import percent, several_of


@dataclass(frozen=True)
class DataEvidence:
    """A listing, the headers of its files, and the statistics of its decoded samples."""

    listing: Listing
    scan: Scan
    """Headers of the readable files, and digests of their bytes."""
    image_statistics: ImageStatistics | None
    """None where samples are not images."""
    unreadable: Mapping[int, str]
    """Why a sample cannot be read, by id."""
    splits: Mapping[int, str]
    """The split of each readable sample, by id: the one that the source gives, or that `striate train` makes by
    default."""
    equal: tuple[tuple[int, ...], ...]
    """Groups of two or more samples that are equal byte for byte."""
    alike: tuple[tuple[int, ...], ...]
    """These groups, joined with samples that show nearly the same."""
    config: DataConfig
    quarantine: tuple[str, ...] = ()
    """The command that writes a manifest without the defects; empty where none can be written."""
    related: tuple[tuple[int, ...], ...] = ()
    """The groups of `alike`, joined with samples that show a part of another sample of their class, its mirror image,
    or the same scene."""
    sound_statistics: SoundStatistics | None = None
    """None where samples are not sounds."""
    volume_statistics: VolumeStatistics | None = None
    """None where samples are not volumes."""

    @property
    def given(self) -> bool:
        """Whether the source names a split for any sample."""
        return any(self.listing.given)

    @cached_property
    def readable(self) -> tuple[int, ...]:
        """The samples that can be read, in the order of their ids."""
        return tuple(sorted(self.splits))

    @property
    def mask_values(self) -> Mapping[int, frozenset[int]] | None:
        """The values that occur in each mask, by id; None where no statistics were measured."""
        statistics = self.image_statistics or self.volume_statistics
        return None if statistics is None else statistics.masks

    @property
    def misfits(self) -> Mapping[int, str]:
        """Masks whose size differs from that of their sample, in words, by id."""
        statistics = self.image_statistics or self.volume_statistics
        return {} if statistics is None else statistics.misfits

    def named(self, number: int) -> str:
        """The path of a sample."""
        return self.listing.paths[number]


def gather_evidence(
    listing: Listing,
    config: DataConfig,
    quarantine: tuple[str, ...] = (),
    announce: Callable[[str], None] | None = None,
) -> DataEvidence:
    """Read the bytes of every sample, then decode it.

    `quarantine`: see `DataEvidence`. `announce` is called with a line of text about the progress, where it is long."""
    scan = scan_listing(listing, range(len(listing)), config.max_pixels)
    unreadable, images = dict(scan.unreadable), None
    if listing.medium.pictures:
        ids = [i for i in range(len(listing)) if i not in unreadable]
        progress = announce_tenths(f"Checking {listing.name}", len(ids), listing.medium.many, announce)
        images = measure_images(listing, ids, scan.headers, config.max_pixels, progress)
        unreadable |= images.unreadable
    sounds = None
    if listing.medium.lasting:
        ids = [i for i in range(len(listing)) if i not in unreadable]
        progress = announce_tenths(f"Checking {listing.name}", len(ids), listing.medium.many, announce)
        sounds = measure_sounds(listing, ids, scan.headers, progress)
        unreadable |= sounds.unreadable
    clips = None
    if listing.medium.folders:
        ids = [i for i in range(len(listing)) if i not in unreadable]
        progress = announce_tenths(f"Checking {listing.name}", len(ids), listing.medium.many, announce)
        clips = measure_clips(listing, ids, config.max_pixels, progress)
        unreadable |= clips.unreadable
    volumes = None
    if listing.kind == medium_of("volume").name:
        ids = [i for i in range(len(listing)) if i not in unreadable]
        progress = announce_tenths(f"Checking {listing.name}", len(ids), listing.medium.many, announce)
        volumes = measure_volumes(listing, ids, scan.headers, progress)
        unreadable |= volumes.unreadable
    readable = [i for i in range(len(listing)) if i not in unreadable]
    splits = assign_membership(listing, scan.contents, readable, config)[0] if readable else {}
    equal = equal_groups(scan, unreadable)
    alike = equal if images is None else near_duplicate_groups(images, equal, readable)
    compared = sounds or clips or volumes
    copies = [(group[0], number) for group in equal for number in group[1:]]
    if compared is not None:
        copies += compared.alike()
        alike = connected_groups(copies, len(listing))
    labels = listing.labels if listing.has_one_class_each else None
    related = alike if images is None else join_parts(alike, images, labels)
    if clips is not None:
        related = connected_groups([*copies, *_within_class(listing, clips.same_scene())], len(listing))
    headers = {number: header for number, header in scan.headers.items() if number not in unreadable}
    scan = replace(scan, headers=headers)
    return DataEvidence(
        listing, scan, images, unreadable, splits, equal, alike, config, quarantine, related, sounds, volumes
    )


def _within_class(listing: Listing, pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pairs of one class whose samples are not in one group."""
    labels, groups = listing.labels if listing.has_one_class_each else None, listing.groups or None
    return [
        (a, b)
        for a, b in pairs
        if (labels is None or labels[a] == labels[b])
        and (groups is None or groups[a] is None or groups[a] != groups[b])
    ]


def leaving_out(evidence: DataEvidence, text: str, what: str = "does that for them") -> Remedy:
    """The remedy `text`, with the command that writes a manifest where one can be written; `what` says what it does."""
    does_it = f" --quarantine {what}." if evidence.quarantine else ""
    return Remedy(text + does_it, command=evidence.quarantine, advice=text.removesuffix("."))


def blank_samples(
    evidence: DataEvidence, code: str, ids: Sequence[int], one: str, are: str, threshold: str, words: str
) -> SampleFinding | None:
    """A finding about samples that show nothing, of the kind `one`; `are` says what they are, `words` of each."""
    if not ids:
        return None
    total = len(evidence.splits)
    finding = Finding(
        code=code,
        severity=severity_of(len(ids), total),
        where=evidence.listing.source,
        measured=f"{several_of(len(ids), total, one, are)}: {some([evidence.named(i) for i in ids])}",
        threshold=f"{threshold}; an error from {percent(GRAVE, 0)} of the {one}s",
        why=f"From such a {one}, the network learns only how frequent its label is.",
        remedy=leaving_out(evidence, "Replace or remove them.", "leaves them out"),
    )
    return each_left_out(finding, ids, words)


def keep_together(evidence: DataEvidence, groups: Iterable[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """The groups that a split made from the data could divide: samples that are not all equal, and that no given splits
    divide. A group that lies in one split now is among them, since another seed or another sample could divide it."""
    contents, given = evidence.scan.contents, evidence.listing.given
    return tuple(
        group
        for group in groups
        if len({contents[number] for number in group}) > 1 and len({given[number] for number in group} - {None}) < 2
    )
