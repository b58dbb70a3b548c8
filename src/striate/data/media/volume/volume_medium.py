"""Volumes as a medium: the spacing, the intensities and the grid of inputs.

All volumes have one orientation, are resampled where their spacing differs, and lie in the middle of one grid, which is
as large as the largest of them. Smaller ones are padded with 0; in masks, padding is left out of loss and metrics.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from striate.data.config import VOLUME, DataConfig, Intensity
from striate.data.media.medium import Medium, Planned, Preparation, Unreadable, suffix_of
from striate.data.media.volume.resampling import resample_linear, resample_nearest
from striate.data.media.volume.slices_picture import across, fullest, middle_slices
from striate.data.media.volume.volume_files import (
    MOST_BYTES,
    STACKS,
    SUFFIXES,
    VolumeHeader,
    placed_alike,
    read_header,
    read_voxels,
)
from striate.errors import ConfigError
from striate.records import Finding
from striate.wording import several, several_of, show_shape

MULTIPLE = 8
"""Sides of the grid are multiples of this, since networks halve them up to three times."""
WHOLE_SIDE = 64
"""Default: voxels of the longest side of volumes with one label each."""
SMALL_PATCH, PATCH = 40, 64
"""Default sides of patches in voxels: of volumes with sides up to 64 voxels, and of larger ones."""
FOREGROUND = 0.33
"""Share of the patches around a voxel of a foreground class, as in nnU-Net."""
WINDOWS: dict[str, tuple[float, float]] = {
    "abdomen": (-160.0, 240.0),
    "bone": (-450.0, 1050.0),
    "brain": (0.0, 80.0),
    "lung": (-1350.0, 150.0),
}
"""Named windows of CT, in Hounsfield units."""
_ALL_OF_CT = (-1000.0, 1000.0)
_LEAST_ROWS = 240  # of a drawn picture
_SAME = 0.01
"""Spacings whose relative difference is smaller are the same."""
PERCENTILES = (0.5, 99.5)


class Volumes(Medium):
    """(C, D, H, W) float32."""

    name: ClassVar[str] = "volume"
    a: ClassVar[str] = "a volume"
    many: ClassVar[str] = "volumes"
    values: ClassVar[str] = "voxels"
    suffixes: ClassVar[frozenset[str]] = SUFFIXES
    largest_file: ClassVar[int] = MOST_BYTES
    takes_uncropped: ClassVar[bool] = True
    given_as: ClassVar[str] = "voxels"
    augmentations: ClassVar[frozenset[str]] = VOLUME
    settings: ClassVar[frozenset[str]] = frozenset(("voxels", "spacing", "intensity", "window"))

    def describe(self, shape: tuple[int, ...]) -> str:
        """By depth, height and width."""
        return f"volumes of {show_shape(shape[1:])} voxels in {several(shape[0], 'channel')}"

    def axes(self, preparation: Preparation) -> str:
        """Directions of the axes, and the spacing."""
        if not preparation.spacing:
            return "Axes: as in the files, which do not record their orientation."
        apart = " × ".join(f"{step:.3g}" for step in preparation.spacing)
        return (
            f"Axes: depth from feet to head, height from back to front, width from left to right; {apart} mm per voxel."
        )

    def owns(self, path: str) -> bool:
        """Also True for a TIFF, which is read as a picture by default."""
        return super().owns(path) or suffix_of(path) in STACKS

    def header(self, data: bytes | Path, where: str, *, max_pixels: int) -> VolumeHeader:
        """Shape, spacing and affine."""
        del max_pixels
        return read_header(data, where)

    def described(self, headers: Sequence[VolumeHeader]) -> str:
        """The smallest and the largest shape."""
        shapes = sorted({header.shape for header in headers}, key=lambda shape: (math.prod(shape), shape))
        if not shapes:
            return self.many
        to = "" if len(shapes) == 1 else f" to {show_shape(shapes[-1])}"
        return f"volumes of {show_shape(shapes[0])}{to} voxels"

    # Inputs

    def at_spacing(self, data: bytes | Path, where: str, preparation: Preparation) -> NDArray[np.float32]:
        """(C, D, H, W): an uncropped file at the spacing and in the intensities of the inputs."""
        voxels, header = read_voxels(data, where)
        channels = preparation.input_shape[0]
        if header.channels != channels:
            got = f"{several(header.channels, 'channel')} instead of {channels}, as the other volumes have"
            raise Unreadable(where, got, several(channels, "channel"))
        with np.errstate(over="ignore"):
            values = voxels.astype(np.float32)
        wrong = int(values.size - np.isfinite(values).sum())
        if wrong:
            raise Unreadable(where, f"{several(wrong, 'voxel')} of {values.size:,} that are NaN or Inf", "numbers")
        values = np.stack([_intensities(one, preparation) for one in values])
        return resample_linear(values, target_shape(header, preparation))

    def decode(self, data: bytes | Path, where: str, preparation: Preparation) -> NDArray[np.float32]:
        """The file in the middle of the grid."""
        return _centered(self.at_spacing(data, where, preparation), preparation.input_shape[1:], 0)

    def uncropped(
        self, given: Any, where: str, preparation: Preparation
    ) -> tuple[NDArray[Any], tuple[int, ...] | None]:
        """An uncropped file at the spacing of the inputs, and its own shape (D, H, W)."""
        if isinstance(given, bytes | Path):
            shape = read_header(given, where).shape
            return self.at_spacing(given, where, preparation), shape
        return self.prepare(given, preparation), None

    def as_given(self, given: Any, where: str, preparation: Preparation) -> NDArray[np.float32]:
        """(C, D, H, W): a file at the spacing of the inputs with its own values, or such an array of any size.

        Raises Unreadable for a file of another spacing, if intensities are scaled by the statistics of each volume:
        these are computed before it is resampled."""
        if isinstance(given, str | bytes | Path):
            given = Path(given) if isinstance(given, str) else given
            header = read_header(given, where)
            if target_shape(header, preparation) == header.shape or preparation.intensity == "as-is":
                return self.at_spacing(given, where, replace(preparation, intensity="as-is"))
            if preparation.limits:
                low, high = map(np.float32, preparation.limits)
                return low + self.at_spacing(given, where, preparation) * (high - low)
            own, wanted = (" × ".join(f"{step:.3g}" for step in of.spacing) for of in (header, preparation))
            got = f"voxels of {own} mm: an exported file takes only {wanted} mm; the run resamples other spacings"
            raise Unreadable(where, got, f"voxels of {wanted} mm", "striate predict RUN, or its export --format hub")
        return np.asarray(given, np.float32)

    def from_given(self, given: NDArray[Any], preparation: Preparation) -> NDArray[np.float32]:
        """The array with its intensities scaled, in the middle of the grid."""
        values = np.stack([_intensities(one, preparation) for one in given])
        return _centered(values, preparation.input_shape[1:], 0)

    # Masks

    def mask_size(self, header: VolumeHeader) -> tuple[int, ...]:
        """(D, H, W) in RAS orientation."""
        return header.shape

    def read_mask(
        self,
        data: bytes | Path,
        where: str,
        header: VolumeHeader | None = None,
        *,
        max_pixels: int = 0,
        colors: Sequence[tuple[int, int, int]] = (),
    ) -> NDArray[np.uint8]:
        """(D, H, W) values, in the orientation of the image."""
        del max_pixels, colors
        voxels, _ = read_voxels(data, where, header)
        if len(voxels) != 1:
            raise Unreadable(where, f"a mask of {several(len(voxels), 'channel')}", "one value per voxel")
        low, high = float(voxels.min()), float(voxels.max())
        if not (low >= 0 and high <= 255) or (voxels.dtype.kind == "f" and (voxels != np.rint(voxels)).any()):
            got = f"mask values from {low:g} to {high:g}" + (", some of them not whole numbers" if high <= 255 else "")
            raise Unreadable(where, got, "whole numbers from 0 to 255", "number the classes 0 to 254")
        values: NDArray[np.uint8] = voxels[0].astype(np.uint8)
        return values

    def place_mask(self, mask: NDArray[np.uint8], header: VolumeHeader, preparation: Preparation) -> NDArray[np.int16]:
        """The mask at the spacing of the inputs (nearest values), in the middle of the grid; −1 around it."""
        values = resample_nearest(mask, target_shape(header, preparation)).astype(np.int16)
        placed: NDArray[np.int16] = _centered(values[None], preparation.input_shape[1:], -1)[0]
        return placed

    def across(
        self, given: Any, where: str, mask: NDArray[np.uint8], preparation: Preparation
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """A picture (3, H, W) of the slices of a file, or of an input, that contain most of a mask (D, H, W); and the
        same slices (H, W) of the mask. Small slices have several pixels per voxel."""
        own = isinstance(given, str | Path)
        raw = self.at_spacing(Path(given), where, replace(preparation, spacing=())) if own else np.asarray(given)
        at = fullest(mask)
        picture, shown = middle_slices(raw, at).transpose(2, 0, 1), across(mask, at)
        times = max(1, round(_LEAST_ROWS / len(shown)))
        return picture.repeat(times, 1).repeat(times, 2), shown.repeat(times, 0).repeat(times, 1)

    # What is decided

    def plan(
        self, source: str, inputs: NDArray[Any] | None, headers: Sequence[VolumeHeader], config: DataConfig
    ) -> Planned:
        """Spacing, intensities and grid, decided from the headers."""
        assert inputs is None, "volumes lie in files"
        notes: list[str] = []
        spacing = _spacing(headers, config, notes)
        intensity, limits = _intensity(headers, config, notes)
        channels = Counter(header.channels for header in headers).most_common(1)[0][0]
        draft = Preparation(
            self.name, (channels, 1, 1, 1), fit="pad", max_pixels=config.max_pixels, spacing=spacing,
            intensity=intensity, limits=limits,
        )  # fmt: skip
        shapes = [target_shape(header, draft) for header in headers]
        sides = config.sides or grid_of(shapes)
        preparation = replace(draft, input_shape=(channels, *sides))
        turned = Counter(header.axes for header in headers if header.axes not in ("", "RAS"))
        if turned:
            which = ", ".join(f"{count:,} {axes}" for axes, count in turned.most_common(4))
            notes.append(f"Orientation: all are turned to RAS ({which} of {several(len(headers), 'volume')} are not).")
        if config.sides is None:
            notes.append(
                f"Grid: {show_shape(sides)} voxels (depth × height × width), which holds the largest volume"
                f" (data.voxels); {self.described(headers).removeprefix('volumes of ')} as they are in the files."
            )
        notes.append(self.axes(preparation))
        cut = sum(any(side > most for side, most in zip(shape, sides, strict=True)) for shape in shapes)
        return preparation, tuple(notes), (_cut_off(source, cut, len(headers), sides),) if cut else ()

    def coarser(self, headers: Sequence[VolumeHeader], config: DataConfig) -> tuple[DataConfig, tuple[str, ...]]:
        """For one label per volume: a spacing at which the longest side has 64 voxels, if volumes are larger."""
        if config.spacing is not None or config.voxels is not None:
            return config, ()
        notes: list[str] = []
        steps = np.array(_spacing(headers, config, notes) or (1.0, 1.0, 1.0))
        most = max(max(np.array(header.shape) * np.array(header.spacing or steps) / steps) for header in headers)
        if most <= WHOLE_SIDE:
            return config, ()
        if not headers[0].spacing:
            return config, ()
        text = "x".join(f"{step:.4g}" for step in steps * most / WHOLE_SIDE)
        note = (
            f"Spacing: {text.replace('x', ' × ')} mm, so that the longest side has {WHOLE_SIDE} voxels (data.spacing)."
        )
        return replace(config, spacing=text), (note,)

    def for_files(self, headers: Sequence[VolumeHeader], preparation: Preparation) -> Preparation:
        """The preparation with a grid that contains all files."""
        sides = grid_of([preparation.input_shape[1:], *(target_shape(header, preparation) for header in headers)])
        return replace(preparation, input_shape=(preparation.input_shape[0], *sides))

    def decided(self, config: DataConfig, preparation: Preparation) -> DataConfig:
        """With grid, spacing and intensities."""
        return replace(
            config,
            voxels="x".join(map(str, preparation.input_shape[1:])),
            spacing="x".join(f"{step:.6g}" for step in preparation.spacing) or None,
            intensity=None if preparation.limits else preparation.intensity,  # type: ignore[arg-type]
            window=",".join(f"{limit:g}" for limit in preparation.limits) or None,
        )

    def mask_findings(
        self, source: str, pairs: Sequence[tuple[str, VolumeHeader, str, VolumeHeader]]
    ) -> tuple[Finding, ...]:
        """A finding about masks whose headers place them elsewhere than their images. `pairs`: path and header of the
        image, and of the mask."""
        moved = [(mask, there, here) for _, here, mask, there in pairs if not placed_alike(here, there)]
        if not moved:
            return ()
        mask, there, here = moved[0]
        return (
            Finding(
                code="data.mask-affine",
                severity="warning",
                where=source,
                measured=f"the headers place {len(moved):,} of {several(len(pairs), 'mask')} elsewhere than their"
                f" images, the first {mask}: {_whereabouts(there)}, its image {_whereabouts(here)}",
                threshold="a tenth of a voxel",
                why="Voxels of mask and image are matched by their index in the file. If the mask was made in another"
                " orientation, they do not match.",
                remedy="Look at some: striate data show. If they fit, give the masks the affine of their images.",
            ),
        )

    # Augmentation and drawing

    def varied(self, shape: tuple[int, ...], *, windows: bool) -> dict[str, float]:
        """Small rotations, changes of size, shifts and changes of intensity. No mirroring, since left and right of a
        body differ. With `windows`, patches that are small enough for many steps."""
        usual = {"rotate": 15.0, "scale": 0.15, "color": 0.2}
        if not windows:
            return {**usual, "shift": max(1, min(shape[1:]) // 16)}
        side = SMALL_PATCH if max(shape[1:]) <= WHOLE_SIDE else PATCH
        return {**usual, "window": side, "foreground": FOREGROUND if max(shape[1:]) > side else 0.0}

    def framed(self, pixels: NDArray[np.uint8], preparation: Preparation) -> NDArray[np.uint8]:
        """The picture with the front at the top: rows are counted downward, positions to the front upward."""
        del preparation
        return np.ascontiguousarray(np.flip(pixels, -3))

    def drawn(self, raw: NDArray[Any], preparation: Preparation) -> NDArray[np.uint8] | None:
        """Its three middle slices."""
        del preparation
        return middle_slices(raw) if raw.ndim == 4 else None


def target_shape(header: VolumeHeader, preparation: Preparation) -> tuple[int, int, int]:
    """(D, H, W) of an uncropped file at the spacing of the inputs."""
    if not (preparation.spacing and header.spacing):
        return header.shape
    deep, tall, wide = (
        side if abs(own / wanted - 1) < _SAME else max(1, round(side * own / wanted))
        for side, own, wanted in zip(header.shape, header.spacing, preparation.spacing, strict=True)
    )
    return deep, tall, wide


def grid_of(shapes: Sequence[Sequence[int]]) -> tuple[int, int, int]:
    """The smallest multiples of 8 that contain all shapes."""
    deep, tall, wide = (-(-max(sides) // MULTIPLE) * MULTIPLE for sides in zip(*shapes, strict=True))
    return deep, tall, wide


def _centered(values: NDArray[Any], sides: Sequence[int], fill: int) -> NDArray[Any]:
    """(C, *sides): along each axis, the middle of the values, or all of them padded with `fill`."""
    out = np.full((len(values), *sides), fill, values.dtype)
    there, here = [slice(None)], [slice(None)]
    for have, want in zip(values.shape[1:], sides, strict=True):
        over = have - want
        there.append(slice(over // 2, over // 2 + want) if over > 0 else slice(None))
        here.append(slice(-over // 2, -over // 2 + have) if over < 0 else slice(None))
    out[tuple(here)] = values[tuple(there)]
    return out


def _spacing(headers: Sequence[VolumeHeader], config: DataConfig, notes: list[str]) -> tuple[float, ...]:
    """The spacing of the inputs in millimeters: the requested one, else the median of the files along each axis."""
    known = [header.spacing for header in headers if header.spacing]
    if config.steps is not None:
        if not known:
            raise ConfigError(
                "data.spacing",
                str(config.spacing),
                "nothing: the files do not say their spacing",
                "leave out --data.spacing",
            )
        return config.steps
    if not known:
        return ()
    of_files = np.array(known)
    median = tuple(float(f"{step:.6g}") for step in np.median(of_files, 0))
    other = int((np.abs(of_files / np.array(median) - 1) >= _SAME).any(1).sum())
    if other:
        steps = " × ".join(f"{step:.3g}" for step in median)
        notes.append(
            f"Spacing: {steps} mm (depth × height × width), the median of each axis (data.spacing);"
            f" {several(other, 'volume')} of {len(headers):,} with another spacing"
            f" {'is' if other == 1 else 'are'} resampled linearly, masks with nearest neighbors."
        )
    return median


def _intensity(
    headers: Sequence[VolumeHeader], config: DataConfig, notes: list[str]
) -> tuple[Intensity, tuple[float, ...]]:
    """How intensities are scaled; and the limits between which they are, if they are the same for all volumes."""
    if config.window is not None:
        limits = WINDOWS.get(config.window) or config.limits
        if config.intensity is not None:
            raise ConfigError(
                "data.intensity", config.intensity, "nothing beside data.window", "leave out --data.intensity"
            )
        assert limits is not None
        return "window", limits
    if config.intensity is not None:
        return config.intensity, ()
    if headers and all(header.modality == "CT" for header in headers):
        low, high = _ALL_OF_CT
        notes.append(f"Intensity: {low:g} to {high:,.0f} Hounsfield units become 0 to 1 (data.window).")
        return "window", _ALL_OF_CT
    notes.append(
        "Intensity: each volume minus the mean, divided by the standard deviation, of its nonzero voxels"
        " (data.intensity z-score)."
    )
    return "z-score", ()


def _intensities(one: NDArray[np.float32], preparation: Preparation) -> NDArray[np.float32]:
    """One channel (D, H, W) with its intensities scaled."""
    if preparation.intensity == "as-is":
        return one
    if preparation.intensity == "z-score":
        inside = one[one != 0]
        inside = inside if inside.size else one
        mean, std = float(inside.mean(dtype=np.float64)), float(inside.std(dtype=np.float64))
        return (one - np.float32(mean)) * np.float32(1 / std if std > 1e-6 * max(1.0, abs(mean)) else 1.0)
    low, high = preparation.limits or tuple(map(float, np.percentile(one, PERCENTILES)))
    scaled: NDArray[np.float32] = ((one - np.float32(low)) * np.float32(1 / max(high - low, 1e-12))).clip(0, 1)
    return scaled


def _cut_off(source: str, cut: int, count: int, sides: tuple[int, int, int]) -> Finding:
    return Finding(
        code="data.cut-off",
        severity="note",
        where=source,
        measured=f"{several_of(cut, count, 'volume', 'are')} larger than the grid",
        threshold=f"{show_shape(sides)} voxels",
        why="Training and evaluation use only their middle.",
        remedy="Leave out --data.voxels, or choose a coarser --data.spacing.",
    )


def _whereabouts(header: VolumeHeader) -> str:
    if not header.affine:
        return show_shape(header.shape)
    first = ", ".join(f"{row[3]:.4g}" for row in header.affine[:3])
    steps = " × ".join(f"{step:.3g}" for step in header.spacing)
    return f"{header.axes}, {steps} mm, its first voxel at ({first}) mm"
