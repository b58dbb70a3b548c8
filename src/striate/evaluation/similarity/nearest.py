"""Nearest-neighbor search among many vectors: exact, or by an index whose recall is measured."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.machine.cache import cache_folder
from striate.wording import percent, several

EXACT = 100_000
"""Up to this number of vectors, the search is exact."""
_BLOCK = 2**24
"""Numbers of a block of cosines."""
_CHECKED, _NEAREST = 100, 10
"""The recall of an index is measured on this number of vectors, evenly spaced, and of neighbors, by exact search."""
_ENOUGH = 0.995
"""Recall required on those vectors, so that it is 99 % on new vectors too."""
_WIDTHS = (512, 1024, 2048)
"""Numbers of candidates that the index visits; the first with enough recall is taken. Neighbors of indexed vectors are
found more easily than those of new ones: among 190,000, 64 candidates found 99.1 % of the former and 94.2 % of the
latter, 128 found 99.3 and 97.4 %, 512 found 99.9 and 100.0 %."""
_CONNECTIVITY, _BUILT_WITH = 32, 128
_ALONE = 10_000
"""Number of vectors that one thread adds before others join."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Nearest:
    """Vectors, and how they are searched."""

    vectors: Vectors
    """(N, D) of length 1."""
    index: Any = None
    """The index of usearch; None where the search is exact."""
    recall: float | None = None
    """Share of the ten nearest that the index finds, measured on 100 of the vectors; None where the search is exact."""

    def search(self, queries: Vectors, count: int) -> tuple[NDArray[np.int64], Vectors]:
        """Positions and cosines (Q, min(count, N)) of the nearest of each query, the nearest first."""
        count = min(count, len(self.vectors))
        if self.index is None:
            return search_exactly(self.vectors, queries, count)
        found = self.index.search(queries, count)
        places = np.asarray(found.keys, np.int64).reshape(len(queries), count)
        near = np.einsum("qd,qcd->qc", queries, self.vectors[places])
        order = np.argsort(-near, axis=1, kind="stable")
        return np.take_along_axis(places, order, 1), np.take_along_axis(near, order, 1)

    def line(self) -> str:
        """How the search works, in words."""
        n = several(len(self.vectors), "vector")
        if self.recall is None:
            return f"{n}, searched exactly"
        return f"{n} in an index (usearch): it finds {percent(self.recall)} of the ten nearest (recall@10)"


def search_exactly(vectors: Vectors, queries: Vectors, count: int) -> tuple[NDArray[np.int64], Vectors]:
    """As `Nearest.search`, by comparison with every vector; equally near ones are in their order."""
    count = min(count, len(vectors))
    places = np.empty((len(queries), count), np.int64)
    near = np.empty((len(queries), count), np.float32)
    step = max(1, _BLOCK // max(1, len(vectors)))
    for start in range(0, len(queries), step):
        block = queries[start : start + step] @ vectors.T
        some = np.argpartition(-block, count - 1, axis=1)[:, :count]
        some.sort(axis=1)
        order = np.argsort(-np.take_along_axis(block, some, 1), axis=1, kind="stable")
        places[start : start + step] = np.take_along_axis(some, order, 1)
        near[start : start + step] = np.take_along_axis(block, places[start : start + step], 1)
    return places, near


def prepare_search(vectors: Vectors, say: Callable[[str], None] = lambda _: None, *, exact: int = EXACT) -> Nearest:
    """Prepare the search of `vectors`.

    Beyond `exact` of them, usearch builds a graph of neighbors (HNSW, Malkov and Yashunin 2018), wide enough to find
    99 % of the ten nearest where that is possible. Without usearch the search is exact. `say` gets a message before
    what takes long.
    """
    vectors = np.ascontiguousarray(vectors, np.float32)
    if len(vectors) <= exact:
        return Nearest(vectors)
    try:
        from usearch.index import Index
    except ImportError:
        say(
            f"{len(vectors):,} vectors are searched one by one: pip install 'striate[embed]' provides an index for them"
        )
        return Nearest(vectors)
    path = _place_of(vectors)
    index = _restored(Index, path, len(vectors))
    if index is None:
        say(f"an index of {len(vectors):,} vectors is built, once")
        index = Index(
            ndim=vectors.shape[1], metric="ip", dtype="f32", connectivity=_CONNECTIVITY, expansion_add=_BUILT_WITH
        )
        keys = np.arange(len(vectors))
        # If several threads start an empty graph, it may hold vectors that no link reaches.
        index.add(keys[:_ALONE], vectors[:_ALONE], threads=1)
        if len(vectors) > _ALONE:
            index.add(keys[_ALONE:], vectors[_ALONE:])
        _save(index, path)
    queries = vectors[np.arange(_CHECKED) * len(vectors) // _CHECKED]
    truth = search_exactly(vectors, queries, _NEAREST)[0]
    recall = 0.0
    for width in _WIDTHS:
        index.expansion_search = width
        recall = _recall(np.asarray(index.search(queries, _NEAREST).keys, np.int64), truth)
        if recall >= _ENOUGH:
            break
    return Nearest(vectors, index, recall)


def _recall(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), truth.tolist(), strict=True)]))


def _place_of(vectors: Vectors) -> Path | None:
    folder = cache_folder()
    name = hashlib.blake2b(vectors.data, digest_size=16).hexdigest()
    return None if folder is None else folder / "vectors" / f"{name}-{_CONNECTIVITY}-{_BUILT_WITH}.usearch"


def _restored(kind: Any, path: Path | None, count: int) -> Any:
    try:
        index = None if path is None or not path.is_file() or path.is_symlink() else kind.restore(str(path))
        return index if index is not None and len(index) == count else None
    except Exception:  # damaged: it is built again
        return None


def _save(index: Any, path: Path | None) -> None:
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        index.save(str(temporary))
        temporary.replace(path)
    except Exception:  # a cache that cannot be written
        return
