"""Embeddings: the features of samples in two dimensions, by PCA and t-SNE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.errors import DataError
from striate.models.preserved_state import same_random_state
from striate.visualize.canvas import FAINT, SMALL, class_colors, heading, legend, main_title, new_figure, shorten
from striate.visualize.inside.features import find_features
from striate.visualize.inside.mosaic import caption
from striate.wording import percent, several

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Method = Literal["pca", "tsne"]
FEWEST, MOST = 5, 2000
NEIGHBORS = 10


@dataclass(frozen=True, eq=False)
class Embedding:
    """A map of samples in two dimensions, in the order of the inputs."""

    points: NDArray[np.float32]
    """(N, 2) float32."""
    method: Method
    """How the points were computed."""
    source: str
    """Which features were embedded, in words."""
    features: int
    """Number of features."""
    kept: float
    """How faithful the map is: the share of each sample's 10 nearest neighbors among the features that is among its 10
    nearest on the map, 0 to 1, averaged."""
    explained: tuple[float, ...] = ()
    """Explained variance ratio of both axes of PCA; empty of other methods."""

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return vars(self) | {"points": self.points.tolist(), "n": len(self.points)}


def embed(
    module: nn.Module, x: torch.Tensor, layer: str | None = None, *, method: Method = "pca", seed: int = 0
) -> Embedding:
    """The map of normalized inputs `x` (N, …), at least 5 (t-SNE takes seconds for a thousand).

    Features: the inputs of the last layer with weights, or the outputs of `layer`. `pca`: their first two principal
    components. `tsne`: van der Maaten and Hinton, "Visualizing data using t-SNE", JMLR 2008, from the first 50
    components, drawn from `seed`; distances between far groups mean nothing. Both by scikit-learn.
    Raises DataError for fewer samples, or where all features are the same.
    """
    if len(x) < FEWEST:
        raise DataError("embedding", several(len(x), "sample"), f"at least {FEWEST}", "give more samples")
    found = find_features(module, x, layer)
    return embed_features(found.values, found.source, method=method, seed=seed)


@same_random_state()  # scikit-learn draws a number when it is loaded
def embed_features(values: NDArray[np.float32], source: str, *, method: Method = "pca", seed: int = 0) -> Embedding:
    """`embed` for known features (N, F)."""
    from sklearn.decomposition import PCA

    wide = values.astype(np.float64)
    if not (wide != wide[:1]).any():
        remedy = "striate show RUN correlation names dead maps"
        raise DataError(
            "embedding", f"the same {several(values.shape[1], 'feature')} for all samples", "others", remedy
        )
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
    """Two maps of the same samples, their `ids`, and their class numbers if there are classes."""

    pca: Embedding
    tsne: Embedding
    ids: tuple[int, ...]
    labels: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return {"pca": self.pca.to_json(), "tsne": self.tsne.to_json(), "ids": self.ids, "labels": self.labels}


_NAMED = 25
_MARKS = "osD^vP"
_NAMES = {"pca": "PCA", "tsne": "t-SNE"}
_FEW = 300
_SIDE, _CELLS = 27.0, 12  # points; cells along an axis, of which each gets one image at most


def embedding_figure(
    maps: Sequence[Embedding],
    *,
    title: str,
    labels: NDArray[np.int64] | None = None,
    classes: Sequence[str] = (),
    images: NDArray[np.uint8] | None = None,
) -> Figure:
    """A panel for each of the maps of the same samples, their points in the colors of `labels` (N,), and, with
    `images` (N, C, H, W) uint8, one panel more: the last map with images in it."""
    panels = len(maps) + (images is not None)
    figure = new_figure(4.9 * panels, 5.9)
    grid = figure.subplots(1, panels, squeeze=False).ravel()
    for axes, found in zip(grid, maps, strict=False):
        draw_embedding(axes, found, labels=labels, classes=classes)
        heading(axes, f"{_NAMES[found.method]}: {_facts(found)}")
    if images is not None:
        draw_images(grid[-1], maps[-1], images)
        heading(grid[-1], f"{_NAMES[maps[-1].method]}, with images")
    handles, names = grid[0].get_legend_handles_labels()
    if names:
        legend(
            figure, handles, names, loc="outside lower center", ncols=min(5, len(names)),
            markerscale=2, title=_words(maps), title_fontsize=SMALL, alignment="left",
        )  # fmt: skip
    else:
        caption(figure, _words(maps))
    main_title(figure, title)
    return figure


def draw_embedding(
    axes: Axes, found: Embedding, *, labels: NDArray[np.int64] | None = None, classes: Sequence[str] = ()
) -> None:
    """One point a sample, in color and form of its class."""
    size = 32 if len(found.points) < _FEW else 8
    if labels is None or not classes:
        axes.scatter(found.points[:, 0], found.points[:, 1], s=size, color=FAINT, linewidths=0)
    else:
        colors = class_colors(len(classes))
        for k, name in enumerate(classes):
            shown = shorten(name, 18) if len(classes) <= _NAMED else None
            across, up = found.points[labels == k].T
            axes.scatter(
                across, up, s=size, color=colors[k], marker=_MARKS[k % len(_MARKS)], linewidths=0, alpha=0.8,
                label=shown,
            )  # fmt: skip
    _frame(axes)


def draw_images(axes: Axes, found: Embedding, images: NDArray[np.uint8]) -> None:
    """Images (N, C, H, W) uint8 at the points of their samples, as many as do not overlap."""
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    axes.scatter(found.points[:, 0], found.points[:, 1], s=2, color="#CCCCCC", linewidths=0)
    for place in _apart(found.points):
        pixels = images[place]
        shown = pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)
        zoom = (_SIDE if len(images) >= _FEW else 1.3 * _SIDE) / max(shown.shape[:2])
        box = OffsetImage(shown, zoom=zoom, cmap="gray", clim=(0, 255))
        axes.add_artist(AnnotationBbox(box, tuple(found.points[place]), pad=0.05, frameon=False))
    _frame(axes)


def _apart(points: NDArray[np.float32]) -> list[int]:
    """In each cell of a grid, the sample nearest to its middle."""
    low, high = points.min(0), points.max(0)
    scaled = (points - low) / np.where(high > low, high - low, 1) * (_CELLS - 1e-6)
    cells = scaled.astype(int)
    nearest: dict[tuple[int, int], tuple[float, int]] = {}
    for k, (cell, at) in enumerate(zip(cells, scaled, strict=True)):
        far = float(np.square(at - cell - 0.5).sum())
        key = (int(cell[0]), int(cell[1]))
        nearest[key] = min(nearest.get(key, (np.inf, k)), (far, k))
    return [k for _, k in nearest.values()]


def _frame(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(color="#BBBBBB", linewidth=0.7)
    axes.set_box_aspect(1)


def _facts(found: Embedding) -> str:
    if found.explained:
        return f"{percent(sum(found.explained), 0)} of the variance"
    return f"{percent(found.kept, 0)} of neighbors preserved"


def _words(maps: Sequence[Embedding]) -> str:
    text = (
        f"{several(len(maps[0].points), 'sample')}, {several(maps[0].features, 'feature')}: {maps[0].source}.\nOf "
        "the 10 nearest "
    )
    text += "neighbors of a sample, " + ", ".join(f"{_NAMES[m.method]} preserves {percent(m.kept, 0)}" for m in maps)
    return f"{text}; axes have no unit."
