"""NumPy archives with the arrays x_train y_train x_test y_test, optionally x_val y_val; or x y; or other usual names;
optionally groups for each. Also a folder with one archive, or with one for each split."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.data.config import Layout
from striate.data.listing import SPLIT_NAMES, Listing
from striate.data.media.medium import Preparation
from striate.data.sources.arrays import inputs_like, list_arrays
from striate.data.sources.source_names import check_names, names_remedy
from striate.data.sources.tree import check_size, folder_tree, too_much, unpacked_limit
from striate.errors import DataError, StriateError, pasted
from striate.wording import listed, several

_EXPECTED = "the arrays x_train, y_train, x_test, y_test (and x_val, y_val), or x and y"


_WORDS = {
    **dict.fromkeys(("x", "images", "image", "imgs", "data", "inputs", "input", "features"), "x"),
    **dict.fromkeys(("y", "labels", "label", "targets", "target"), "y"),
    **dict.fromkeys(("groups", "group"), "groups"),
}
"""Usual names of arrays (in any case), and the names under which they are read."""
_SPLITS = {**SPLIT_NAMES, "tr": "train", "te": "test"}
_CLASSES = ("classes", "class_names", "label_names")
"""Names of arrays with the names of the classes 0, 1, …, or of the columns of `y`."""
_NAMES = tuple(f"{axis}{split}" for split in ("", "_train", "_val", "_test") for axis in ("x", "y", "groups"))


def list_npz(
    path: Path, layout: Layout, names: Mapping[str, str] | None = None, *, needs_targets: bool = True
) -> Listing:
    """The arrays of an .npz, loaded without pickles. `names`: the names in the file of the arrays that are read. Raises
    DataError."""
    return _listing(path.stem, path, {None: _read(path, names, needs_targets)}, layout)


def npz_of_folder(folder: Path) -> dict[str | None, Path]:
    """The .npz files of a folder that are a data set: the only one, under None, or one for each split (`train.npz`,
    `test.npz`). Empty where there are none, or others, or folders that are not runs."""
    entries = [one for one in folder.iterdir() if not one.name.startswith(".")]
    found = sorted(one for one in entries if one.suffix.lower() == ".npz")
    if not found or (any(one.is_dir() for one in entries) and folder_tree(folder).folders):
        return {}
    if len(found) == 1:
        return {None: found[0]}
    splits: dict[str | None, Path] = {SPLIT_NAMES.get(one.stem.lower()): one for one in found}
    return {} if None in splits or len(splits) < len(found) else splits


def list_npz_folder(
    folder: Path, files: Mapping[str | None, Path], layout: Layout, *, needs_targets: bool = True
) -> Listing:
    """The arrays of the files that `npz_of_folder` found. Raises DataError."""
    read = {split: _read(path, None, needs_targets) for split, path in files.items()}
    if len(read) > 1 and (other := next((files[split] for split, one in read.items() if "x" not in one.arrays), None)):
        got = "several files, and one of them has arrays for several splits"
        raise DataError(
            f"data {other}", got, "the arrays x and y", f"give the file alone: striate train {pasted(other)}"
        )
    listing = _listing(folder.name, folder, read, layout)
    parts = [path.name if split is None else f"{path.name} ({split})" for split, path in files.items()]
    tree = folder_tree(folder)
    others = sorted({*tree.files, *tree.hidden} - {path.name for path in files.values()})
    notes = (f"Files: {listed(parts)}.", *listing.notes, *tree.notes)
    return replace(listing, notes=notes, ignored=(*listing.ignored, *others))


@dataclass(frozen=True)
class _Archive:
    """The arrays of a file by the names under which they are read, its class names, and the other arrays."""

    path: Path
    arrays: dict[str, NDArray[Any]]
    classes: tuple[str, ...]
    ignored: tuple[str, ...]
    notes: tuple[str, ...]


def _read(path: Path, names: Mapping[str, str] | None, needs_targets: bool) -> _Archive:
    with _opened(path) as file:
        there = file.files
        if names:
            check_names(names, there, _NAMES)
        called = dict(names) if names else _called(there)
        arrays = {name: file[called[name]] for name in sorted(called)}
        shapes = {} if _complete(called) else {name: np.shape(file[name]) for name in there[:20]}
        if other := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
            raise ValueError(f"{other[0]} is not an array")  # numpy returns bytes for members that are not arrays
        classes = _classes(file)
    if not needs_targets and not any(name[0] == "y" for name in arrays):
        arrays |= {f"y{name[1:]}": np.empty((*x.shape[:1], 0)) for name, x in arrays.items() if name[0] == "x"}
    if not _complete(arrays):
        raise _unknown(path, shapes)
    belonging = {f"groups{name[1:]}" for name in arrays if name[0] == "x"}
    used = {called[name] for name in called if not name.startswith("groups") or name in belonging}
    ignored = tuple(sorted(set(there) - used))
    other = [f"{given} as {name}" for name, given in called.items() if given != name]
    notes = (f"Arrays: {', '.join(other)}.",) if other else ()
    return _Archive(path, arrays, classes, ignored, notes)


def _classes(file: Any) -> tuple[str, ...]:
    """The class names in the file, if they differ; else empty."""
    names = next((file[name] for name in _CLASSES if name in file.files), np.empty(0))
    if not isinstance(names, np.ndarray) or names.ndim != 1 or names.dtype.kind != "U" or len(set(names)) < len(names):
        return ()
    return tuple(map(str, names))


def _named(path: Path, names: tuple[str, ...], targets: Sequence[NDArray[Any]]) -> tuple[str, ...]:
    """The names, if the targets are class numbers or have several columns; else empty. Raises DataError if there are
    not as many names as these need."""
    if not names or any(y.size == 0 or y.dtype.kind not in "iubf" for y in targets):
        return ()
    numbers = all(y.dtype.kind in "iub" and y.shape in ((len(y),), (len(y), 1)) for y in targets)
    if not numbers and any(y.ndim != 2 or y.shape[1] < 2 for y in targets):
        return ()
    if numbers:
        first, last = min(int(y.min()) for y in targets), max(int(y.max()) for y in targets)
        wanted, what, fits = (
            "each class number",
            f"class numbers from {first} to {last}",
            0 <= first <= last < len(names),
        )
    else:
        columns = max(y.shape[1] for y in targets)
        wanted, what, fits = "each column of y", several(columns, "column"), columns == len(names)
    if not fits:
        raise DataError(
            f"data {path}, class names",
            f"{several(len(names), 'name')} for {what}",
            f"a name for {wanted}, the first for 0",
            "save the array of names complete, or leave it out",
        )
    return names


def _listing(name: str, path: Path, read: Mapping[str | None, _Archive], layout: Layout) -> Listing:
    """One listing of the archives, which are one for each split, or a single one."""
    first = next(iter(read.values()))
    if len(read) == 1:
        arrays, origin = first.arrays, f"{first.path}"
    else:
        arrays = {
            f"{kind}_{split}": a for split, one in read.items() for kind, a in one.arrays.items() if "_" not in kind
        }
        origin = f"{path}"
    blocks = _blocks(Path(origin), arrays)
    groups = _groups(Path(origin), arrays, blocks)
    same = first.classes if all(one.classes == first.classes for one in read.values()) else ()
    classes = _named(Path(origin), same, [y for _, y in blocks.values()])
    ignored = sorted(
        {one for archive in read.values() for one in archive.ignored} - ({*_CLASSES} if classes else set())
    )
    notes = tuple(dict.fromkeys(note for archive in read.values() for note in archive.notes))
    listing = list_arrays(
        name, str(path), blocks, layout=layout, class_names=classes, ignored=tuple(ignored), notes=notes
    )
    return replace(listing, groups=groups)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The open file, without pickles. Any error while it is read becomes a DataError."""
    try:
        with zipfile.ZipFile(path) as archive:
            members, packed = archive.infolist(), path.stat().st_size
        limit = unpacked_limit(packed, in_memory=True)
        if sum(member.file_size for member in members) > limit:
            raise too_much(f"data {path}", limit, packed)
        # Other methods can unpack gigabytes in one call, without a limit.
        if {member.compress_type for member in members} - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise ValueError("compressed with a method that NumPy does not use")
        with np.load(path, allow_pickle=False) as file:
            yield file
    except StriateError:
        raise
    # numpy parses headers from the file, and every decompressor has errors of its own.
    except Exception as error:
        raise _damaged(path, error) from None


