"""Films and folders of frames: their headers, and some of their frames.

A film is opened by the reader that its first bytes select, so that a disguised playlist cannot make it open other
files. Frames are counted, since headers may be wrong. The bytes of a folder of frames are an uncompressed archive of
them.
"""

from __future__ import annotations

import zipfile
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.data.media.image import pictures
from striate.data.media.image.pictures import open_picture, turn_of
from striate.data.media.medium import Unreadable, sample_bytes
from striate.errors import missing_extra
from striate.wording import several

SUFFIXES = frozenset((".mp4", ".mov", ".avi", ".mkv", ".webm", ".gif"))
MOST_SECONDS = 600
"""A longer film is refused as a sample, since its label cannot describe a few seconds of it."""
MOST_FRAMES = 36_000
MOST_BYTES = 512 << 20
MOST_PIXELS = 8192 * 4320
"""Pixels of a frame; a film that declares more, or has frames with more, is refused."""
_FIRST_FOLDER_RATE = 25.0  # frames per second, where none is known
_TOP_BOXES = frozenset(
    (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"mfra", b"uuid", b"sidx", b"udta")
)

Frame = NDArray[np.uint8]
"""(H, W, 3)."""


@dataclass(frozen=True)
class ClipHeader:
    """The header of a clip."""

    width: int
    """Pixels of a frame as it is shown."""
    height: int
    """Pixels of a frame as it is shown."""
    frames: int
    """Number of frames."""
    rate: float
    """Frames per second."""

    @property
    def seconds(self) -> float:
        """Its duration."""
        return self.frames / self.rate


def av_library() -> Any:
    """PyAV. Raises DataError, which names the extra, where it is not installed."""
    return _library("av")


def cv2_library() -> Any:
    """OpenCV, restricted to the calling thread, since several threads decode files. Raises DataError."""
    cv2 = _library("cv2")
    cv2.setNumThreads(0)
    return cv2


