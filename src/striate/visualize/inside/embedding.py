"""A map on which samples that look alike to the network lie near each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.errors import DataError
from striate.models.untouched import same_random_state
from striate.visualize.inside.features import find_features

Method = Literal["pca", "tsne"]
FEWEST, MOST = 5, 2000
NEIGHBORS = 10


@dataclass(frozen=True, eq=False)
class Embedding:
    """`points`: (N, 2) float32, one a sample, in the order of the inputs.

    `source`: which features, in words; `features`: how many. `explained`: of pca, the share of the variance that each
    axis has. `kept`: how true the map is: of each sample's 10 nearest neighbors among the features, the share that is
    among its 10 nearest on the map, 0 to 1, averaged.
    """

    points: NDArray[np.float32]
    method: Method
    source: str
    features: int
    kept: float
    explained: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return vars(self) | {"points": self.points.tolist(), "n": len(self.points)}


def embed(
    module: nn.Module, x: torch.Tensor, layer: str | None = None, *, method: Method = "pca", seed: int = 0
) -> Embedding:
    """The map of normalized inputs `x` (N, …), 5 to any number of them (t-SNE takes seconds for a thousand).

    Features: what the last layer with weights is given, or the outputs of `layer`. `pca`: their first two principal
    components. `tsne`: van der Maaten and Hinton, "Visualizing data using t-SNE", JMLR 2008, from the first 50
    components, drawn from `seed`; distances between far groups mean nothing. Both by scikit-learn.
    Raises DataError for fewer samples, or where all features are the same.
    """
    if len(x) < FEWEST:
        raise DataError("embedding", f"{len(x)} samples", f"at least {FEWEST}", "give more of them")
    found = find_features(module, x, layer)
    return embed_features(found.values, found.source, method=method, seed=seed)


@same_random_state()  # scikit-learn draws a number when it is loaded
def embed_features(values: NDArray[np.float32], source: str, *, method: Method = "pca", seed: int = 0) -> Embedding:
    """`embed` for features (N, F) that are there already."""
    from sklearn.decomposition import PCA

    wide = values.astype(np.float64)
    if not (wide != wide[:1]).any():
        remedy = "striate show RUN correlation names dead maps"
        raise DataError("embedding", f"the same {values.shape[1]} features for all samples", "others", remedy)
    explained: tuple[float, ...] = ()
    if values.shape[1] == 1:
        points = np.column_stack([wide[:, 0] - wide.mean(), np.zeros(len(wide))])
        explained = (1.0, 0.0)
    elif method == "pca":
        pca = PCA(2, svd_solver="full")
        points = pca.fit_transform(wide)
        explained = tuple(float(share) for share in pca.explained_variance_ratio_)
    else:
        points = _tsne(wide, seed)
    return Embedding(points.astype(np.float32), method, source, values.shape[1], _kept(wide, points), explained)


def _tsne(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    size = min(50, *values.shape)
    reduced = PCA(size, svd_solver="full").fit_transform(values) if size < values.shape[1] else values
    perplexity = min(30.0, (len(values) - 1) / 3)
    made = TSNE(2, perplexity=perplexity, init="pca", random_state=seed, n_jobs=1)
    points: NDArray[np.float64] = made.fit_transform(reduced)
    return points


def _kept(values: NDArray[np.float64], points: NDArray[np.float64]) -> float:
    from sklearn.neighbors import NearestNeighbors

    count = min(NEIGHBORS, len(values) - 1)
    near = [NearestNeighbors(n_neighbors=count).fit(of).kneighbors(return_distance=False) for of in (values, points)]
    shared = [len(set(a) & set(b)) for a, b in zip(*near, strict=True)]
    return float(np.mean(shared)) / count


@dataclass(frozen=True, eq=False)
class BothEmbeddings:
    """Two maps of the same samples, whose `ids` these are, and their class numbers, where there are classes."""

    pca: Embedding
    tsne: Embedding
    ids: tuple[int, ...]
    labels: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return {"pca": self.pca.to_json(), "tsne": self.tsne.to_json(), "ids": self.ids, "labels": self.labels}