def npz_inputs(path: Path, preparation: Preparation) -> dict[str, np.ndarray]:
    """The inputs of an .npz as raw inputs of a trained network, by names such as `file.npz#3`, or `file.npz#test/3` in
    a file with splits. Targets are not needed, and a single array may have any name. Raises DataError."""
    with _opened(path) as file:
        called = _called(file.files)
        names = [name for name in called if name[0] == "x"] or (file.files if len(file.files) == 1 else [])
        arrays = {name.removeprefix("x").strip("_"): file[called.get(name, name)] for name in names}
    if not arrays:
        raise DataError(
            f"data {path}", f"arrays called {listed(list(called), 8)}", "an array x", "numpy.savez(path, x=x)"
        )
    found = {}
    for split, array in arrays.items():
        before = f"{split}/" if split in SPLIT_NAMES else ""
        for number, values in enumerate(inputs_like(array, preparation, str(path))):
            found[f"{path}#{before}{number}"] = values
    return found


def npy_inputs(path: Path, preparation: Preparation) -> dict[str, np.ndarray]:
    """The same for an .npy: one sample under the name of the file, or several along the first axis. Raises
    DataError."""
    check_size(path.stat().st_size, str(path))
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise _damaged(path, error) from None
    shape = preparation.input_shape
    if array.shape in (shape, shape[1:] if shape[0] == 1 else shape):
        return {str(path): inputs_like(array.reshape(shape), preparation, str(path))[0]}
    return {f"{path}#{number}": one for number, one in enumerate(inputs_like(array, preparation, str(path)))}


