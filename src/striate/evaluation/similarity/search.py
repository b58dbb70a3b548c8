"""Similar files of a folder, and outliers among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from striate.evaluation.similarity.nearest import Nearest, Vectors

_NEIGHBORS = 5
_ROWS = 1024


@dataclass(frozen=True)
class Hits:
    """The files that are most similar to one query."""

    query: str
    """The query file."""
    hits: tuple[tuple[str, float], ...] = ()
    """Pairs of a file and its cosine, the most similar first."""
    error: str | None = None
    """Why the query could not be read; None where it was read."""

    def to_json(self) -> dict[str, Any]:
        """A line of `striate search --json`."""
        if self.error is not None:
            return {"query": self.query, "error": self.error}
        return {"query": self.query, "hits": [[path, round(near, 6)] for path, near in self.hits]}


def find_hits(nearest: Nearest, paths: Sequence[str], queries: Sequence[str], vectors: Vectors, top: int) -> list[Hits]:
    """The `top` most similar of `paths` for each query, without the query's own file."""
    places, near = nearest.search(vectors, top + 1)
    found = []
    for query, row, similar in zip(queries, places.tolist(), near.tolist(), strict=True):
        own = Path(query).resolve()
        pairs = [(paths[k], value) for k, value in zip(row, similar, strict=True) if Path(paths[k]).resolve() != own]
        found.append(Hits(query, tuple(pairs[:top])))
    return found


@dataclass(frozen=True)
class SimilarFiles:
    """Two files of a folder, and the cosine of their vectors."""

    paths: tuple[str, str]
    similarity: float

    def to_json(self) -> dict[str, Any]:
        """A line of `striate search --alike --json`."""
        return {"pair": list(self.paths), "similarity": round(self.similarity, 6)}


@dataclass(frozen=True)
class Outlier:
    """A file, and its mean cosine with the five most similar files."""

    path: str
    similarity: float

    def to_json(self) -> dict[str, Any]:
        """A line of `striate search --outliers --json`."""
        return {"outlier": self.path, "similarity": round(self.similarity, 6)}


def neighbors(nearest: Nearest, count: int) -> tuple[Any, Any]:
    """Positions and cosines (N, count) of the nearest other vectors of each vector."""
    n, places, near = len(nearest.vectors), [], []
    for start in range(0, n, _ROWS):
        found, similar = nearest.search(nearest.vectors[start : start + _ROWS], count + 1)
        own = found == np.arange(start, start + len(found))[:, None]
        own[~own.any(1), -1] = True  # with equal vectors, the search may not return the vector itself
        places.append(found[~own].reshape(len(found), -1))
        near.append(similar[~own].reshape(len(found), -1))
    return np.concatenate(places), np.concatenate(near)


def most_similar_pairs(nearest: Nearest, paths: Sequence[str], count: int) -> list[SimilarFiles]:
    """The `count` pairs with the highest cosine, among each file and its nearest five."""
    places, near = neighbors(nearest, min(_NEIGHBORS, len(paths) - 1))
    pairs: dict[tuple[int, int], float] = {}
    for one, (row, similar) in enumerate(zip(places.tolist(), near.tolist(), strict=True)):
        for other, value in zip(row, similar, strict=True):
            pairs[min(one, other), max(one, other)] = value
    best = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[:count]
    return [SimilarFiles((paths[one], paths[other]), value) for (one, other), value in best]


def outliers(nearest: Nearest, paths: Sequence[str], count: int) -> list[Outlier]:
    """The `count` files with the lowest mean cosine to their nearest five."""
    _, near = neighbors(nearest, min(_NEIGHBORS, len(paths) - 1))
    means = near.mean(1)
    return [Outlier(paths[k], float(means[k])) for k in np.argsort(means, kind="stable")[:count]]
