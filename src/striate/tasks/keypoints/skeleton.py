"""Which points are joined by a line where the data do not say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def spanning_tree(mean: NDArray[np.float64]) -> tuple[tuple[int, int], ...]:
    """The shortest lines that join all points of the mean shape (K, 2); points that are NaN stay alone."""
    known = np.flatnonzero(np.isfinite(mean).all(1))
    if len(known) < 2:
        return ()
    from scipy.sparse.csgraph import minimum_spanning_tree  # takes a third of a second to load
    from scipy.spatial.distance import cdist

    tree = minimum_spanning_tree(cdist(mean[known], mean[known])).tocoo()
    edges = zip(known[tree.row].tolist(), known[tree.col].tolist(), strict=True)
    return tuple(sorted((min(edge), max(edge)) for edge in edges))
