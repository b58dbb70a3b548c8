"""Maps of samples whose points can be clicked, for pages without scripts: a link leads to the sample's picture and its
nearest neighbors below the map, which are visible while they are the target of the address."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.visualize.canvas import class_colors
from striate.wording import several

_WIDE, _HIGH, _EDGE = 640, 480, 14
_TILE = 40
_FORMS = (
    "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0z", "M-4.5-4.5h9v9h-9z", "M0-6L6 0 0 6-6 0z", "M0-6L5.5 5h-11z",
    "M0 6L5.5-5h-11z", "M-2-5.5h4v3.5h3.5v4h-3.5v3.5h-4v-3.5h-3.5v-4h3.5z",
)  # fmt: skip
"""Circle, square, diamond, triangles and cross, as in the picture of the map."""
_NAMED = 24
"""Largest number of classes in the legend."""
_STYLE = (
    ".near{display:none;gap:.8rem;flex-wrap:wrap;align-items:flex-end}.near:target{display:flex}"
    ".near figure{margin:0;width:6.5rem;font-size:.85rem;overflow-wrap:anywhere}"
    ".near svg{width:5rem;height:5rem;display:block}.cluster{width:100%;max-width:42rem;height:auto}"
    ".cluster path,.classes path{stroke:var(--faint);stroke-width:.7}"
    ".cluster a:focus path,.cluster a:hover path{stroke:var(--ink);stroke-width:3}"
    ".classes{display:flex;flex-wrap:wrap;gap:.2rem 1rem;list-style:none;padding:0;font-size:.9rem}"
    ".classes svg{width:.9rem;height:.9rem;margin-right:.3rem;vertical-align:-.1rem}"
)


def cluster_panel(
    maps: Sequence[tuple[str, NDArray[np.floating]]],
    names: Sequence[str],
    labels: Sequence[str],
    images: NDArray[np.uint8],
    neighbors: tuple[NDArray[np.integer], NDArray[np.floating]],
) -> str:
    """A fragment of HTML: a legend, and for each of `maps`, a title and points (N, 2), an SVG in whose points the
    `labels` (N,) are colors and forms; a click on one shows its picture, of `images` (N, C, H, W) uint8 with 1 or 3
    channels, and those of its `neighbors`, positions and cosines (N, K)."""
    from matplotlib.colors import to_hex

    classes = sorted(set(labels))
    marks = {
        name: f'<path fill="{to_hex(color)}" d="{_FORMS[k % len(_FORMS)]}"'
        for k, (name, color) in enumerate(zip(classes, class_colors(len(classes)), strict=True))
    }
    first = {label: k for k, label in reversed(list(enumerate(labels)))}
    parts = [f"<style>{_STYLE}</style>", _tiles(images), _legend(marks)]
    for title, points in maps:
        low, span = points.min(0), np.maximum(np.ptp(points, axis=0), 1e-12)
        places = _EDGE + (points - low) / span * (np.array([_WIDE, _HIGH]) - 2 * _EDGE)
        dots = [
            f'<a href="#near-{k}" aria-label="{escape(f"{names[k]}, {labels[k]}")}"'
            # Each class once on the way of the Tab key: from there on, neighbors are links.
            f"{'' if first[labels[k]] == k else ' tabindex=-1'}>{marks[labels[k]]}"
            f' transform="translate({x:.1f} {_HIGH - y:.1f})">'
            f"<title>{escape(labels[k])}</title></path></a>"
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


def _legend(marks: Mapping[str, str]) -> str:
    """The mark and the name of each class, as far as there is room."""
    named = [
        f'<li><svg viewBox="-7 -7 14 14" aria-hidden="true">{mark}/></svg>{escape(name)}</li>'
        for name, mark in list(marks.items())[:_NAMED]
    ]
    more = f"<li>and {len(marks) - _NAMED} more</li>" if len(marks) > _NAMED else ""
    return f'<ul class="classes">{"".join(named)}{more}</ul>'


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
