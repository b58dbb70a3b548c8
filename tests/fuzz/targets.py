"""What reads bytes of strangers, as functions of these bytes. The only outcomes allowed: a value, or a StriateError.

Each target has seeds, whole files of its format, from which mutations begin.
"""

from __future__ import annotations

import atexit
import io
import json
import pickle
import shutil
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import av
import numpy as np
import soundfile
import tifffile
import torch
from PIL import Image
from scipy.io import savemat

from striate.data.config import DataConfig
from striate.data.dataset import Preparation
from striate.data.media.clip.clip_files import frames_in_bytes, read_frames
from striate.data.media.every_medium import medium_of
from striate.data.media.image.pictures import decode_image, decode_mask, read_header
from striate.data.media.image.raster_files import DEPTHS, header_of
from striate.data.sources.archive import archive_tree
from striate.data.sources.idx import parse_idx
from striate.data.sources.list_source import list_source
from striate.data.sources.manifest import list_manifest
from striate.data.sources.npz import list_npz, npz_inputs
from striate.data.sources.other_layouts import instead_of_pictures, listing_tables, refuse_other_layouts
from striate.data.sources.shard_index import INDEX, UNFINISHED
from striate.data.sources.shards import is_shard, list_folder, list_shards
from striate.data.sources.svhn import list_svhn_file
from striate.data.sources.tree import Tree
from striate.data.sources.unpickle import load_plain
from striate.data.store.build import build_pack
from striate.data.store.pack import open_pack
from striate.data.write_shards import fingerprint_of_listing, write_shards
from striate.errors import DataError, StriateError
from striate.models.layer_strings.layer_string import parse_layers
from striate.models.layer_strings.outputs import plan_outputs
from striate.models.weights.weights_file import read_weights
from striate.training.config import Config
from striate.training.config_file import config_from_yaml, with_fields
from striate.visualize.kernel_text import parse_kernel

_MEMORY = Path("/dev/shm")  # where flushing takes no time
_FOLDER = Path(tempfile.mkdtemp(prefix="striate-fuzz-", dir=_MEMORY if _MEMORY.is_dir() else None))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)


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


