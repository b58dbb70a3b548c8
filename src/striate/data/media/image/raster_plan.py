"""The preparation of pictures from instruments (channels, depths and range), decided from their headers; and findings
about values that are not read, or not on one scale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from striate.data.config import DataConfig
from striate.data.media.image.pictures import Header
from striate.data.media.image.raster_files import DEPTHS, RasterHeader
from striate.data.media.medium import Planned, Preparation
from striate.errors import ConfigError
from striate.records import Finding, option_remedy
from striate.wording import listed, percent, several, several_of

PERCENTILES = (0.1, 99.9)
SIXTEEN_FROM_EIGHT = 257
"""The factor from 8 to 16 bits, which maps white to white."""


def is_raster(headers: Sequence[Header], config: DataConfig) -> bool:
    """Whether some of the files are not ordinary pictures."""
    stacked = config.pages == "channels" and any(header.pages > 1 for header in headers)
    return stacked or any(isinstance(header, RasterHeader) for header in headers)


def plane_of(header: Header, config: DataConfig) -> tuple[str, int]:
    """Depth and number of channels with which a file is read."""
    pages = header.pages if config.pages == "channels" else 1
    if isinstance(header, RasterHeader):
        return header.depth, header.channels * pages
    return "uint8", (3 if header.color else 1) * pages


def plan_rasters(planned: Planned, source: str, headers: Sequence[Header], config: DataConfig) -> Planned:
    """The plan for ordinary pictures, changed to that for these: channels, depths and range. Raises ConfigError."""
    preparation, notes, findings = planned
    planes = [plane_of(header, config) for header in headers]
    counts = Counter(channels for _, channels in planes)
    usual = max(counts, key=lambda count: (counts[count], count))
    if usual in (1, 3):  # gray among color becomes color, as for ordinary pictures
        usual = 3 if counts[3] else 1
    channels = config.channels or usual
    if config.channels is not None and (usual not in (1, 3) or config.pages == "channels"):
        raise ConfigError(
            "data.channels", str(config.channels), f"the {usual} channels of {source}", "leave out --data.channels"
        )
    depths = tuple(sorted({depth for depth, _ in planes}))
    low, high = _range(headers, depths, usual, config)
    if len(low) != channels:
        low, high = (channels * (min(low),), channels * (max(high),))
    preparation = replace(
        preparation,
        kind="raster",
        input_shape=(channels, *preparation.input_shape[1:]),
        low=low,
        high=high,
        depths=depths,
        pages=config.pages or "first",
    )
    return preparation, (*notes, range_note(preparation)), findings


def _range(
    headers: Sequence[Header], depths: tuple[str, ...], channels: int, config: DataConfig
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if depths == ("uint8",):
        return channels * (0.0,), channels * (255.0,)
    samples = []
    for header in headers:
        if isinstance(header, RasterHeader) and header.sample is not None:
            sample = header.sample if config.pages == "channels" else header.sample[:, : header.channels]
            sample = sample * (SIXTEEN_FROM_EIGHT if header.depth == "uint8" and "uint16" in depths else 1)
            if sample.shape[1] == channels:
                samples.append(sample)
            elif sample.shape[1] in (1, 3) and channels in (1, 3):
                samples.append(np.repeat(sample.mean(1, keepdims=True), channels, 1))
    values = np.concatenate(samples) if samples else np.zeros((1, channels))
    axis = None if channels == 3 else 0
    values = np.where(np.isnan(values).all(0), 0.0, values)
    ends = np.nanpercentile(values, PERCENTILES, axis=axis)
    low, high = (tuple(map(float, np.broadcast_to(end, channels))) for end in ends)
    return low, tuple(top if top > bottom else bottom + 1 for bottom, top in zip(low, high, strict=True))


def range_note(preparation: Preparation) -> str:
    """Depths, and the values of the levels 0 and 255."""
    if preparation.depths == ("uint8",):
        return f"Values: bytes in {several(preparation.input_shape[0], 'channel')}, unchanged."
    low, high, by_channel = preparation.low, preparation.high, ""
    what = f"{low[0]:.6g} to {high[0]:.6g}"
    if len(set(zip(low, high, strict=True))) > 1:
        what = f"{min(low):.6g} … {max(low):.6g} to {min(high):.6g} … {max(high):.6g}"
        by_channel = ", for each channel separately"
    words, (first, last) = listed([DEPTHS[depth] for depth in preparation.depths], 9), PERCENTILES
    return (
        f"Values: {words}. Levels 0 to 255 are {what}, the {first:g} and {last:g} percentiles of all files{by_channel};"
        " levels are not rounded, and values outside the range are preserved."
    )


def raster_findings(source: str, headers: Sequence[Header], config: DataConfig) -> tuple[Finding, ...]:
    """Findings about values that are not read, or on another scale than others: pages, bits, depths, channels, no
    data."""
    found = (
        _mixed_depths(source, headers, config),
        _mixed_channels(source, headers, config),
        _other_pages(source, headers, config),
        _squeezed(source, headers),
        _missing(source, headers),
    )
    return tuple(finding for finding in found if finding is not None)


def _mixed_depths(source: str, headers: Sequence[Header], config: DataConfig) -> Finding | None:
    counts = Counter(plane_of(header, config)[0] for header in headers)
    if len(counts) < 2:
        return None
    scale = (
        " 8-bit values are multiplied by 257, so that white stays white."
        if {"uint8", "uint16"} <= counts.keys()
        else ""
    )
    if "uint8" in counts:
        scale += " All values take 4 bytes; with 8-bit files alone they would take one."
    return Finding(
        code="data.mixed-depths",
        severity="warning",
        where=source,
        measured="files of " + listed([f"{DEPTHS[d]} ({n:,})" for d, n in counts.most_common()], 9),
        threshold="one depth",
        why=f"Their values probably have different scales, and the network may recognize a class by its scale.{scale}",
        remedy="Save all of them with one depth and one scale.",
    )


def _mixed_channels(source: str, headers: Sequence[Header], config: DataConfig) -> Finding | None:
    counts = Counter(plane_of(header, config)[1] for header in headers)
    if len(counts) < 2 or not counts.keys() - {1, 3}:
        return None
    return Finding(
        code="data.mixed-channels",
        severity="error",
        where=source,
        measured="files of " + listed([f"{several(c, 'channel')} ({n:,})" for c, n in counts.most_common()], 9),
        threshold="one number of channels",
        why="The most common number of channels is used; files with another number are not read.",
        remedy="Save all of them with the same channels, in the same order.",
    )


def _other_pages(source: str, headers: Sequence[Header], config: DataConfig) -> Finding | None:
    pages = [header.pages for header in headers if header.pages > 1]
    if not pages or config.pages is not None:
        return None
    return Finding(
        code="data.pages",
        severity="warning",
        where=source,
        measured=f"{len(pages):,} of {several(len(headers), 'picture')} {'has' if len(pages) == 1 else 'have'} "
        f"several pages, up to {max(pages):,}",
        threshold="one page",
        why="Only the first page of each is read.",
        remedy=option_remedy(
            "data.pages", "channels", "To read the pages of a TIFF as channels (`first` confirms the first page): "
        ),
    )


def _squeezed(source: str, headers: Sequence[Header]) -> Finding | None:
    bits = [header.squeezed for header in headers if header.squeezed]
    if not bits:
        return None
    return Finding(
        code="data.squeezed",
        severity="note",
        where=source,
        measured=f"{several_of(len(bits), len(headers), 'picture', 'have')} up to {max(bits)} bits per value",
        threshold="8 bits per value, as read from AVIF and HEIC",
        why="Values are reduced to 8 bits, so finer differences are lost.",
        remedy="Convert them to 16-bit PNG or TIFF if fine differences matter.",
    )


def _missing(source: str, headers: Sequence[Header]) -> Finding | None:
    files = [h for h in headers if isinstance(h, RasterHeader) and h.missing]
    if not files:
        return None
    share = sum(h.missing for h in files) / sum(h.values for h in files)
    return Finding(
        code="data.no-values",
        severity="note",
        where=source,
        measured=f"{several_of(len(files), len(headers), 'picture', 'have')} NaN, Inf or no data in "
        f"{percent(share, 2)} of the values",
        threshold="0 values",
        why="Such values are read as the low end of the range. If one class has more of them, the network can "
        "recognize it by that.",
        remedy="Replace these values beforehand if another value fits better.",
    )


def described_rasters(headers: Sequence[Header]) -> str:
    """`16 bits (largest value 4,012, of 12 bits), 4 channels, 3 pages`; empty for ordinary pictures."""
    known = [header for header in headers if isinstance(header, RasterHeader)]
    if not known:
        return ""
    words = Counter(header.plane for header in known)
    if len(known) < len(headers):
        words["8 bits"] += len(headers) - len(known)
    what = listed([w if len(words) == 1 else f"{w} ({n:,})" for w, n in words.most_common()], 9)
    low, high = min(header.low for header in known), max(header.high for header in known)
    used = ""
    if {header.depth for header in known} == {"uint16"} and low >= 0 and high < 2**15:
        used = f", {max(1, int(high).bit_length())} of 16 bits used"
    pages = max(header.pages for header in known)
    many = f", up to {several(pages, 'page')}" if pages > 1 else ""
    return f"{what}, values {low:,.6g} to {high:,.6g}{used}{many}"
