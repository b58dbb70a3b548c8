"""The effective receptive field as a part of an SVG picture."""

from __future__ import annotations

import io
from base64 import b64encode
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.account.field.effective import MASS, EffectiveField
from striate.account.ledger import Ledger
from striate.visualize.themed_svg import add_text
from striate.wording import several, shorten_path, show_shape

_SIDE, _STRIP = 260, 40
_INK = np.array((27, 31, 36))


def draw_field(svg: ElementTree.Element, field: EffectiveField, ledger: Ledger, top: float) -> float:
    """Draw the map from `top` on, with the effective and the theoretical receptive field around its center; returns the
    bottom. A signal is a strip; the slices of a volume are added up."""
    shares = _as_picture(field.map)
    rows, columns = shares.shape
    high = _SIDE * rows / max(rows, columns) if rows > 1 else _STRIP
    wide = _SIDE * columns / max(rows, columns) if rows > 1 else 2.0 * _SIDE
    top += 30
    add_text(svg, 16, top - 12, f"Receptive field of a unit of {shorten_path(field.layer, 60)}", "title")
    place = {"x": "16", "y": f"{top:.1f}", "width": f"{wide:.1f}", "height": f"{high:.1f}"}
    picture = place | {"href": _png(shares), "preserveAspectRatio": "none", "style": "image-rendering: pixelated"}
    ElementTree.SubElement(svg, "image", picture)
    ElementTree.SubElement(svg, "rect", place | {"class": "wire"})
    scale = np.array((high / rows, wide / columns))
    for kind, first, size in (("field", field.first, field.size), ("theory", *_theory(field, ledger))):
        if len(size) == field.map.ndim:
            begins, spans = ((0, *first), (rows, *size)) if len(size) == 1 else (first[-2:], size[-2:])
            low = np.clip(begins, 0, (rows, columns)) * scale
            end = np.clip(np.add(begins, spans), 0, (rows, columns)) * scale
            box = {"x": 16 + low[1], "y": top + low[0], "width": end[1] - low[1], "height": end[0] - low[0]}
            ElementTree.SubElement(svg, "rect", {k: f"{v:.1f}" for k, v in box.items()} | {"class": kind})
    _explain(svg, field, ledger, 16 + wide + 24, top + 14) if rows > 1 else _explain(svg, field, ledger, 16, top + 62)
    return top + max(high, 90.0) + (70 if rows == 1 else 20)


def _explain(svg: ElementTree.Element, field: EffectiveField, ledger: Ledger, x: float, y: float) -> None:
    mass = f"{100 * MASS:.4g} %"
    lines = (
        f"Solid: {show_shape([round(side) for side in field.size])} positions, {mass} of the gradient along each axis",
        f"(mean of {several(field.samples, 'random input')}, with the present weights).",
        f"Dashed: the theoretical receptive field, {show_shape(ledger.receptive_field)}, as far as it is inside",
        f"the input of {show_shape(ledger.input[1:])}.",
        "Dark: inputs that change the unit most.",
    )
    for index, line in enumerate(lines):
        add_text(svg, x, y + 17 * index, line, "faint")


def _as_picture(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    if shares.ndim == 1:
        return shares[None]
    picture: NDArray[np.float64] = shares.sum(tuple(range(shares.ndim - 2)))
    return picture


def _theory(field: EffectiveField, ledger: Ledger) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The start of the theoretical receptive field of the layer's center unit, and its size; empty where unknown."""
    row = next((row for row in reversed(ledger.rows) if row.name == field.layer and row.center), None)
    if row is None:
        return (), ()
    # Centers of fields are relative to the middle of the first pixel.
    middles = (c + j * (side // 2) + 0.5 for c, j, side in zip(row.center, row.jump, row.out_shape[1:], strict=True))
    size = tuple(map(float, row.receptive_field))
    return tuple(middle - side / 2 for middle, side in zip(middles, size, strict=True)), size


def _png(shares: NDArray[np.float64]) -> str:
    # The square root shows the faint parts too.
    strength = np.sqrt(shares / shares.max())[..., None]
    pixels = (255 + strength * (_INK - 255)).round().astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode('ascii')}"