def _called(there: Sequence[str]) -> dict[str, str]:
    """The names in the file of the arrays that are read: their own, else usual ones such as X_train, train_images or
    labels. Where two arrays could be meant, neither is chosen, and the error asks for the name."""
    found: dict[str, list[str]] = {}
    for given in there:
        if given.lower() in _NAMES:
            found.setdefault(given.lower(), []).append(given)
    if not _complete(found):
        for given in there:
            words = given.lower().split("_")
            split = next((_SPLITS[word] for word in words if word in _SPLITS), "") if len(words) == 2 else ""
            rest = [_WORDS[word] for word in words if word in _WORDS]
            if len(rest) == len(words) - bool(split) == 1 and given.lower() not in _NAMES:
                found.setdefault(f"{rest[0]}_{split}" if split else rest[0], []).append(given)
    return {name: given[0] for name, given in found.items() if len(given) == 1}


def _complete(names: Collection[str]) -> bool:
    """Whether the names include inputs and targets."""
    return {name.partition("_")[0] for name in names} >= {"x", "y"}


def _unknown(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> DataError:
    """The error for a file without inputs or targets. The remedy guesses them from shapes: targets are as many as
    inputs, and have fewer axes."""
    got = f"{several(len(shapes), 'array')}: " + listed(
        [f"{name} of shape {shape}" for name, shape in shapes.items()], 6
    )
    x = max(shapes, key=lambda name: len(shapes[name]), default="")
    y = min((n for n in shapes if n != x and shapes[n][:1] == shapes[x][:1]), key=lambda n: len(shapes[n]), default="")
    remedy = names_remedy({"x": x, "y": y}, "if these are inputs and labels: ") if y else None
    without = "numpy.savez(path, x=images, y=labels); images alone, as x, are enough with --task reconstruct"
    return DataError(f"data {path}", got, _EXPECTED, remedy or without)


def _groups(
    path: Path, arrays: dict[str, np.ndarray], blocks: dict[str | None, tuple[np.ndarray, np.ndarray]]
) -> tuple[str | None, ...]:
    """The group of each sample, in the order of the listing; empty where the file has no groups."""
    found: list[str | None] = []
    for split in sorted(blocks, key=lambda name: name or ""):
        name, count = f"groups_{split}" if split else "groups", len(blocks[split][0]) if blocks[split][0].ndim else 0
        values = arrays.get(name)
        if values is None:
            found += [None] * count
        elif values.shape != (count,) or values.dtype.kind not in "iuUS":
            raise DataError(
                f"data {path}, {name}",
                f"an array of shape {values.shape} and type {values.dtype}",
                f"({count},) whole numbers or text, one for each sample",
                f"save {name} with one entry per sample, or leave it out"
                if values.shape != (count,)
                else f"save {name}.astype(str) in its place",
            )
        else:
            found += [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values.tolist()]
    return tuple(found) if any(found) else ()


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"data {path}",
        f"damaged, or arrays of Python objects ({type(error).__name__}: {str(error)[:200]})",
        _EXPECTED,
        "save it again with numpy.savez, with arrays of numbers or of fixed-length text",
    )


def _blocks(path: Path, arrays: dict[str, np.ndarray]) -> dict[str | None, tuple[np.ndarray, np.ndarray]]:
    got = ", ".join(arrays) or "none of these names"
    given = {name for name in arrays if "_" in name and not name.startswith("groups")}
    if bool(given) == bool(arrays.keys() & {"x", "y"}):
        raise DataError(f"data {path}", got, _EXPECTED, "numpy.savez(path, x=images, y=labels)")
    blocks: dict[str | None, tuple[np.ndarray, np.ndarray]] = {}
    for split in ("train", "val", "test") if given else (None,):
        x, y = (f"{axis}_{split}" if split else axis for axis in "xy")
        if (x in arrays) != (y in arrays):
            raise DataError(f"data {path}", got, f"both {x} and {y}", "save the missing array too")
        if x in arrays:
            blocks[split] = (arrays[x], arrays[y])
    return blocks
