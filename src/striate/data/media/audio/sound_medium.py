"""Sound as a medium, in two views: log-mel spectrograms, and waveforms.

A spectrogram is an image of bytes, with half a decibel per level and the highest band in the first row, as it is drawn.
It is computed while files are decoded; packs, streams, explanations and pictures treat it as an image. A waveform is
float32.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from striate.data.config import DataConfig
from striate.data.media.audio.log_mel import (
    as_levels,
    band_centers,
    band_count,
    frame_count,
    hop_samples,
    log_mel,
    window_samples,
)
from striate.data.media.audio.sound_files import (
    MOST_BYTES,
    SUFFIXES,
    SoundHeader,
    Waveform,
    centered,
    libraries,
    read_header,
    read_waveform,
    read_windows,
)
from striate.data.media.audio.spectrogram_picture import in_color, waveform_picture, with_axes
from striate.data.media.medium import Medium, Planned, Preparation, channels_first
from striate.errors import ConfigError, DataError
from striate.records import Finding
from striate.wording import several, several_of

HIGHEST_DEFAULT_RATE = 24_000
LONGEST_DEFAULT = 10.0
"""The longest default of `data.seconds`."""
_WHOLE = 0.95
"""The default length crops at most the rest of the files."""
_FEWEST_FRAMES = 8
_CHANGES = frozenset(("noise", "mixup", "time_shift", "gain", "time_mask"))


class Sounds(Medium):
    """The base of both views."""

    a: ClassVar[str] = "a sound"
    many: ClassVar[str] = "sounds"
    suffixes: ClassVar[frozenset[str]] = SUFFIXES
    largest_file: ClassVar[int] = MOST_BYTES
    views: ClassVar[dict[str, str]] = {"log-mel": "spectrogram", "waveform": "waveform"}
    settings: ClassVar[frozenset[str]] = frozenset(("rate", "seconds", "view"))
    lasting: ClassVar[bool] = True
    player: ClassVar[str] = "audio"
    given_as: ClassVar[str] = "samples"

    def header(self, data: bytes | Path, where: str, *, max_pixels: int) -> SoundHeader:
        """Rate, length and channels."""
        del max_pixels
        return read_header(data, where)

    def described(self, headers: Sequence[SoundHeader]) -> str:
        """Durations and rates."""
        lengths = sorted(header.seconds for header in headers)
        rates = sorted({header.rate for header in headers})
        if not lengths:
            return self.many
        to = "" if lengths[-1] - lengths[0] < 0.005 else f" to {lengths[-1]:.4g}"
        most = "" if len(rates) == 1 else f" to {rates[-1]:,}"
        return f"sounds of {lengths[0]:.3g}{to} s at {rates[0]:,}{most} Hz"

    def input_of(self, waveform: Waveform, preparation: Preparation) -> NDArray[Any]:
        """The input of a waveform (samples,) of the right length."""
        raise NotImplementedError

    def shape(self, rate: int, samples: int, window: int, hop: int, bands: int) -> tuple[int, ...]:
        """The shape of inputs."""
        raise NotImplementedError

    def decode(self, data: bytes | Path, where: str, preparation: Preparation) -> NDArray[Any]:
        """The middle of the file, or all of it padded with silence."""
        return self.input_of(read_waveform(data, where, preparation.rate, preparation.samples), preparation)

    def played(self, data: bytes | Path, where: str, preparation: Preparation) -> bytes:
        """A WAV of 16 bits, mono, at the rate of the inputs."""
        wave = read_waveform(data, where, preparation.rate, preparation.samples)
        file = BytesIO()
        libraries()[0].write(file, wave, preparation.rate, "PCM_16", format="WAV")
        return file.getvalue()

    def drawings(
        self, data: bytes | Path, where: str, preparation: Preparation
    ) -> tuple[tuple[str, NDArray[np.uint8]], ...]:
        """The waveform above the log-mel spectrogram, also for networks that take waveforms."""
        wave = read_waveform(data, where, preparation.rate, preparation.samples)
        levels = _levels_of(wave, preparation, band_count(preparation.rate, preparation.window))
        return (
            ("Waveform", waveform_picture(wave, (levels.shape[0], levels.shape[1]))),
            ("Log-mel spectrogram", self.framed(in_color(levels), preparation)),
        )

    def framed(self, pixels: NDArray[np.uint8], preparation: Preparation) -> NDArray[np.uint8]:
        """With axes in hertz and seconds, if the picture has a row for each band."""
        centers = band_centers(preparation.rate, len(pixels))
        return with_axes(pixels, centers, preparation.samples / preparation.rate)

    def windows(
        self, path: Path, where: str, preparation: Preparation, every: float
    ) -> Iterator[tuple[tuple[float, float], NDArray[Any]]]:
        """Waveforms, one of which begins every `every` seconds, of a recording of any length."""
        return read_windows(path, where, preparation.rate, preparation.samples, every)

    def prepare(self, given: Any, preparation: Preparation) -> NDArray[Any]:
        """A path; a waveform (samples,) at the rate of the inputs, of any length; or an array of the input's shape."""
        if np.ndim(given) == 1 and not hasattr(given, "getexif"):
            raw = np.asarray(given, np.float32)
            return self.input_of(centered(raw, preparation.samples), preparation)
        return super().prepare(given, preparation)

    def batch_of(self, given: NDArray[Any], preparation: Preparation) -> bool:
        """Also of waveforms (N, samples)."""
        shape = preparation.input_shape
        waveforms = given.ndim == 2 and channels_first(given, shape[1:], shape[:1]) is None
        return waveforms or super().batch_of(given, preparation)

    def as_given(self, given: Any, where: str, preparation: Preparation) -> NDArray[np.float32]:
        """(samples,) from a file, its bytes, or a waveform."""
        if isinstance(given, str | bytes | Path):
            data = Path(given) if isinstance(given, str) else given
            return read_waveform(data, where, preparation.rate, preparation.samples)
        if np.ndim(given) == 1:
            return centered(np.asarray(given, np.float32), preparation.samples)
        shape = (1, preparation.samples)
        got = f"an array of shape {np.shape(given)}"
        if np.shape(given) != shape:
            raise DataError("predict", got, f"a file, or a waveform of shape {shape[1:]}", "give the path of a sound")
        waveform: NDArray[np.float32] = np.asarray(given, np.float32)[0]
        return waveform

    def from_given(self, given: NDArray[Any], preparation: Preparation) -> NDArray[Any]:
        """The input of a waveform of any length."""
        return self.input_of(centered(given, preparation.samples), preparation)

    def plan(
        self, source: str, inputs: NDArray[Any] | None, headers: Sequence[SoundHeader], config: DataConfig
    ) -> Planned:
        """Rate and length of every input, decided from the files."""
        assert inputs is None, "sounds lie in files"
        rates = Counter(header.rate for header in headers)
        usual = max(rates, key=lambda rate: (rates[rate], rate))
        rate, notes = config.rate or _default_rate(usual), []
        if config.rate is None:
            tie = "highest of the " if list(rates.values()).count(rates[usual]) > 1 else ""
            which = "that of the files" if len(rates) == 1 else f"the {tie}most common of {len(rates)} rates"
            if rate != usual:
                which = f"{_part(usual // rate)} {usual:,}, {which}"
            notes.append(f"Rate: {rate:,} Hz, {which} (data.rate).")
        lengths = sorted(header.seconds for header in headers)
        seconds = config.seconds or _default_seconds(lengths)
        samples = round(seconds * rate)
        longer = sum(length > seconds + 0.005 for length in lengths)
        shorter = sum(length < seconds - 0.005 for length in lengths)
        if config.seconds is None:
            notes.append(
                f"Length: {seconds:g} s (data.seconds); the files last {lengths[0]:.3g} to {lengths[-1]:.4g} s."
            )
        changes = [f"{several(longer, 'longer sound')} cropped to the middle"] if longer else []
        changes += [f"{several(shorter, 'shorter sound')} padded with silence"] if shorter else []
        if changes:
            notes.append(f"{'; '.join(changes)}.")
        mixed = sum(header.channels > 1 for header in headers)
        if mixed:
            notes.append(
                f"Channels: 1; {several_of(mixed, len(headers), 'sound', 'have')} several, of which the mean is taken."
            )
        window, hop = window_samples(rate), hop_samples(rate, samples)
        _refuse_short(seconds, rate, samples, window, hop)
        bands = band_count(rate, window)
        preparation = Preparation(
            self.name,
            self.shape(rate, samples, window, hop, bands),
            max_pixels=config.max_pixels,
            rate=rate,
            samples=samples,
            window=window,
            hop=hop,
        )
        notes.append(self.axes(preparation))
        return preparation, tuple(notes), _upsampled(source, rates, rate)

    def decided(self, config: DataConfig, preparation: Preparation) -> DataConfig:
        """With rate, length and view."""
        view = next(view for view, kind in self.views.items() if kind == self.name)
        seconds = config.seconds
        if seconds is None or round(seconds * preparation.rate) != preparation.samples:
            seconds = preparation.samples / preparation.rate
        return replace(config, rate=preparation.rate, seconds=seconds, view=view)  # type: ignore[arg-type]


