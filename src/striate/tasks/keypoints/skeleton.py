"""The skeleton of points, where the data have none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def spanning_tree(mean: NDArray[np.float64]) -> tuple[tuple[int, int], ...]:
    """The minimum spanning tree of the mean shape (K, 2), as pairs of points; points that are NaN are not joined."""
    known = np.flatnonzero(np.isfinite(mean).all(1))
    if len(known) < 2:
        return ()
    from scipy.sparse.csgraph import minimum_spanning_tree  # takes a third of a second to load
    from scipy.spatial.distance import cdist

    tree = minimum_spanning_tree(cdist(mean[known], mean[known])).tocoo()
    edges = zip(known[tree.row].tolist(), known[tree.col].tolist(), strict=True)
    return tuple(sorted((min(edge), max(edge)) for edge in edges))
