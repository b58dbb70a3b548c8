"""What reads bytes of strangers, as functions of these bytes. The only outcomes allowed: a value, or a StriateError.

Each target has seeds, whole files of its format, from which mutations begin.
"""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.io import savemat

from striate.data.dataset import Preparation
from striate.data.media.image.pictures import decode_image, read_header
from striate.data.sources.archive import archive_tree
from striate.data.sources.idx import parse_idx
from striate.data.sources.manifest import list_manifest
from striate.data.sources.npz import list_npz
from striate.data.sources.shards import is_shard, list_shards
from striate.data.sources.svhn import list_svhn_file
from striate.data.sources.unpickle import load_plain
from striate.errors import StriateError
from striate.models.layer_strings.layer_string import parse_layers
from striate.models.layer_strings.outputs import plan_outputs
from striate.models.weights.weights_file import read_weights
from striate.training.config import Config
from striate.training.config_file import config_from_yaml, with_fields
from striate.visualize.kernel_text import parse_kernel

_FOLDER = Path(tempfile.mkdtemp(prefix="striate-fuzz-"))


def _file(name: str, data: bytes) -> Path:
    path = _FOLDER / name
    path.write_bytes(data)
    return path


def layers(data: bytes) -> None:
    """A layer string, alone and as a network for small pictures."""
    text = data.decode("utf-8", "replace")
    parse_layers(text)
    plan_outputs(text, (1, 12, 12), 3, False, ())


def manifest(data: bytes) -> None:
    """The rows of a manifest; x.png is there."""
    _file("x.png", b"")
    list_manifest(_file("list.csv", data), "auto")


def idx(data: bytes) -> None:
    """An idx file."""
    parse_idx(data, "idx")


def npz(data: bytes) -> None:
    """An array in an .npz, whose header is the file's own."""
    labels = io.BytesIO()
    np.save(labels, np.arange(4))
    with zipfile.ZipFile(_FOLDER / "x.npz", "w") as archive:
        archive.writestr("x.npy", data)
        archive.writestr("y.npy", labels.getvalue())
    list_npz(_FOLDER / "x.npz", "auto")


def npz_file(data: bytes) -> None:
    """An .npz as a whole."""
    list_npz(_file("whole.npz", data), "auto")


def cifar(data: bytes) -> None:
    """A pickle of CIFAR."""
    load_plain(data, "pickle")


def config(data: bytes) -> None:
    """A configuration file, and the same text as a field."""
    with suppress(StriateError):
        config_from_yaml(_file("x.yaml", data))
    with_fields(Config(), {"data.size": data.decode("utf-8", "replace")})


def kernel(data: bytes) -> None:
    """A kernel as text."""
    parse_kernel(data.decode("utf-8", "replace"))


def weights(data: bytes) -> None:
    """A file of weights: of torch, in both of its formats, or of safetensors."""
    read_weights(str(_file("w.pt", data)))


def weights_pickle(data: bytes) -> None:
    """The pickle within a file of torch."""
    with zipfile.ZipFile(_FOLDER / "p.pt", "w") as archive:
        archive.writestr("p/data.pkl", data)
        archive.writestr("p/version", "3\n")
        archive.writestr("p/byteorder", "little")
        archive.writestr("p/data/0", bytes(16))
    read_weights(str(_FOLDER / "p.pt"))


def archive(data: bytes) -> None:
    """A tar, tar.gz or zip by its beginning, and every file in it; shards are tars."""
    suffix = ".zip" if data.startswith(b"PK") else ".tar.gz" if data.startswith(b"\x1f\x8b") else ".tar"
    path = _file(f"x{suffix}", data)
    tree = archive_tree(path)
    for file in tree.files[:20]:
        with suppress(OSError):
            tree.read(file)
    if suffix == ".tar" and is_shard(tree):
        list_shards([path], str(path))


def picture(data: bytes) -> None:
    """A picture: its header, and its pixels."""
    with suppress(StriateError):
        read_header(data, "picture", max_pixels=100_000)
    decode_image(data, "picture", Preparation("image", (3, 8, 8), max_pixels=100_000, reduced=True))


def mat(data: bytes) -> None:
    """A MATLAB file of SVHN."""
    list_svhn_file(_file("x.mat", data))


def _bytes_of(write: Callable[[io.BytesIO], object]) -> bytes:
    out = io.BytesIO()
    write(out)
    return out.getvalue()