def _library(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except (ImportError, OSError):
        missing = {"av": "PyAV", "cv2": "OpenCV"}[name]
        raise missing_extra("clips", missing, "clips") from None


def read_clip_header(data: bytes | Path, where: str, max_pixels: int) -> ClipHeader:
    """The header of a file. Raises Unreadable, also where it is too long to be a sample."""
    with _opened(_read(data, where), where, max_pixels) as film:
        return film.header


def read_frames(
    data: bytes | Path, where: str, choose: Callable[[ClipHeader], Sequence[int]], max_pixels: int
) -> tuple[ClipHeader, dict[int, Frame]]:
    """The header, and the frames whose numbers, from 0, `choose` returns. Raises Unreadable."""
    with _opened(_read(data, where), where, max_pixels) as film:
        wanted = sorted(set(choose(film.header)))
        found = dict(film.frames(wanted))
    if lacking := [number for number in wanted if number not in found]:
        raise _cut_off(where, f"frame {lacking[0] + 1} of {film.header.frames:,} cannot be decoded")
    return film.header, found


def frames_in_bytes(names: Sequence[str], read: Callable[[str], bytes]) -> bytes:
    """The bytes of a folder of frames: its files in the order of `names`. Raises OSError; Unreadable for too many."""
    if len(names) > MOST_FRAMES:
        raise Unreadable(names[0], f"a folder of {several(len(names), 'frame')}", f"at most {MOST_FRAMES:,}")
    out, total = BytesIO(), 0
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            content = read(name)
            total += len(content)
            if total > MOST_BYTES:
                raise Unreadable(name, f"a folder of more than {MOST_BYTES:,} bytes", "a few hundred frames")
            archive.writestr(zipfile.ZipInfo(name.rpartition("/")[2]), content)
    return out.getvalue()


def frames_of_folder(folder: Path) -> list[str]:
    """Names of the pictures directly in a folder, in the order of their numbers where they have some."""
    names = [file.name for file in folder.iterdir() if is_frame(file.name)]
    return sorted(names, key=frame_order)


def read_folder(folder: Path) -> bytes:
    """The bytes of a folder of frames. Raises OSError; Unreadable where it has none."""
    names = frames_of_folder(folder)
    if not names:
        raise Unreadable(str(folder), "a folder without pictures", "a video, or a folder of its frames")
    return frames_in_bytes(names, lambda name: (folder / name).read_bytes())


def is_frame(name: str) -> bool:
    """Whether a file of this name is a frame of the folder that it lies in."""
    return not name.startswith(".") and Path(name).suffix.lower() in pictures.SUFFIXES - {".gif"}


def frame_order(name: str) -> tuple[object, ...]:
    """Key that sorts frame9.png before frame10.png."""
    digits = "".join(letter if letter.isdigit() else " " for letter in name).split()
    return (int(digits[-1][:18]) if digits else 0, name)


class _Film:
    """An open film: its `header`, and frames by their numbers."""

    header: ClipHeader

    def frames(self, wanted: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        raise NotImplementedError


class _Pictures(_Film):
    """Frames as files in an archive."""

    def __init__(self, archive: zipfile.ZipFile, where: str, max_pixels: int) -> None:
        self.archive, self.where, self.max_pixels = archive, where, max_pixels
        self.names = [info.filename for info in archive.infolist()]
        if not self.names:
            raise Unreadable(where, "a folder without frames", "pictures, one per frame")
        if len(self.names) > MOST_FRAMES or any(info.file_size > MOST_BYTES for info in archive.infolist()):
            raise Unreadable(where, f"{several(len(self.names), 'frame')}", f"at most {MOST_FRAMES:,}")
        height, width = self._frame(0).shape[:2]
        self.header = ClipHeader(width, height, len(self.names), _FIRST_FOLDER_RATE)

    def _frame(self, number: int) -> Frame:
        name = f"{self.where}/{self.names[number]}"
        with open_picture(self.archive.read(self.names[number]), name, self.max_pixels) as picture:
            turn = turn_of(picture)
            upright = picture if turn is None else picture.transpose(turn)
            return np.array(upright.convert("RGB"))

    def frames(self, wanted: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        for number in wanted:
            yield number, self._frame(number)


class _Gif(_Film):
    """An animated GIF, by Pillow."""

    def __init__(self, picture: Image.Image) -> None:
        self.picture = picture
        count: int = getattr(picture, "n_frames", 1)
        rate = 1000 / max(20, int(picture.info.get("duration", 0)) or 100)
        self.header = ClipHeader(picture.width, picture.height, count, rate)

    def frames(self, wanted: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        for number in wanted:
            self.picture.seek(number)
            yield number, np.array(self.picture.convert("RGB"))


class _Stream(_Film):
    """A film, by PyAV: the first stream of pictures in it."""

    def __init__(self, container: Any, where: str, max_pixels: int, reader: str) -> None:
        self.container, self.where = container, where
        if not container.streams.video:
            raise Unreadable(where, "a file without a video stream", "a video")
        self.stream = container.streams.video[0]
        context = self.stream.codec_context
        if context is None or not context.width or not context.height:
            raise Unreadable(where, "a video whose codec is not supported", "H.264, VP9, MPEG-4, …")
        most = min(max_pixels, MOST_PIXELS)
        if context.width * context.height > most:
            got = f"frames of {context.width} × {context.height} pixels, more than {most:,}"
            raise Unreadable(where, got, "smaller frames", "make them smaller, or leave the video out")
        context.options = {"max_pixels": str(most)}  # frames may have another size than the stream declares
        context.thread_count = 1  # files are decoded in threads
        if container.duration is not None and container.duration > MOST_SECONDS * 1_000_000:
            raise _too_long(where, f"{container.duration / 1e6:,.0f} seconds long")
        self.times, self.keys = self._index()
        rate = float(self.stream.average_rate or self.stream.guessed_rate or 25)
        turned = _quarters(self._first()) % 2 if reader == "mov" else 0  # films of telephones may be rotated
        width, height = (context.height, context.width) if turned else (context.width, context.height)
        self.header = ClipHeader(width, height, len(self.times), min(1000.0, max(0.1, rate)))
        if self.header.seconds > MOST_SECONDS:
            raise _too_long(where, f"{self.header.seconds:,.0f} seconds long")

    def _index(self) -> tuple[list[int], list[int]]:
        """The times of all frames, and those of keyframes, in units of the stream; for films without times, the numbers
        of frames, with only the first one as a keyframe."""
        times, keys = [], []
        for packet in self.container.demux(self.stream):
            if not packet.size:
                continue
            times.append(packet.pts)
            if packet.is_keyframe:
                keys.append(packet.pts)
            if len(times) > MOST_FRAMES:
                raise _too_long(self.where, f"more than {MOST_FRAMES:,} frames")
        if not times:
            raise Unreadable(self.where, "a video without frames", "a video")
        self.timed = None not in times and len(set(times)) == len(times)
        self.container.seek(0, backward=True, any_frame=False)
        return (sorted(times), sorted(keys)) if self.timed else (list(range(len(times))), [0])

    def _first(self) -> Any:
        """The first frame, decoded; the film is then rewound."""
        frame = next(self.container.decode(self.stream), None)
        if frame is None:
            raise Unreadable(self.where, "damaged: its first frame cannot be decoded", "a video")
        self.container.seek(0, backward=True, any_frame=False)
        return frame

    def frames(self, wanted: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        decoder, number, at = self.container.decode(self.stream), -1, -1
        for want in wanted:
            time = self.times[want]
            key = bisect_right(self.keys, time) - 1
            if self.timed and key >= 0 and self.keys[key] > self.times[max(0, at)] and want - at > 1:
                self.container.seek(self.keys[key], stream=self.stream, backward=True)
                decoder = self.container.decode(self.stream)
            for frame in decoder:
                number += 1
                shown = frame.pts if self.timed else number
                if shown is None or shown < time:
                    continue
                if frame.is_corrupt:
                    raise Unreadable(self.where, f"damaged: frame {want + 1} is incomplete", "a complete video")
                yield want, np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), _quarters(frame)))
                break
            at = want


def _quarters(frame: Any) -> int:
    """The number of counterclockwise quarter turns by which a frame is shown."""
    return round((frame.rotation or 0) / 90) % 4


def _read(data: bytes | Path, where: str) -> bytes:
    return sample_bytes(data, where, MOST_BYTES, "a video", "a few minutes of video", read_folder)


@contextmanager
def _opened(data: bytes, where: str, max_pixels: int) -> Iterator[_Film]:
    """The open film. Any error inside becomes Unreadable."""
    if not data:
        raise Unreadable(where, "an empty file", "a video")
    if data[:4] == b"PK\x03\x04":
        try:
            with zipfile.ZipFile(BytesIO(data)) as archive:
                yield _Pictures(archive, where, max_pixels)
        except Exception as error:  # damaged archives raise anything: BadZipFile, struct.error, ValueError, …
            if isinstance(error, Unreadable):
                raise
            raise Unreadable(where, "a damaged archive of frames", "a folder of frames") from None
        return
    if data[:3] == b"GIF":
        if not data.rstrip(b"\0").endswith(b";"):
            raise _cut_off(where, "its last frame has no end")
        with open_picture(data, where, min(max_pixels, MOST_PIXELS)) as picture:
            film = _Gif(picture)
            if film.header.frames <= MOST_FRAMES:
                yield film
                return
        raise _too_long(where, several(film.header.frames, "frame"))
    reader = _reader(data, where)
    av = av_library()
    try:
        with av.open(BytesIO(data), format=reader, metadata_errors="ignore") as container:
            yield _Stream(container, where, max_pixels, reader)
    except (av.FFmpegError, OSError, ValueError, RuntimeError, MemoryError, OverflowError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable(
            where, f"damaged, or in a format that is not supported ({type(error).__name__})", "a video"
        ) from None


def _reader(data: bytes, where: str) -> str:
    """FFmpeg's name of the reader for a file, by its first bytes. Raises Unreadable, also for a file that is shorter
    than it declares, which readers accept."""
    if data[4:8] in _TOP_BOXES:
        _refuse_cut_boxes(data, where)
        return "mov"
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        declared = int.from_bytes(data[4:8], "little") + 8
        if len(data) < declared:
            raise _cut_off(where, f"its header says {several(declared, 'byte')}, but it has {len(data):,}")
        return "avi"
    if data[:4] == b"\x1a\x45\xdf\xa3":
        _refuse_cut_segment(data, where)
        return "matroska"
    raise Unreadable(where, f"not a video: it begins with {data[:12]!r}", ".mp4, .mov, .avi, .mkv, .webm or .gif")


def _refuse_cut_boxes(data: bytes, where: str) -> None:
    """Raise Unreadable for an mp4 or mov that is cut off: it is a sequence of boxes, each with its size."""
    place, kinds = 0, set()
    while place + 8 <= len(data):
        size, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        if size == 1:
            size = int.from_bytes(data[place + 8 : place + 16], "big")
        kinds.add(kind)
        if size == 0:  # to the end of the file
            break
        if size < 8 or place + size > len(data):
            raise _cut_off(where, f"its part {kind!r} says {several(size, 'byte')}, but has {len(data) - place:,}")
        place += size
    if b"moov" not in kinds:
        raise _cut_off(where, "it has no index (moov)")


def _refuse_cut_segment(data: bytes, where: str) -> None:
    """Raise Unreadable for a Matroska or WebM file that is cut off: it is a header and a segment, whose size is unknown
    if it was written to a pipe."""
    place = 4 + _length(data, 4)[1] + _length(data, 4)[0]
    if data[place : place + 4] != b"\x18\x53\x80\x67":
        raise Unreadable(where, "damaged: no segment after its header", "a video")
    size, width = _length(data, place + 4)
    unknown = size == (1 << (7 * width)) - 1
    if not unknown and place + 4 + width + size > len(data):
        raise _cut_off(where, f"its header says {several(place + 4 + width + size, 'byte')}, but it has {len(data):,}")


def _length(data: bytes, place: int) -> tuple[int, int]:
    """A number in EBML, and its length in bytes."""
    first = data[place] if place < len(data) else 0
    width = 9 - first.bit_length() if first else 8
    value = int.from_bytes(data[place : place + width], "big") & ((1 << (7 * width)) - 1)
    return value, width


def _too_long(where: str, got: str) -> Unreadable:
    return Unreadable(
        where,
        f"{got}, more than the {MOST_SECONDS} seconds or {MOST_FRAMES:,} frames allowed for a sample",
        "a shorter clip of its class",
        "cut it into clips: ffmpeg -i FILE -f segment -segment_time 5 -reset_timestamps 1 clip%03d.mp4",
    )


def _cut_off(where: str, why: str) -> Unreadable:
    return Unreadable(where, f"cut off: {why}", "a complete video")