class Spectrograms(Sounds):
    """(1, bands, frames) uint8: half decibels above −100, the highest band first."""

    name: ClassVar[str] = "spectrogram"
    values: ClassVar[str] = "levels of half a decibel"
    dtype: ClassVar[str] = "uint8"
    given_as: ClassVar[str] = "samples-of-spectrograms"
    stored: ClassVar[bool] = True
    augmentations: ClassVar[frozenset[str]] = _CHANGES | {"frequency_mask"}
    augmented_in: ClassVar[dict[str, str]] = {"speed": "waveform"}
    usual_augmentation: ClassVar[dict[str, float]] = {
        **{"time_shift": 0.5, "gain": 6.0, "time_mask": 0.2, "frequency_mask": 0.2},
    }
    network: ClassVar[tuple[str, str]] = (
        "small-resnet",
        "residual blocks on log-mel spectrograms recognize sustained events at any pitch",
    )
    bounds: ClassVar[tuple[float, float]] = (0.0, 255.0)
    unit: ClassVar[str] = "decibels"
    unit_size: ClassVar[float] = 0.5

    def describe(self, shape: tuple[int, ...]) -> str:
        """Bands and frames."""
        return f"log-mel spectrograms of {shape[1]} bands × {shape[2]} frames"

    def shape(self, rate: int, samples: int, window: int, hop: int, bands: int) -> tuple[int, ...]:
        """(1, bands, frames)."""
        del rate
        return 1, bands, frame_count(samples, window, hop)

    def input_of(self, waveform: Waveform, preparation: Preparation) -> NDArray[np.uint8]:
        """Its spectrogram in bytes."""
        return _levels_of(waveform, preparation, preparation.input_shape[1])[None]

    def axes(self, preparation: Preparation) -> str:
        """Bands, and the duration of a frame."""
        _, bands, frames = preparation.input_shape
        low, high = band_centers(preparation.rate, bands)[[0, -1]]
        rate = preparation.rate
        return (
            f"Spectrogram: {bands} mel bands around {low:.0f} to {high:,.0f} Hz, the highest in the first row; {frames}"
            f" frames of {1000 * preparation.window / rate:.3g} ms, one every {1000 * preparation.hop / rate:.3g} ms."
        )

    def drawn(self, raw: NDArray[Any], preparation: Preparation) -> NDArray[np.uint8] | None:
        """In color, with its axes."""
        if raw.ndim != 3 or len(raw) != 1 or raw.dtype != np.uint8:
            return None
        return self.framed(in_color(raw[0]), preparation)