def _tar(kind: int, names: tuple[str, ...] = ("cat/0.png", "dog/1.png"), mode: str = "w") -> bytes:
    def write(out: io.BytesIO) -> None:
        with tarfile.open(fileobj=out, mode=mode, format=kind) as made:  # type: ignore[call-overload]
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = 3
                made.addfile(info, io.BytesIO(b"abc"))

    return _bytes_of(write)


def _zip(method: int) -> bytes:
    def write(out: io.BytesIO) -> None:
        with zipfile.ZipFile(out, "w", method) as made:
            made.writestr("cat/0.png", b"abc" * 30)
            made.writestr("dog/1.png", b"abc" * 30)

    return _bytes_of(write)


def _pictures() -> list[bytes]:
    image = Image.fromarray(np.arange(12 * 9 * 3, dtype=np.uint8).reshape(9, 12, 3))
    forms = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000")
    return [_bytes_of(lambda out, form=form: image.save(out, form)) for form in forms]  # type: ignore[misc]


_TENSORS = {"model": {"fc.weight": torch.arange(4.0).view(2, 2)}, "epoch": 3, "lr": [0.1], "text": "ä"}
_ZIPPED = _bytes_of(lambda out: torch.save(_TENSORS, out))
with zipfile.ZipFile(io.BytesIO(_ZIPPED)) as _saved:
    _PICKLE = _saved.read(next(name for name in _saved.namelist() if name.endswith("data.pkl")))

TARGETS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "layers": (
        layers,
        [
            b"conv(16,5) relu pool(2) conv(24,5,pad=same) relu pool(2) fc(64) relu dropout(0.5) fc(10)",
            b"3*[conv(8,3x3,stride=2,pad=1,bias=False) bn relu] res[conv(8,3,pad='same')] gap fc(3)",
            b"local(4,3) lrn lcn gn(2) ln leaky(0.1) maxout(2) up(2) chpool(2) l2pool(2) avgpool(3,1,1) softmax",
        ],
    ),
    "manifest": (
        manifest,
        [b"path,label\nx.png,cat\n", b'\xef\xbb\xbfpath,label,split,group\r\nx.png,"a,b",train,1\r\n'],
    ),
    "idx": (
        idx,
        [bytes([0, 0, 8, 3]) + struct.pack(">3I", 2, 2, 2) + bytes(8), bytes([0, 0, 13, 1, 0, 0, 0, 1]) + bytes(4)],
    ),
    "npz": (npz, [_bytes_of(lambda out: np.save(out, np.zeros((4, 3), np.float32)))]),
    "npz-file": (npz_file, [_bytes_of(lambda out: np.savez(out, x=np.zeros((4, 3)), y=np.arange(4)))]),
    "cifar": (
        cifar,
        [pickle.dumps({"data": np.zeros((2, 12), np.uint8), "labels": [0, 1], b"x": "y"}, k) for k in (0, 2, 4, 5)],
    ),
    "config": (
        config,
        [b"seed: 3\noptim: {lr: 0.1}\ndata:\n  size: [32, 32]\n  source: mnist5k\n", b"[32, 32]", b"null"],
    ),
    "kernel": (kernel, [b"0 -1 0; -1 5 -1; 0 -1 0", b"1/9 1/9 1/9 /4", b"1, 2.5e-3, .5 # text"]),
    "weights": (
        weights,
        [
            _ZIPPED,
            _bytes_of(lambda out: torch.save(_TENSORS, out, _use_new_zipfile_serialization=False)),
            b"\x4b\0\0\0\0\0\0\0" + b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'.ljust(75) + bytes(8),
        ],
    ),
    "weights-pickle": (weights_pickle, [_PICKLE]),
    "archive": (
        archive,
        [
            _tar(tarfile.USTAR_FORMAT),
            _tar(tarfile.PAX_FORMAT, ("cat/" + "ä" * 120 + ".png",)),
            _tar(tarfile.GNU_FORMAT, ("a.jpg", "a.cls")),
            _tar(tarfile.GNU_FORMAT, mode="w:gz"),
            *map(_zip, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)),
        ],
    ),
    "picture": (picture, _pictures()),
    "mat": (
        mat,
        [
            _bytes_of(
                lambda out: savemat(out, {"X": np.zeros((2, 2, 3, 2), np.uint8), "y": np.ones((2, 1), np.uint8)})
            ),
            _bytes_of(lambda out: savemat(out, {"X": np.zeros((2, 2, 3, 2)), "y": np.ones(2)}, do_compression=True)),
        ],
    ),
}


def attempt(name: str, data: bytes) -> None:
    """Run a target; whatever it raises but StriateError is a fault of ours."""
    with suppress(StriateError):
        TARGETS[name][0](data)
