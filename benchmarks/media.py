"""Reading sounds, clips and pictures from instruments, without a network: striate beside a DataLoader of torch.

Command: python benchmarks/media.py [--files 600] [--repeats 5]

The files are generated: recordings of two seconds at 44,100 Hz (16-bit WAV), of which log-mel spectrograms are made at
22,050 Hz; clips of 48 frames of 240 × 320 pixels (MPEG-4), of which 8 frames are taken, and scaled to 64 × 88; and
pictures of four channels of 16 bits, 384 × 384 pixels (TIFF, LZW), scaled to 192 × 192. A turn is an epoch in batches
of 64, in shuffled order; the system's cache of files is warm. The first epoch of striate is all from the folder to the
last batch: listing, hashing and headers of all files, decoding, splitting; later ones come from memory or are decoded
again (stream). The DataLoader has 2 workers of one thread, which read each file with soundfile, soxr and torch.stft,
with PyAV frame by frame, or with tifffile and torch's interpolation.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from common.contender import Contender
from common.gate import Gate
from common.measure import measure
from common.results import arguments, case, parsed, show, write_result

BATCH = 64


@dataclass(frozen=True)
class Kind:
    """What is read: `write(path, number)` makes one file with the `suffix`, `fields` of DataConfig say what is made of
    it, and the function named `plain` reads a path as a tensor, as a tutorial has it."""

    suffix: str
    write: Callable[[Path, int], None]
    fields: dict[str, Any]
    plain: str


def write_sound(path: Path, number: int) -> None:
    """Two seconds of a tone in noise."""
    import numpy as np
    import soundfile

    rng = np.random.default_rng(number)
    time = np.arange(2 * 44_100) / 44_100
    wave = 0.3 * np.sin(2 * np.pi * (300 + 20 * (number % 50)) * time) + 0.05 * rng.normal(size=len(time))
    soundfile.write(path, wave.astype("float32"), 44_100, "PCM_16")


def read_sound(path: Path) -> Any:
    """A log-mel spectrogram in decibels."""
    import soundfile
    import soxr
    import torch

    wave, rate = soundfile.read(path, dtype="float32")
    wave = torch.from_numpy(soxr.resample(wave, rate, 22_050))
    spectrum = torch.stft(wave, 1024, 220, window=torch.hann_window(1024), center=False, return_complex=True)
    return 10 * (mel_filters() @ spectrum.abs().square()).clamp_min(1e-10).log10()


@cache
def mel_filters() -> Any:
    """(64, 513) triangles at equal distances on the mel scale, for 22,050 Hz and windows of 1,024 samples."""
    import torch

    mels = torch.linspace(0, 2595 * math.log10(1 + 11_025 / 700), 66)
    low, middle, high = (700 * (10 ** (mels / 2595) - 1)).unfold(0, 3, 1).T[..., None]
    frequencies = torch.arange(513) * 22_050 / 1024
    return torch.minimum((frequencies - low) / (middle - low), (high - frequencies) / (high - middle)).clamp_min(0)


def write_clip(path: Path, number: int) -> None:
    """Two seconds in which a scene moves to the right."""
    import av
    import numpy as np

    rng = np.random.default_rng(number)
    scene = rng.integers(0, 256, (15, 20, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    with av.open(str(path), "w") as film:
        stream = film.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 320, 240, "yuv420p", 800_000
        for step in range(48):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.roll(scene, 2 * step, 1)), format="rgb24")
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))


def read_clip(path: Path) -> Any:
    """(3, 8, 64, 88) uint8: the middles of eight even parts."""
    import av
    import torch
    from torch.nn.functional import interpolate

    with av.open(str(path)) as film:
        film.streams.video[0].thread_type = "NONE"  # the workers are the threads
        frames = list(film.decode(video=0))
    chosen = [frames[int((k + 0.5) * len(frames) / 8)].to_ndarray(format="rgb24") for k in range(8)]
    pixels = torch.stack([torch.from_numpy(frame) for frame in chosen]).permute(0, 3, 1, 2).contiguous()
    return interpolate(pixels, (64, 88), mode="bilinear", antialias=True).transpose(0, 1).contiguous()


def write_bands(path: Path, number: int) -> None:
    """Four channels of smooth shapes with noise, 12 bits of 16."""
    import numpy as np
    import tifffile

    rng = np.random.default_rng(number)
    coarse = rng.integers(200, 3800, (4, 12, 12)).repeat(32, 1).repeat(32, 2)
    values = (coarse + rng.integers(0, 64, coarse.shape)).astype(np.uint16)
    how = {"photometric": "minisblack", "planarconfig": "contig", "compression": "lzw"}
    tifffile.imwrite(path, np.moveaxis(values, 0, -1), **how)


def read_bands(path: Path) -> Any:
    """(4, 192, 192) float32."""
    import numpy as np
    import tifffile
    import torch
    from torch.nn.functional import interpolate

    values = torch.from_numpy(tifffile.imread(path).astype(np.float32)).permute(2, 0, 1)
    return interpolate(values[None], (192, 192), mode="bilinear", antialias=True)[0]


KINDS = {
    "sounds": Kind("wav", write_sound, {"rate": 22_050}, "read_sound"),
    "clips": Kind("mp4", write_clip, {"frames": 8, "size": (64, 88), "view": "rgb"}, "read_clip"),
    "pictures from instruments": Kind("tif", write_bands, {"size": (192, 192)}, "read_bands"),
}
"""A further medium is a line here and its two functions. Files a second are clips a second, too."""


def write_files(folder: Path, kind: Kind, files: int) -> None:
    """train, val and test with two classes each."""
    for part, count in (("train", files), ("val", 8), ("test", 8)):
        for number in range(count):
            path = folder / part / "ab"[number % 2] / f"{number:05}.{kind.suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            kind.write(path, hash_of(part) + number)


def hash_of(part: str) -> int:
    """So that no two splits have the same file."""
    return {"train": 0, "val": 1_000_000, "test": 2_000_000}[part]


def torch_loader(gate: Gate, folder: str, suffix: str, plain: str) -> None:
    """Each file read in a worker."""
    from torch.utils.data import DataLoader, Dataset

    class Files(Dataset):
        def __init__(self) -> None:
            self.files = sorted((Path(folder) / "train").rglob(f"*.{suffix}"))

        def __len__(self) -> int:
            return len(self.files)

        def __getitem__(self, i: int) -> Any:
            return globals()[plain](self.files[i]), i

    loader = DataLoader(Files(), BATCH, shuffle=True, num_workers=2)
    while True:
        gate.begin()
        gate.end(sum(len(inputs) for inputs, _ in loader))


def striate_first_epoch(gate: Gate, folder: str, fields: dict[str, Any], store: str) -> None:
    """Everything from the folder to the last batch, with nothing kept from before."""
    for turn in itertools.count():
        gate.begin()
        read = _read(folder, fields, store)
        gate.end(_pass(read, turn) + len(read.splits["val"]) + len(read.splits["test"]))


def striate_later_epoch(gate: Gate, folder: str, fields: dict[str, Any], store: str) -> None:
    """An epoch over data that were read before."""
    read = _read(folder, fields, store)
    for turn in itertools.count():
        gate.begin()
        gate.end(_pass(read, turn))


def _read(folder: str, fields: dict[str, Any], store: Any) -> Any:
    from striate.data.config import DataConfig
    from striate.data.read import load_dataset

    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    return load_dataset(DataConfig(source=folder, store=store, **fields))


def _pass(read: Any, epoch: int) -> int:
    from striate.data.loader import batches, epoch_order

    train = read.splits["train"]
    return sum(len(batch.ids) for batch in batches(train, BATCH, order=epoch_order(len(train), 0, epoch)))


def contenders(folder: str, kind: Kind, *, first: bool) -> list[Contender]:
    """All of a case."""
    function = "striate_first_epoch" if first else "striate_later_epoch"
    ours = [
        Contender(f"striate, {store}", function, {"folder": folder, "fields": kind.fields, "store": store}, ours=True)
        for store in ("memory", "stream")
    ]
    plain = {"folder": folder, "suffix": kind.suffix, "plain": kind.plain}
    return [*ours, Contender("torch DataLoader, 2 workers", "torch_loader", plain)]


def main() -> None:
    """Measure, print, write."""
    parser = arguments(__doc__, repeats=5)
    parser.add_argument("--files", type=int, default=600)
    asked = parsed(parser)
    files = 64 if asked.quick else asked.files
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, kind) in enumerate(KINDS.items()):
            data = Path(folder) / str(number)
            write_files(data, kind, files)
            for first in (True, False):
                taking_part = contenders(str(data), kind, first=first)
                found = measure(__file__, taking_part, repeats=asked.repeats, gently=asked.quick, watch=True)
                which = "first epoch, from the folder on" if first else "later epochs"
                cases.append(case(f"{name}, {which}", found, options={"files": files, "batch": BATCH}))
                print(show(cases[-1]), flush=True)
    write_result(__file__, asked, cases, about=__doc__.split("\n\n")[2])


if __name__ == "__main__":
    main()
