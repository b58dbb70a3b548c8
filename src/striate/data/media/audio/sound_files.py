"""Sound files: their headers, and their samples at one rate, in one channel, with one length.

A longer file is cropped to its middle; a shorter one is padded with silence on both sides. Channels are averaged, then
resampled by soxr. A hostile file is refused before it is decoded, by its first bytes or its header.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.data.media.medium import Unreadable, sample_bytes
from striate.errors import missing_extra, one_line
from striate.wording import several

SUFFIXES = frozenset((".wav", ".flac", ".ogg", ".mp3"))
MOST_SECONDS = 600
"""A longer file is refused as a sample, since its label cannot describe a few seconds of it."""
MOST_BYTES = 256 << 20
MOST_CHANNELS = 32
LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000
_BEGINNINGS = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"ID3")
_OPEN_END = 0x7FFFF000  # a file that was written to a pipe declares no length, or the largest one
_BLOCK = 1 << 16

Waveform = NDArray[np.float32]
"""(samples,); −1 to 1 is full scale."""


@dataclass(frozen=True)
class SoundHeader:
    """The header of a sound."""

    rate: int
    """Samples per second."""
    frames: int
    """Samples of each channel."""
    channels: int

    @property
    def seconds(self) -> float:
        """Its duration."""
        return self.frames / self.rate


def libraries() -> tuple[Any, Any]:
    """The modules soundfile and soxr. Raises DataError, which names the extra, where they are not installed."""
    try:
        import soundfile
        import soxr
    except (ImportError, OSError) as error:
        missing = getattr(error, "name", None) or "libsndfile"
        raise missing_extra("sound files", missing, "audio") from None
    return soundfile, soxr


def read_header(data: bytes | Path, where: str) -> SoundHeader:
    """The header of a file. Raises Unreadable, also where it is too long to be a sample."""
    with _opened(_read(data, where), where) as file:
        header = SoundHeader(file.samplerate, file.frames, file.channels)
    if header.seconds > MOST_SECONDS:
        raise Unreadable(
            where,
            f"{header.seconds:,.0f} seconds long, more than the {MOST_SECONDS:,} seconds allowed for a sample",
            "a shorter recording of its class",
            "cut it into pieces; `striate predict RUN FILE --every 1` predicts for a recording of any length",
        )
    return header


def read_waveform(data: bytes | Path, where: str, rate: int, samples: int) -> Waveform:
    """(samples,) at `rate`: the middle of the file, or all of it padded with silence. Raises Unreadable."""
    data = _read(data, where)
    header = read_header(data, where)
    wanted = -(-samples * header.rate // rate)  # rounded up
    with _opened(data, where) as file:
        if header.frames > wanted:
            file.seek((header.frames - wanted) // 2)
        taken = min(wanted, header.frames)
        values = file.read(taken, dtype="float32", always_2d=True)
    if len(values) < taken:
        raise _cut_off(where, f"its header says {several(header.frames, 'sample')}, but some are missing")
    return centered(_at_rate(values, where, header.rate, rate), samples)


def read_windows(
    path: Path, where: str, rate: int, samples: int, every: float
) -> Iterator[tuple[tuple[float, float], Waveform]]:
    """Windows (samples,) at `rate`, one of which begins every `every` seconds, with their start and end in seconds. The
    last one is padded with silence.

    The file may have any length: only one window is in memory. Raises Unreadable."""
    with _opened(path, where) as file:
        source, length = file.samplerate, -(-samples * file.samplerate // rate)
        held, first, number = np.zeros((0, file.channels), np.float32), 0, 0
        ended = False
        while True:
            start = round(number * every * source)
            while not ended and first + len(held) < start + length:
                block = file.read(max(_BLOCK, length), dtype="float32", always_2d=True)
                ended = not len(block)
                passed = max(0, min(start - first, len(held)))
                held, first = np.concatenate([held[passed:], block]), first + passed
            window = held[start - first : start - first + length]
            before = max(0, length - round(every * source))  # overlap with the previous window
            if number and len(window) <= before:
                return
            if not len(window):
                raise Unreadable(where, "a sound without samples", "a recording")
            taken = _at_rate(window, where, source, rate)[:samples]
            end = number * every + min(samples / rate, len(window) / source)
            yield (number * every, end), np.pad(taken, (0, samples - len(taken)))
            number += 1


def centered(waveform: Waveform, samples: int) -> Waveform:
    """(samples,): the middle of a waveform, or all of it padded with silence."""
    over = len(waveform) - samples
    if over >= 0:
        return waveform[over // 2 : over // 2 + samples]
    return np.pad(waveform, (-over // 2, -over - -over // 2))


def _at_rate(values: NDArray[np.float32], where: str, source: int, rate: int) -> Waveform:
    """(frames, channels) as one channel at `rate`."""
    if not np.isfinite(values).all():
        raise Unreadable(where, "values that are NaN or Inf", "numbers", "save the recording again")
    mono = values[:, 0] if values.shape[1] == 1 else values.mean(1, dtype=np.float32)
    resampled: Waveform = mono if source == rate else libraries()[1].resample(mono, source, rate)
    return np.ascontiguousarray(resampled, np.float32)


def _read(data: bytes | Path, where: str) -> bytes:
    return sample_bytes(data, where, MOST_BYTES, "a sound file", "a few minutes of sound")


@contextmanager
def _opened(data: bytes | Path, where: str) -> Iterator[Any]:
    """The open file. Any error inside becomes Unreadable."""
    soundfile, _ = libraries()
    if isinstance(data, bytes):
        _refuse_begin(data[:4], where)
        _refuse_cut(data, where)
    try:
        if isinstance(data, Path):
            with data.open("rb") as begin:
                _refuse_begin(begin.read(4), where)
        with soundfile.SoundFile(BytesIO(data) if isinstance(data, bytes) else data) as file:
            _refuse_header(file, where)
            yield file
    except soundfile.LibsndfileError as error:
        raise Unreadable(where, f"damaged: {one_line(error.error_string.rstrip('.'))}", "a sound file") from None
    except (OSError, RuntimeError, MemoryError) as error:
        raise Unreadable(where, f"damaged ({type(error).__name__})", "a sound file") from None


def _refuse_begin(begin: bytes, where: str) -> None:
    if not begin:
        raise Unreadable(where, "an empty file", "a sound file")
    if not begin.startswith(_BEGINNINGS) and not _is_mpeg_frame(begin):
        raise Unreadable(where, f"not a sound file: it begins with {begin!r}", ".wav, .flac, .ogg or .mp3")


def _is_mpeg_frame(begin: bytes) -> bool:
    """Whether these are the first bytes of a frame of layer III, as in an .mp3 without a tag: 11 bits of 1, two bits of
    the version of MPEG (1, 2, or 2.5 for 8 to 12 kHz; 01 is reserved), and the layer, 01."""
    return len(begin) > 1 and begin[0] == 0xFF and begin[1] & 0xE6 == 0xE2 and begin[1] & 0x18 != 0x08


def _refuse_header(file: Any, where: str) -> None:
    if not file.frames:
        raise Unreadable(where, "a sound without samples", "a recording")
    if not 1 <= file.channels <= MOST_CHANNELS:
        raise Unreadable(where, several(file.channels, "channel"), f"1 to {MOST_CHANNELS}")
    if not LOWEST_RATE <= file.samplerate <= HIGHEST_RATE:
        got = f"{several(file.samplerate, 'sample')} a second"
        raise Unreadable(where, got, f"{LOWEST_RATE:,} to {HIGHEST_RATE:,}")


def _refuse_cut(data: bytes, where: str) -> None:
    """Raise Unreadable for a .wav or .ogg that is cut off, which libsndfile reads without an error."""
    if data[:4] == b"RIFF":
        declared = int.from_bytes(data[4:8], "little") + 8
        if len(data) < declared < _OPEN_END:
            raise _cut_off(where, f"its header says {several(declared, 'byte')}, but it has {len(data):,}")
    elif data[:4] == b"OggS":
        last = data.rfind(b"OggS")
        segments = data[last + 26] if last + 26 < len(data) else 0
        ends = last + 27 + segments + sum(data[last + 27 : last + 27 + segments])
        if ends > len(data) or last + 26 >= len(data) or not data[last + 5] & 4:
            raise _cut_off(where, "its last page has no end mark")


def _cut_off(where: str, why: str) -> Unreadable:
    return Unreadable(where, f"cut off: {why}", "a complete sound file")
