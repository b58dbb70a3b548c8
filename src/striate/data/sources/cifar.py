"""CIFAR-10 and CIFAR-100 pickles (https://www.cs.toronto.edu/~kriz/cifar.html), also inside their archive."""

from __future__ import annotations

import re
from math import isqrt
from typing import Any

import numpy as np

from striate.data.listing import Listing
from striate.data.sources.arrays import list_arrays
from striate.data.sources.tree import Tree, read_required
from striate.data.sources.unpickle import load_plain
from striate.errors import DataError

_BATCH = re.compile(r"data_batch_\d+|test_batch")


def holds_cifar(tree: Tree) -> bool:
    """Whether CIFAR's batches are directly under the root; the names of classes may be missing."""
    loose = set(tree.loose())
    hundred = {"train", "test"} <= loose and ("meta" in loose or not tree.folders)
    return hundred or any(_BATCH.fullmatch(file) for file in loose)


def list_cifar(tree: Tree) -> Listing:
    """All batches; the labels of CIFAR-100 are the fine ones. Raises DataError."""
    loose = set(tree.loose())
    ten = sorted(file for file in loose if _BATCH.fullmatch(file))
    batches = ten or ["train", "test"]
    meta = "batches.meta" if ten else "meta"
    parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for file in batches:
        split = "test" if file.startswith("test") else "train"
        parts.setdefault(split, []).append(_batch(tree, file))
    blocks: dict[str | None, tuple[np.ndarray, np.ndarray]] = {
        split: (np.concatenate([x for x, _ in group]), np.concatenate([y for _, y in group]))
        for split, group in parts.items()
    }
    names = _names(tree, meta) if meta in loose else ()
    ignored = sorted(set(tree.files) - set(batches) - {meta} | set(tree.hidden))
    return list_arrays(
        tree.name,
        tree.where,
        blocks,
        layout="NCHW",
        class_names=names,
        ignored=tuple(ignored),
        notes=tree.notes,
    )


def _batch(tree: Tree, file: str) -> tuple[np.ndarray, np.ndarray]:
    where = f"{tree.where}/{file}"
    content = load_plain(read_required(tree, file), where)
    data, labels = content.get("data"), content.get("labels", content.get("fine_labels"))
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.dtype != np.uint8:
        raise _wrong(where, "data", data, "(N, 3072) uint8")
    side = isqrt(data.shape[1] // 3)
    if side == 0 or 3 * side * side != data.shape[1]:
        raise _wrong(where, "data", data, "(N, 3072) uint8")
    if isinstance(labels, list) and all(type(label) is int for label in labels):
        labels = np.array([label if -1 < label < 1 << 31 else -1 for label in labels], dtype=np.int64)
    if not isinstance(labels, np.ndarray) or labels.shape != (len(data),) or labels.dtype.kind not in "iu":
        raise _wrong(where, "labels", labels, "one class number for each image")
    return data.reshape(-1, 3, side, side), labels.astype(np.int64)


def _names(tree: Tree, meta: str) -> tuple[str, ...]:
    content = load_plain(read_required(tree, meta), f"{tree.where}/{meta}")
    names = content.get("label_names", content.get("fine_label_names"))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _wrong(f"{tree.where}/{meta}", "label_names", names, "a list of class names")
    return tuple(names)


def _wrong(where: str, key: str, value: Any, expected: str) -> DataError:
    got = f"{value.shape} {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
    return DataError(where, f"{key}: {got}", f"{key}: {expected}", "get the file again from its official place")
