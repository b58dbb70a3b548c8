"""Clips as a medium, in three views: frames in color, optical flow, and both.

An input is bytes (channels, frames, height, width): red, green and blue; the motion of pixels to the right and down; or
all five. Frames are the centers of equal parts of the clip. Flow is from each frame to the one about a fifteenth of a
second later; it is computed once, when a clip is decoded, and stored with the frames.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from striate.data.config import DataConfig
from striate.data.media.clip.clip_files import (
    MOST_BYTES,
    SUFFIXES,
    ClipHeader,
    Frame,
    cv2_library,
    read_clip_header,
    read_frames,
)
from striate.data.media.clip.clip_picture import strip
from striate.data.media.clip.flow import flow_bytes, optical_flow
from striate.data.media.image.fitting import place_picture
from striate.data.media.medium import Medium, Planned, Preparation
from striate.wording import several

FRAMES = 16
"""The default number of frames of an input."""
SIDE, LONGEST = 64, 128
"""Defaults: pixels of the shorter side, and at most of the longer one."""
FLOW_RATE = 15.0
"""Flow is over about one of so many parts of a second, which is more than one frame in faster films."""
_TRIES, _SAME = 3, 0.5
"""Films repeat frames: flow is to a frame up to `_TRIES` times as far, while nearer ones differ by less than `_SAME`
levels."""


def even_places(count: int, frames: int) -> list[int]:
    """The centers of `frames` equal parts of `count` frames; some occur more than once where there are fewer."""
    return [min(count - 1, int((k + 0.5) * count / frames)) for k in range(frames)]


def flow_step(header: ClipHeader) -> int:
    """The number of frames over which flow is computed."""
    return max(1, round(header.rate / FLOW_RATE))


def flow_candidates(places: Sequence[int], header: ClipHeader) -> list[tuple[int, ...]]:
    """For each place, the frame from which flow starts, and the frames to which it may go: the first that differs is
    used. At the end of a clip, flow starts at an earlier frame."""
    step, last = flow_step(header), header.frames - 1
    first = [max(0, min(place, last - step)) for place in places]
    return [(place, *sorted({min(place + k * step, last) for k in range(1, _TRIES + 1)})) for place in first]


class Clips(Medium):
    """The base of all views."""

    a: ClassVar[str] = "a clip"
    many: ClassVar[str] = "clips"
    values: ClassVar[str] = "levels"
    dtype: ClassVar[str] = "uint8"
    stored: ClassVar[bool] = True
    folders: ClassVar[bool] = True
    plane: ClassVar[str] = "frame"
    related: ClassVar[str] = "another clip of the same scene"
    suffixes: ClassVar[frozenset[str]] = SUFFIXES
    largest_file: ClassVar[int] = MOST_BYTES
    views: ClassVar[dict[str, str]] = {"rgb": "rgb-clip", "flow": "flow-clip", "both": "two-stream-clip"}
    settings: ClassVar[frozenset[str]] = frozenset(("size", "fit", "max_pixels", "frames", "view"))
    augmentations: ClassVar[frozenset[str]] = frozenset(
        ("flip", "shift", "fill", "crop", "cutout", "noise", "mixup", "cutmix", "time_shift")
    )
    usual_augmentation: ClassVar[dict[str, float]] = {"time_shift": 0.25, "crop": 0.6}
    bounds: ClassVar[tuple[float, float]] = (0.0, 255.0)
    unit: ClassVar[str] = "levels"
    colors: ClassVar[bool] = False

    def describe(self, shape: tuple[int, ...]) -> str:
        """Frames and their size."""
        return f"{self.many} of {shape[1]} frames of {shape[2]}×{shape[3]} pixels"

    def axes(self, preparation: Preparation) -> str:
        """The meaning of the channels."""
        color, flow = "red, green, blue", "motion to the right and down in eighths of a pixel (128: none)"
        held = f"{color}; {flow}" if self.colors and self.motion else color if self.colors else flow
        return f"Clip: channels ({held}), {preparation.input_shape[1]} frames in time, height, width."

    def header(self, data: bytes | Path, where: str, *, max_pixels: int) -> ClipHeader:
        """Size, frames and rate."""
        return read_clip_header(data, where, max_pixels)

    def size_of(self, header: ClipHeader) -> tuple[int, int]:
        """The size of a frame."""
        return header.height, header.width

    def described(self, headers: Sequence[ClipHeader]) -> str:
        """Sizes, and numbers of frames."""
        if not headers:
            return self.many
        counts = sorted(header.frames for header in headers)
        to = "" if counts[0] == counts[-1] else f" to {counts[-1]:,}"
        return f"{super().described(headers)} and {counts[0]:,}{to} frames".replace(
            f" {self.values} and", " pixels and"
        )

    def decode(self, data: bytes | Path, where: str, preparation: Preparation) -> NDArray[np.uint8]:
        """Frames at the size of the inputs, and the flow between them."""
        channels, count, *size = preparation.input_shape
        shape = size[0], size[1]

        def chosen(header: ClipHeader) -> list[int]:
            places = even_places(header.frames, count)
            return [*(places if self.colors else ()), *(n for found in candidates(header) for n in found)]

        def candidates(header: ClipHeader) -> list[tuple[int, ...]]:
            return flow_candidates(even_places(header.frames, count), header) if self.motion else []

        header, read = read_frames(data, where, chosen, preparation.max_pixels)
        fitted = {number: place_picture(frame, shape, preparation.fit) for number, frame in read.items()}
        out = np.empty((channels, count, *shape), np.uint8)
        if self.colors:
            for k, number in enumerate(even_places(header.frames, count)):
                out[:3, k] = fitted[number]
        upright: dict[int, Frame] = {n: np.ascontiguousarray(np.moveaxis(x, 0, -1)) for n, x in fitted.items()}
        known: dict[int, NDArray[np.uint8]] = {}
        for k, (first, *later) in enumerate(candidates(header)):
            if first not in known:
                second = next((n for n in later if _differ(upright[first], upright[n])), first)
                known[first] = flow_bytes(optical_flow(upright[first], upright[second]))
            out[-2:, k] = known[first]
        return out

    def from_given(self, given: NDArray[Any], preparation: Preparation) -> NDArray[Any]:
        """The input of a clip in color, from frames (T, H, W, C) of any number and size."""
        if not (self.colors and not self.motion):
            return given
        _, count, *size = preparation.input_shape
        chosen = [given[number] for number in even_places(len(given), count)]
        return np.stack([place_picture(frame, (size[0], size[1]), preparation.fit) for frame in chosen], 1)

    def plan(
        self, source: str, inputs: NDArray[Any] | None, headers: Sequence[ClipHeader], config: DataConfig
    ) -> Planned:
        """Size and number of frames of every input, decided from the files."""
        del source
        assert inputs is None, "clips lie in files"
        if self.motion:
            cv2_library()  # raises before anything is decoded
        frames, notes = config.frames or FRAMES, []
        counts = sorted(header.frames for header in headers)
        if config.frames is None:
            to = "" if counts[0] == counts[-1] else f" to {counts[-1]:,}"
            notes.append(
                f"Frames: {frames}, evenly spaced in each clip (data.frames); the clips have {counts[0]:,}{to}."
            )
        fewer = sum(count < frames for count in counts)
        if fewer:
            notes.append(f"{several(fewer, 'clip')} with fewer frames: some frames are repeated.")
        sizes = Counter((header.height, header.width) for header in headers)
        size = config.size or _usual_size(headers)
        if config.size is None and len(sizes) > 1:
            notes.append(
                f"Size: {size[0]} × {size[1]} pixels (height × width; --size) for clips of"
                f" {several(len(sizes), 'size')}."
            )
        elif config.size is None and size not in sizes:
            ((h, w),) = sizes
            notes.append(f"Size: {size[0]} × {size[1]} pixels (height × width; --size) for clips of {h} × {w}.")
        if self.motion:
            steps = sorted({flow_step(header) for header in headers})
            most = "" if len(steps) == 1 else f" to {steps[-1]}"
            later = "the next frame" if steps == [1] else f"the frame {steps[0]}{most} later"
            notes.append(f"Flow: by Farnebäck's method, to {later} (if it is identical, to the next that differs).")
        channels = 3 * self.colors + 2 * self.motion
        made = Preparation(self.name, (channels, frames, *size), fit=config.fit or "crop", max_pixels=config.max_pixels)
        return made, (*notes, self.axes(made)), ()

    def decided(self, config: DataConfig, preparation: Preparation) -> DataConfig:
        """With size, frames and view."""
        view = next(view for view, kind in self.views.items() if kind == self.name)
        _, frames, height, width = preparation.input_shape
        return replace(config, size=(height, width), frames=frames, view=view)  # type: ignore[arg-type]

    def drawn(self, raw: NDArray[Any], preparation: Preparation) -> NDArray[np.uint8] | None:
        """A strip of frames, with their flow below."""
        del preparation
        if raw.ndim != 4 or raw.dtype != np.uint8 or len(raw) != 3 * self.colors + 2 * self.motion:
            return None
        return strip(raw[:3] if self.colors else None, raw[-2:] if self.motion else None)


class ColorClips(Clips):
    """(3, frames, height, width) uint8."""

    name: ClassVar[str] = "rgb-clip"
    colors: ClassVar[bool] = True
    given_as: ClassVar[str] = "frames"
    augmentations: ClassVar[frozenset[str]] = Clips.augmentations | {"color"}
    network: ClassVar[tuple[str, str]] = (
        "small-tsm(shift=0)",
        "residual blocks process each frame alone, and predictions are the mean over frames; --model small-tsm shares"
        " features between neighboring frames, --data.view both adds motion",
    )

    def as_given(self, given: Any, where: str, preparation: Preparation) -> NDArray[np.uint8]:
        """(T, H, W, C): the chosen frames at the size of the inputs."""
        read = self.decode(given, where, preparation) if isinstance(given, bytes) else self.prepare(given, preparation)
        return np.ascontiguousarray(np.moveaxis(read, 0, -1))


class FlowClips(Clips):
    """(2, frames, height, width) uint8: eighths of a pixel to the right and down, around 128."""

    name: ClassVar[str] = "flow-clip"
    values: ClassVar[str] = "eighths of a pixel"
    motion: ClassVar[bool] = True
    network: ClassVar[tuple[str, str]] = (
        "small-tsm",
        "residual blocks on flow shift some channels in time, so that each frame sees its neighboring frames",
    )
    few_samples: ClassVar[tuple[str, str]] = (
        "two-stream(width=16, directions=16, fusion=best)",
        "one stream is residual blocks on flow, another, for few clips, measures how disordered the motion is;"
        " validation chooses how they are fused",
    )


class TwoStreamClips(Clips):
    """(5, frames, height, width) uint8: color and flow."""

    name: ClassVar[str] = "two-stream-clip"
    colors: ClassVar[bool] = True
    motion: ClassVar[bool] = True
    network: ClassVar[tuple[str, str]] = (
        "two-stream",
        "one stream sees single color frames, the other their motion; each is trained alone, and their outputs"
        " are averaged",
    )
    few_samples: ClassVar[tuple[str, str]] = (
        "two-stream(width=16, directions=16, fusion=best)",
        "one stream sees single color frames, another their motion, and one, for few clips, how disordered the motion"
        " is; each is trained alone, and validation chooses how they are fused",
    )


def _differ(one: Frame, other: Frame) -> bool:
    return bool(np.abs(one.astype(np.int16) - other).mean() >= _SAME)


def _usual_size(headers: Sequence[ClipHeader]) -> tuple[int, int]:
    """The most common size if clips are small; else 64 pixels along the shorter side, with the median aspect ratio."""
    height, width = Counter((header.height, header.width) for header in headers).most_common(1)[0][0]
    if max(height, width) <= SIDE:
        return height, width
    aspect = statistics.median(header.width / header.height for header in headers)
    short = min(SIDE, int(statistics.median(min(header.height, header.width) for header in headers)))
    long = min(LONGEST, max(8, round(short * max(aspect, 1 / aspect) / 8) * 8))
    return (short, long) if aspect >= 1 else (long, short)
