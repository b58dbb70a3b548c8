"""idx files, the format of MNIST (http://yann.lecun.com/exdb/mnist): a folder of them, plain or .gz."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path

import numpy as np

from striate.data.listing import SPLIT_NAMES, Listing
from striate.data.sources.arrays import list_arrays
from striate.data.sources.tree import Tree, read_file, read_gz
from striate.errors import DataError
from striate.wording import several

_NAME = re.compile(
    r"(?:.*-)?(?P<split>train|t10k|test|val|valid|validation)[-_](?P<what>images|labels)[-.]idx[1-4][-.]u?byte(?P<gz>\.gz)?"
)
_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def is_idx(name: str) -> bool:
    """Whether a file has the name of an idx file of images or labels."""
    return _NAME.fullmatch(name) is not None


def parse_idx(data: bytes | bytearray, where: str) -> np.ndarray:
    """The array of an idx file; its header is checked against the length. Raises DataError.

    Layout: two zero bytes, type, number of axes, one big-endian uint32 an axis, then the values, big-endian.
    """
    dtype, shape = _header(data, where)
    expected = _length(dtype, shape)
    # A file without values may be right, but with an axis of 0, the other axes could exceed any array.
    if len(data) != expected or prod(max(n, 1) for n in shape) * dtype.itemsize >= 1 << 63:
        each = several(dtype.itemsize, "byte")
        raise _wrong_length(where, len(data), expected, f"{' × '.join(map(str, shape))} values of {each}")
    values = np.frombuffer(data, dtype, offset=4 + 4 * len(shape))
    return values.reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _header(data: bytes | bytearray, where: str) -> tuple[np.dtype, tuple[int, ...]]:
    """Type and shape, from the first bytes."""
    if len(data) < 4 or data[0] or data[1] or data[2] not in _TYPES or not 1 <= data[3] <= 4:
        raise DataError(
            where,
            f"a header that begins with the bytes {data[:4].hex(' ') or '(none)'}",
            "00 00, a type (08 for uint8) and the number of axes (01 for labels, 03 for images)",
            "get the file again: it is damaged, or not an idx file",
        )
    axes = data[3]
    if len(data) < 4 + 4 * axes:
        raise _wrong_length(where, len(data), 4 + 4 * axes, "the header alone")
    return np.dtype(_TYPES[data[2]]), tuple(int(n) for n in np.frombuffer(data, ">u4", axes, 4))


def _declared(head: bytes, where: str) -> int:
    """The length of the file in bytes, from its first bytes."""
    return _length(*_header(head, where))


def _length(dtype: np.dtype, shape: tuple[int, ...]) -> int:
    """The length of the file in bytes."""
    return 4 + 4 * len(shape) + prod(shape) * dtype.itemsize


def _wrong_length(where: str, got: int, expected: int, what: str) -> DataError:
    return DataError(
        where,
        several(got, "byte"),
        f"{several(expected, 'byte')}, since the header says {what}",
        "get the file again: it is cut off, or its header is damaged",
    )


def list_idx(tree: Tree, class_names: tuple[str, ...] = ()) -> Listing:
    """The idx files directly under the root: `train-*` is train, `t10k-*` and `test-*` are test."""
    found: dict[tuple[str, str], str] = {}
    ignored = list(tree.hidden) + [file for file in tree.files if "/" in file or not is_idx(file)]
    for file in tree.loose():
        match = _NAME.fullmatch(file)
        if match is None:
            continue
        word = match["split"]
        key = (SPLIT_NAMES["test" if word == "t10k" else word], match["what"])
        other = found.setdefault(key, file)
        if other != file:
            # torchvision leaves the .gz beside the unpacked file: the same data twice.
            if other.removesuffix(".gz") != file.removesuffix(".gz"):
                raise DataError(
                    f"data {tree.where}", f"{other} and {file}", f"one file for {' '.join(key)}", "move one away"
                )
            found[key] = min(other, file, key=len)
            ignored.append(max(other, file, key=len))
    return _list(tree, found, class_names, tuple(sorted(ignored)))


def list_idx_file(path: Path) -> Listing:
    """The split that one idx file belongs to, with its partner (images or labels) from the same folder."""
    match = _NAME.fullmatch(path.name)
    assert match is not None
    what = match["what"]
    partner = "labels" if what == "images" else "images"
    prefix = path.name[: match.start("what")]
    try:
        siblings = sorted(path.parent.iterdir())
    except OSError as error:
        got, parent = error.strerror or str(error), path.parent
        raise DataError(f"folder {parent}", got, "a folder that can be read", f"chmod u+rx '{parent}'") from None
    for file in siblings:
        other = _NAME.fullmatch(file.name)
        if other and other["what"] == partner and file.name.startswith(prefix + partner):
            break
    else:
        raise DataError(
            f"data {path}", f"no file of {partner} beside it", f"{prefix}{partner}-idx… in its folder", "add the file"
        )
    tree = Tree(
        str(path.parent),
        path.name,
        (path.name, file.name),
        (),
        (),
        lambda name: read_file(path.parent / name),
    )
    split = SPLIT_NAMES["test" if match["split"] == "t10k" else match["split"]]
    listing = _list(tree, {(split, what): path.name, (split, partner): file.name}, (), (), given=False)
    return replace(listing, source=str(path))


def _list(
    tree: Tree,
    found: dict[tuple[str, str], str],
    class_names: tuple[str, ...],
    ignored: tuple[str, ...],
    *,
    given: bool = True,
) -> Listing:
    blocks: dict[str | None, tuple[np.ndarray, np.ndarray]] = {}
    for split in sorted({split for split, _ in found}):
        pair = []
        for what, axes in (("images", 3), ("labels", 1)):
            if (split, what) not in found:
                got = ", ".join(found.values())
                raise DataError(f"data {tree.where}", got, f"also the {what} of {split}", "add the missing file")
            file = found[split, what]
            where = f"{tree.where}/{file}"
            array = parse_idx(read_gz(tree, file, partial(_declared, where=where)), where)
            if array.ndim != axes or (what == "labels" and array.dtype.kind not in "iu"):
                got = f"{several(array.ndim, 'axis', 'axes')} of {array.dtype}"
                raise DataError(
                    where, got, f"{several(axes, 'axis', 'axes')} for {what}", "check the names of the files"
                )
            pair.append(array)
        if len(pair[0]) != len(pair[1]):
            raise DataError(
                f"data {tree.where}, {split}",
                f"{several(len(pair[0]), 'image')} and {several(len(pair[1]), 'label')}",
                "a label for each image",
                "get both files again: they belong to different data sets",
            )
        blocks[split if given else None] = (pair[0], pair[1])
    return list_arrays(
        tree.name,
        tree.where,
        blocks,
        layout="NHW",
        class_names=class_names,
        ignored=ignored,
        notes=tree.notes,
    )