class Waveforms(Sounds):
    """(1, samples) float32."""

    name: ClassVar[str] = "waveform"
    values: ClassVar[str] = "amplitudes"
    augmentations: ClassVar[frozenset[str]] = _CHANGES | {"speed"}
    augmented_in: ClassVar[dict[str, str]] = {"frequency_mask": "log-mel"}
    usual_augmentation: ClassVar[dict[str, float]] = {"time_shift": 0.5, "gain": 6.0, "time_mask": 0.2}
    network: ClassVar[tuple[str, str]] = (
        "m5(width=32)",
        "waveforms need a wide first kernel, which learns frequency filters, and fast pooling",
    )

    def describe(self, shape: tuple[int, ...]) -> str:
        """By the number of samples."""
        return f"waveforms of {several(shape[1], 'sample')}"

    def shape(self, rate: int, samples: int, window: int, hop: int, bands: int) -> tuple[int, ...]:
        """(1, samples)."""
        del rate, window, hop, bands
        return 1, samples

    def input_of(self, waveform: Waveform, preparation: Preparation) -> NDArray[np.float32]:
        """As it is."""
        del preparation
        return waveform[None]

    def axes(self, preparation: Preparation) -> str:
        """Samples, and the highest frequency."""
        return (
            f"Waveform: {several(preparation.samples, 'sample')}, {preparation.rate:,} per second: frequencies up to"
            f" {preparation.rate // 2:,} Hz."
        )

    def drawn(self, raw: NDArray[Any], preparation: Preparation) -> NDArray[np.uint8] | None:
        """As its spectrogram."""
        if raw.ndim != 2 or len(raw) != 1 or raw.shape[1] < preparation.window:
            return None
        bands = band_count(preparation.rate, preparation.window)
        return self.framed(in_color(_levels_of(raw[0], preparation, bands)), preparation)


