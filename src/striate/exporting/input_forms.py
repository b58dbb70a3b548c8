"""The forms in which an exported file takes clips, sounds and volumes, and how it computes the network's input.

Each class does with traceable operations what its medium's `from_given` does in NumPy; for pictures and plain numbers
see `exported_network`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from striate.data.dataset import Preparation
from striate.data.media.audio.log_mel import LEVELS_A_DECIBEL, QUIETEST, frame_count, hann_window, mel_filters
from striate.data.media.every_medium import medium_of
from striate.data.media.volume.volume_medium import PERCENTILES
from striate.exporting.resize import number, resize, sizes_around
from striate.inference.windows import SIDE
from striate.tasks.exported import Frame

Case = tuple[tuple[int, ...], NDArray[Any]]
"""A size, and samples of it as a file takes them."""


class InputForm:
    """The form in which an exported file takes samples."""

    name: ClassVar[str]
    """Name of the input."""
    free: ClassVar[dict[int, str]]
    """The axes of any length, by number, and their names."""
    rounding: ClassVar[float] = 1e-4
    """The largest difference of predictions that counts as rounding."""

    def __init__(self, preparation: Preparation, *, whole: bool) -> None:
        self.preparation, self.whole = preparation, whole

    def example(self, count: int) -> torch.Tensor:
        """An input to trace the network with, of an arbitrary size."""
        raise NotImplementedError

    def prepared(self, given: torch.Tensor) -> tuple[torch.Tensor, Frame | None]:
        """The network's inputs (N, *input_shape), and where they lie in the sample."""
        raise NotImplementedError

    def samples_of(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """Samples that give these inputs, or inputs of this shape; for measurements of speed."""
        raise NotImplementedError

    def cases(self, samples: Sequence[NDArray[Any]]) -> Iterator[Case]:
        """The samples, as `Medium.as_given` has them, at several sizes."""
        raise NotImplementedError

    @property
    def axes(self) -> dict[int, str]:
        """The axes that may have any length, by number, and their names."""
        return self.free


def middle(x: torch.Tensor, axis: int, want: int) -> torch.Tensor:
    """The middle of an axis; a short axis is padded with zeros on both sides."""
    have = number(x.shape[axis])
    places = torch.arange(want) + torch.div(have - want, 2, rounding_mode="trunc")
    there = (places >= 0) & (places < have)
    taken = x.index_select(axis, torch.minimum(places.clamp(min=0), have - 1))
    return taken * there.view(-1, *(1,) * (x.ndim - 1 - axis)).to(x.dtype)


class Frames(InputForm):
    """`clip` uint8 (N, T, H, W, C): frames in color, of any number and size."""

    name: ClassVar[str] = "clip"
    free: ClassVar[dict[int, str]] = {0: "N", 1: "T", 2: "H", 3: "W"}

    def example(self, count: int) -> torch.Tensor:
        """Larger and longer than the inputs."""
        channels, frames, height, width = self.preparation.input_shape
        return torch.zeros(count, frames + 3, height + 37, width + 53, channels, dtype=torch.uint8)

    def prepared(self, given: torch.Tensor) -> tuple[torch.Tensor, Frame | None]:
        """The middles of even parts of the clip, resized."""
        channels, frames, height, width = self.preparation.input_shape
        have = number(given.shape[1])
        places = torch.div((2 * torch.arange(frames) + 1) * have, 2 * frames, rounding_mode="floor")
        chosen = given.index_select(1, torch.minimum(places, have - 1)).flatten(0, 1)
        x, _ = resize(chosen, (height, width), self.preparation.fit)
        return x.view(-1, frames, channels, height, width).transpose(1, 2), None

    def samples_of(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """The frames themselves."""
        return np.ascontiguousarray(np.moveaxis(inputs, 1, -1))

    def cases(self, samples: Sequence[NDArray[Any]]) -> Iterator[Case]:
        """Five sizes of frames, and as many lengths."""
        own = samples[0].shape[1:3]
        for k, size in enumerate(sizes_around((own[0], own[1]))):
            count = samples[0].shape[0]
            length = (count, 2 * count + 1, max(1, count // 2), count + 3, 3 * count)[k]
            shortened = [clip[np.arange(length) * count // length] for clip in samples]
            yield (length, *size), np.stack([np.stack([_scaled(frame, size) for frame in clip]) for clip in shortened])


def _scaled(frame: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    return np.asarray(Image.fromarray(frame).resize(size[::-1], Image.Resampling.BICUBIC))


class Samples(InputForm):
    """`waveform` float32 (N, S), mono, at the rate of the run, of any length."""

    name: ClassVar[str] = "waveform"
    free: ClassVar[dict[int, str]] = {0: "N", 1: "S"}

    def example(self, count: int) -> torch.Tensor:
        """Longer than the inputs."""
        return torch.zeros(count, self.preparation.samples + 37)

    def prepared(self, given: torch.Tensor) -> tuple[torch.Tensor, Frame | None]:
        """The middle of the waveform."""
        return middle(given, 1, self.preparation.samples)[:, None], None

    def samples_of(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """The waveforms themselves."""
        return np.ascontiguousarray(inputs[:, 0])

    def cases(self, samples: Sequence[NDArray[Any]]) -> Iterator[Case]:
        """Five lengths."""
        count = len(samples[0])
        for length in (count, 2 * count + 1, count // 2, count + 7, count - 3):
            yield (length,), np.stack([np.resize(wave, length).astype(np.float32) for wave in samples])


class SamplesOfSpectrograms(Samples):
    """The same for networks of log-mel spectrograms, which the file computes: `data.media.audio.log_mel`."""

    rounding: ClassVar[float] = 5e-3
    """Levels of half a decibel are rounded, and where one lies between two, the last bit of a sum decides."""

    def prepared(self, given: torch.Tensor) -> tuple[torch.Tensor, Frame | None]:
        """Levels of half a decibel, the highest band first."""
        it = self.preparation
        wave, bands = middle(given, 1, it.samples), it.input_shape[1]
        places = torch.arange(frame_count(it.samples, it.window, it.hop))[:, None] * it.hop + torch.arange(it.window)
        frames = wave.index_select(1, places.flatten()).view(-1, *places.shape)
        cosine, sine = _fourier(it.window)
        filters = torch.from_numpy(mel_filters(it.rate, it.window, bands).toarray().T.copy())
        power = ((frames @ cosine).square() + (frames @ sine).square()) @ filters
        decibels = 10 * torch.log10(power.clamp(min=10 ** (QUIETEST / 10)))
        levels = torch.round((decibels - QUIETEST) * LEVELS_A_DECIBEL).clamp(0, 255)
        return levels.transpose(1, 2).flip(1)[:, None], None

    def samples_of(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """Noise: the waveform cannot be computed from the levels."""
        rng = np.random.default_rng(0)
        return rng.normal(0, 0.1, (len(inputs), self.preparation.samples)).astype(np.float32)


def _fourier(window: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(window, window // 2 + 1) real and imaginary part of the Fourier transform of a windowed frame, as matrices: the
    operation of ONNX crashes some runtimes."""
    turns = torch.outer(torch.arange(window), torch.arange(window // 2 + 1)) % window
    angles, weights = turns.double() * (2 * math.pi / window), torch.from_numpy(hann_window(window).copy())[:, None]
    return (angles.cos() * weights).float(), (angles.sin() * weights).float()


class Voxels(InputForm):
    """`volume` float32 (N, C, D, H, W), at the spacing of the run, with the values of the file, of any size. A file
    that predicts masks takes sizes up to that of a window, or only that of the inputs if these have several windows."""

    name: ClassVar[str] = "volume"
    free: ClassVar[dict[int, str]] = {0: "N", 2: "D", 3: "H", 4: "W"}

    def example(self, count: int) -> torch.Tensor:
        """Larger than the inputs, if the size is free."""
        channels, *sides = self.preparation.input_shape
        more = (0, 0, 0) if self.fixed else (3, 5, 7)
        return torch.zeros(count, channels, *(side + by for side, by in zip(sides, more, strict=True)))

    def prepared(self, given: torch.Tensor) -> tuple[torch.Tensor, Frame | None]:
        """Intensities, in the middle of the grid."""
        x = self._intensities(given)
        if self.whole:
            nowhere = torch.zeros(2)
            return x, Frame(nowhere + 1, nowhere, nowhere, (given.shape[3], given.shape[4]), resized=False)
        for axis, want in enumerate(self.preparation.input_shape[1:], 2):
            x = middle(x, axis, want)
        return x, None

    def _intensities(self, x: torch.Tensor) -> torch.Tensor:
        """Intensities of each channel of each volume, as in `Volumes.from_given`."""
        kind, axes = self.preparation.intensity, (2, 3, 4)
        if kind == "as-is":
            return x
        if kind == "z-score":
            inside = (x != 0).double()
            inside = torch.where(inside.sum(axes, keepdim=True) > 0, inside, torch.ones_like(inside))
            count, values = inside.sum(axes, keepdim=True), x.double()
            mean = (values * inside).sum(axes, keepdim=True) / count
            std = (((values - mean).square() * inside).sum(axes, keepdim=True) / count).sqrt()
            varies = std > 1e-6 * mean.abs().clamp(min=1)
            gain = torch.where(varies, 1 / torch.where(varies, std, torch.ones_like(std)), torch.ones_like(std))
            return (x - mean.float()) * gain.float()
        if self.preparation.limits:
            low, high = (torch.tensor(limit) for limit in self.preparation.limits)
        else:
            ordered = x.flatten(2).sort(2).values
            low, high = (_at_share(ordered, percent / 100)[..., None, None] for percent in PERCENTILES)
        return ((x - low) * (1 / (high - low).clamp(min=1e-12))).clamp(0, 1)

    @property
    def fixed(self) -> bool:
        """Whether the file computes windows, which are laid out for one size."""
        return self.whole and max(self.preparation.input_shape[1:]) > SIDE

    @property
    def axes(self) -> dict[int, str]:
        """The samples, and without windows also the sides."""
        return {0: "N"} if self.fixed else self.free

    def samples_of(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """Volumes that give these inputs."""
        return self._unscaled(inputs)

    def _unscaled(self, inputs: NDArray[Any]) -> NDArray[Any]:
        if self.preparation.limits:
            low, high = self.preparation.limits
            return (low + inputs * np.float32(high - low)).astype(np.float32)
        factor, offset = (1, 0) if self.preparation.intensity == "as-is" else (40, 300)
        return (inputs * np.float32(factor) + np.float32(offset)).astype(np.float32)

    def cases(self, samples: Sequence[NDArray[Any]]) -> Iterator[Case]:
        """The volumes, and larger and smaller ones if the size is free."""
        sides = samples[0].shape[1:]
        most = SIDE if self.whole and not self.fixed else max(sides) + 9
        for more in ((0, 0, 0),) if self.fixed else ((0, 0, 0), (5, 4, 9), (-2, -3, -1), (0, 7, -2), (3, 0, -9)):
            size = tuple(min(most, max(1, side + by)) for side, by in zip(sides, more, strict=True))
            places = np.ix_(*(np.arange(side) % have for side, have in zip(size, sides, strict=True)))
            yield size, np.stack([volume[:, *places] for volume in samples])


def _at_share(ordered: torch.Tensor, share: float) -> torch.Tensor:
    """(N, C, 1) the quantile of sorted values (N, C, n), with linear interpolation."""
    last = number(ordered.shape[2]) - 1
    place = share * last.double()
    below = place.floor().long()
    parts = [ordered.index_select(2, torch.minimum(at, last).view(1)) for at in (below, below + 1)]
    return torch.lerp(parts[0], parts[1], (place - below).float())


_FORMS: dict[str, type[InputForm]] = {
    "frames": Frames,
    "samples": Samples,
    "samples-of-spectrograms": SamplesOfSpectrograms,
    "voxels": Voxels,
}


def input_form_of(preparation: Preparation, *, whole: bool) -> InputForm | None:
    """The form of this medium's samples; None for pictures and numbers."""
    form = _FORMS.get(medium_of(preparation.kind).given_as)
    return None if form is None else form(preparation, whole=whole)