def _small_set() -> Path:
    """A folder of four pictures in two classes."""
    folder = _FOLDER / "small"
    for k in () if folder.exists() else range(4):
        (folder / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
        (folder / "ab"[k % 2] / f"{k}.png").write_bytes(_PICTURE)
    return folder


def _shards(out: Path) -> Path:
    """That set in four shards, whole."""
    if not out.exists():
        write_shards(DataConfig(source=str(_small_set())), out, 1e-6)
    return out


def shards(data: bytes) -> None:
    """A shard without an index."""
    listing = list_shards([_file("other.tar", data)], "other")
    for i in range(len(listing)):
        with suppress(OSError):
            listing.read(i)  # type: ignore[misc]


def shard_index(data: bytes) -> None:
    """The index beside whole shards: all samples, or none."""
    folder = _shards(_FOLDER / "whole")
    (folder / INDEX).write_bytes(data)
    try:
        listing = list_folder(folder)
    except DataError:
        return
    assert len(listing) == 4, "fewer samples, and no word"


def shard_journal(data: bytes) -> None:
    """The list of shards that are done in a set that was interrupted: it is not read, and packing goes on to the whole
    set."""
    folder = _shards(_FOLDER / "begun")
    (folder / INDEX).unlink(missing_ok=True)
    (folder / UNFINISHED).write_bytes(data)
    with suppress(DataError):
        list_folder(folder)
        raise AssertionError("a set that was interrupted is read")
    (folder / UNFINISHED).write_bytes(_begun() + data)
    write_shards(DataConfig(source=str(_small_set())), folder, 1e-6)
    assert len(list_folder(folder)) == 4, "fewer samples, and no word"


def _begun() -> bytes:
    """The first line of that list."""
    source = str(_small_set())
    listing = list_source(DataConfig(source=source), "class", None)
    begun = {"source": source, "megabytes": 1e-6, "samples": fingerprint_of_listing(listing)}
    return json.dumps(begun).encode() + b"\n"


_SHAPE = (3, 1, 2, 2)


def _build() -> None:
    def read(row: int, out: np.ndarray) -> None:
        out[...] = row

    silent: Callable[[object], None] = lambda _: None  # noqa: E731
    build_pack(_FOLDER, "0f", read, _SHAPE, source="here", progress=silent, announce=silent)


def _check_pack() -> None:
    pack = open_pack(_FOLDER / "0f", "0f", _SHAPE, check=True)
    if pack is not None:
        out = np.empty(_SHAPE, np.uint8)
        pack.read(np.arange(3), out)
        assert (out == np.arange(3).reshape(3, 1, 1, 1)).all(), "other pixels than were packed"


def pack_record(data: bytes) -> None:
    """pack.json beside the numbers of a pack."""
    if not (_FOLDER / "0f").exists():
        _build()
    (_FOLDER / "0f" / "pack.json").write_bytes(data)
    _check_pack()


def pack_journal(data: bytes) -> None:
    """The list of blocks that are done in a pack that was interrupted: packing goes on to the whole."""
    shutil.rmtree(_FOLDER / "0f", ignore_errors=True)
    work = _FOLDER / "0f.building"
    work.mkdir(exist_ok=True)
    (work / "inputs").write_bytes(bytes(4))
    (work / "blocks.jsonl").write_bytes(data)
    _build()
    _check_pack()
    assert (_FOLDER / "0f").exists(), "no pack"


def layouts(data: bytes) -> None:
    """What is read of other tasks' layouts: VOC, LabelMe, COCO, captions, YOLO, tables beside pictures."""
    for name in ("0.xml", "0.json", "0.txt", "list.csv", "masks/0.png"):
        files = {"images/0.png": _PICTURE, "images/1.png": _PICTURE, name: data}
        folders = tuple({str(PurePosixPath(file).parent) for file in files} - {"."})
        tree = Tree("here", "here", tuple(sorted(files)), folders, (), files.__getitem__)
        with suppress(StriateError):
            refuse_other_layouts(tree)
        list(listing_tables(tree))
        instead_of_pictures(tree)


def mask(data: bytes) -> None:
    """A mask's pixels."""
    decode_mask(data, "mask", max_pixels=100_000)


def table(data: bytes) -> None:
    """A manifest whose labels are asked for as numbers, and as classes, with named columns."""
    _file("x.png", b"")
    path = _file("table.csv", data)
    for annotation in ("number", "class"):
        with suppress(StriateError):
            list_manifest(path, annotation, {"path": "file", "label": "kind"})


def inputs_of_arrays(data: bytes) -> None:
    """An .npz that is given to a trained network."""
    for form in (Preparation("image", (3, 8, 8)), Preparation("grid", (1, 5, 5)), Preparation("table", (4,))):
        with suppress(StriateError):
            npz_inputs(_file("inputs.npz", data), form)


def picture(data: bytes) -> None:
    """A picture: its header, and its pixels."""
    with suppress(StriateError):
        read_header(data, "picture", max_pixels=100_000)
    decode_image(data, "picture", Preparation("image", (3, 8, 8), max_pixels=100_000, reduced=True))


def raster(data: bytes) -> None:
    """A picture from an instrument: its header, and its levels, of one page and of all."""
    limit = 100_000
    with suppress(StriateError):
        header_of(data, "picture", max_pixels=limit)
    for pages, channels in (("first", 1), ("channels", 3)):
        low, high = channels * (0.0,), channels * (4095.0,)
        how = Preparation(
            "raster", (channels, 8, 8), max_pixels=limit, low=low, high=high, depths=tuple(DEPTHS), pages=pages
        )
        with suppress(StriateError):
            medium_of("raster").decode(data, "picture", how)


def sound(data: bytes) -> None:
    """A sound: its header, and its spectrogram."""
    with suppress(StriateError):
        medium_of("spectrogram").header(data, "sound", max_pixels=1)
    how = Preparation("spectrogram", (1, 64, 9), rate=8000, samples=1200, window=512, hop=80)
    medium_of("spectrogram").decode(data, "sound", how)


def film(data: bytes) -> None:
    """A film, or an archive of frames: all of its frames."""
    read_frames(data, "film", lambda header: range(header.frames), 100_000)


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


def _rasters() -> list[bytes]:
    values = (np.arange(3 * 12 * 9, dtype=np.uint16) * 11).reshape(3, 12, 9)
    gray: dict[str, Any] = {"photometric": "minisblack"}
    files = [
        (values[0], gray),
        (values, gray),
        (values, gray | {"planarconfig": "separate", "compression": "lzw", "predictor": True}),
        (values, gray | {"bigtiff": True, "compression": "zlib"}),
        (np.moveaxis(values, 0, -1), {"photometric": "rgb", "tile": (16, 16)}),
        (values[0].astype(np.float32), gray | {"extratags": [(42113, "s", 0, "-9999", True)]}),
    ]
    made = [_bytes_of(lambda out, x=x, how=how: tifffile.imwrite(out, x, **how)) for x, how in files]  # type: ignore[misc]
    deep = Image.fromarray(values[0])
    return [*made, *(_bytes_of(lambda out, f=f: deep.save(out, f)) for f in ("PNG", "JPEG2000", "PPM"))]  # type: ignore[misc]


def _sounds() -> list[bytes]:
    wave = np.sin(np.arange(1500) / 5).astype(np.float32) / 2
    forms = (("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", None))
    return [
        _bytes_of(lambda out, f=f: soundfile.write(out, wave, 8000, f[1], format=f[0]))  # type: ignore[misc]
        for f in forms
    ]


def _films() -> list[bytes]:
    frames = [np.full((16, 16, 3), 40 * k, np.uint8) for k in range(4)]
    made = []
    for form, codec in (("mp4", "mpeg4"), ("avi", "mjpeg"), ("matroska", "libx264"), ("webm", "libvpx")):
        out = io.BytesIO()
        with av.open(out, "w", format=form) as container:
            stream = container.add_stream(codec, rate=10)
            stream.width, stream.height = 16, 16
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
            container.mux(stream.encode())
        made.append(out.getvalue())
    first, *rest = map(Image.fromarray, frames)
    made.append(_bytes_of(lambda out: first.save(out, "GIF", save_all=True, append_images=rest)))
    return [*made, frames_in_bytes(["0.png", "1.png"], lambda _: _PICTURE)]


_PICTURE = _bytes_of(lambda out: Image.new("L", (4, 4), 7).save(out, "PNG"))


def _left_by(make: Callable[[], object], file: Path) -> bytes:
    make()
    return file.read_bytes()


def _journal() -> bytes:
    """Lines of the shards that are done where the last was being written."""
    rows = json.loads((_shards(_FOLDER / "begun") / INDEX).read_bytes())["shards"]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows[:3])


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
    "mask": (mask, _pictures()),
    "raster": (raster, _rasters()),
    "sound": (sound, _sounds()),
    "film": (film, _films()),
    "shards": (shards, [_tar(tarfile.USTAR_FORMAT, ("0.png", "0.cls")), _tar(tarfile.PAX_FORMAT, ("ä.jpg", "ä.cls"))]),
    "shard-index": (shard_index, [_left_by(lambda: _shards(_FOLDER / "whole"), _FOLDER / "whole" / INDEX)]),
    "shard-journal": (shard_journal, [_journal()]),
    "pack-record": (pack_record, [_left_by(_build, _FOLDER / "0f" / "pack.json")]),
    "pack-journal": (pack_journal, [b'{"digest": "%s", "unreadable": {"1": "cut off"}}\n' % (b"0" * 32)]),
    "layouts": (
        layouts,
        [
            b"<annotation><object><bndbox><xmin>1</xmin></bndbox></object></annotation>",
            b'{"shapes": [], "imagePath": "0.png"}',
            b'{"images": [{"id": 0}], "annotations": [{"bbox": [0, 0, 1, 1], "caption": "a"}]}',
            b"0 0.5 0.5 0.25 .1\n1 0.5 0.5 0.25 1e-1\n",
            b"file,caption\nimages/0.png,a cat\nimages/1.png,a dog\n",
            _PICTURE,
        ],
    ),
    "table": (
        table,
        [
            b"file,kind,split,group\nx.png,1.5,train,a\nx.png,-2e3,test,b\n",
            b"file;kind;age\nx.png;cat;3\n",
            b"file\tkind\nx.png\t7\n",
        ],
    ),
    "arrays-to-predict": (
        inputs_of_arrays,
        [
            _bytes_of(lambda out: np.savez(out, x_test=np.zeros((2, 8, 8, 3), np.uint8), y_test=np.arange(2))),
            _bytes_of(lambda out: np.savez_compressed(out, images=np.zeros((2, 5, 5), np.float32))),
            _bytes_of(lambda out: np.savez(out, np.zeros((3, 4)))),
        ],
    ),
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