def _levels_of(waveform: Waveform, preparation: Preparation, bands: int) -> NDArray[np.uint8]:
    """(bands, frames), the highest band first."""
    decibels = log_mel(waveform, preparation.rate, preparation.window, preparation.hop, bands)
    return np.ascontiguousarray(as_levels(decibels)[::-1])


def _default_rate(usual: int) -> int:
    rate = usual
    while rate > HIGHEST_DEFAULT_RATE and rate % 2 == 0:
        rate //= 2
    return min(rate, HIGHEST_DEFAULT_RATE)


def _part(times: int) -> str:
    return {2: "half of", 4: "a quarter of", 8: "an eighth of"}.get(times, "below")


def _default_seconds(lengths: Sequence[float]) -> float:
    """A length that does not crop most files, in hundredths of a second."""
    most = lengths[min(len(lengths) - 1, math.ceil(_WHOLE * len(lengths)) - 1)]
    return max(0.05, min(LONGEST_DEFAULT, math.ceil(100 * most - 0.1) / 100))


def _refuse_short(seconds: float, rate: int, samples: int, window: int, hop: int) -> None:
    least = window + (_FEWEST_FRAMES - 1) * hop
    if samples < least:
        enough = math.ceil(100 * least / rate) / 100
        raise ConfigError(
            "data.seconds",
            f"{seconds:g} s at {rate:,} Hz: {several(samples, 'sample')}",
            f"at least {several(least, 'sample')}, {_FEWEST_FRAMES} frames of {window}",
            f"--data.seconds {enough:g}",
        )


def _upsampled(source: str, rates: Counter[int], rate: int) -> tuple[Finding, ...]:
    """A finding about files of lower rates: they lack high frequencies, which may identify them."""
    low = sum(count for of_file, count in rates.items() if of_file < rate)
    if not low:
        return ()
    slowest = min(rates)
    return (
        Finding(
            code="data.mixed-rates",
            severity="note",
            where=source,
            measured=f"{several_of(low, rates.total(), 'sound', 'have')} fewer than {several(rate, 'sample')} per"
            f" second, down to {slowest:,}",
            threshold=f"{rate:,} Hz",
            why="A sound has no frequencies above half its rate. If one class has more sounds of a low rate, the"
            " network can recognize it by that.",
            remedy=f"Use the lowest rate for all: --data.rate {slowest}.",
        ),
    )
