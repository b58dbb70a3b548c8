"""Maps of samples whose points can be clicked, for pages without scripts: a link leads to the sample's picture and its
nearest neighbors below the map, which are visible while they are the target of the address."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.visualize.canvas import class_colors
from striate.wording import several

_WIDE, _HIGH, _EDGE = 640, 480, 14
_TILE = 40
_STYLE = (
    ".near{display:none;gap:.8rem;flex-wrap:wrap;align-items:flex-end}.near:target{display:flex}"
    ".near figure{margin:0;width:6.5rem;font-size:.85rem;overflow-wrap:anywhere}"
    ".near svg{width:5rem;height:5rem;display:block}.cluster{width:100%;max-width:42rem;height:auto}"
    ".cluster circle{stroke:var(--faint);stroke-width:.7}"
    ".cluster a:focus circle,.cluster a:hover circle{stroke:var(--ink);stroke-width:3}"
)


def cluster_panel(
    maps: Sequence[tuple[str, NDArray[np.floating]]],
    names: Sequence[str],
    labels: Sequence[str],
    images: NDArray[np.uint8],
    neighbors: tuple[NDArray[np.integer], NDArray[np.floating]],
) -> str:
    """A fragment of HTML: for each of `maps`, a title and points (N, 2), an SVG in whose points the `labels` (N,) are
    colors; a click on one shows its picture, of `images` (N, C, H, W) uint8 with 1 or 3 channels, and those of its
    `neighbors`, positions and cosines (N, K)."""
    from matplotlib.colors import to_hex

    classes = sorted(set(labels))
    colors = dict(zip(classes, (to_hex(color) for color in class_colors(len(classes))), strict=True))
    first = {label: k for k, label in reversed(list(enumerate(labels)))}
    parts = [f"<style>{_STYLE}</style>", _tiles(images)]
    for title, points in maps:
        low, span = points.min(0), np.maximum(np.ptp(points, axis=0), 1e-12)
        places = _EDGE + (points - low) / span * (np.array([_WIDE, _HIGH]) - 2 * _EDGE)
        dots = [
            f'<a href="#near-{k}" aria-label="{escape(f"{names[k]}, {labels[k]}")}"'
            # Each class once on the way of the Tab key: from there on, neighbors are links.
            f'{"" if first[labels[k]] == k else " tabindex=-1"}><circle cx="{x:.1f}" cy="{_HIGH - y:.1f}" r="5"'
            f' fill="{colors[labels[k]]}"><title>{escape(labels[k])}</title></circle></a>'
            for k, (x, y) in enumerate(places.tolist())
        ]
        aria_label, drawn = escape(f"{title}: {several(len(names), 'sample')}, a link each"), "".join(dots)
        svg = f'<svg class="cluster" viewBox="0 0 {_WIDE} {_HIGH}" role="group" aria-label="{aria_label}">{drawn}</svg>'
        parts.append(f"<p>{escape(title)}</p>{svg}")
    for k, (places_, cosines) in enumerate(zip(neighbors[0].tolist(), neighbors[1].tolist(), strict=True)):
        own = f"<figure>{_shown(k, labels[k])}<strong>{escape(labels[k])}</strong><br>{escape(names[k])}</figure>"
        others = "".join(
            f'<figure><a href="#near-{other}">{_shown(other, labels[other])}{escape(labels[other])}</a>'
            f"<br>{cosine:.2f}</figure>"
            for other, cosine in zip(places_, cosines, strict=True)
        )
        parts.append(f'<div class="near" id="near-{k}">{own}<p>Nearest, with the cosine:</p>{others}</div>')
    return "".join(parts)


def _shown(number: int, label: str) -> str:
    return f'<svg role="img" aria-label="{escape(label)}"><use href="#tile-{number}"/></svg>'


def _tiles(images: NDArray[np.uint8]) -> str:
    """Each picture as a symbol, which the page references wherever it is shown."""
    symbols = []
    for number, pixels in enumerate(images):
        planes = pixels[0] if len(pixels) == 1 else np.moveaxis(pixels[:3], 0, -1)
        picture = Image.fromarray(np.ascontiguousarray(planes))
        picture.thumbnail((_TILE, _TILE), Image.Resampling.BOX)
        file = io.BytesIO()
        picture.save(file, "PNG")
        data = base64.b64encode(file.getvalue()).decode("ascii")
        symbols.append(
            f'<symbol id="tile-{number}" viewBox="0 0 {picture.width} {picture.height}"><image'
            f' href="data:image/png;base64,{data}" width="{picture.width}" height="{picture.height}"/></symbol>'
        )
    return f'<svg width="0" height="0" aria-hidden="true" style="position:absolute">{"".join(symbols)}</svg>'
