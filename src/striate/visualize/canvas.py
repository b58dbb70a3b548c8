"""Figures without pyplot, names shown as they are, colors that color-blind readers tell apart."""

from __future__ import annotations

import unicodedata
import warnings
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import ArrayLike, NDArray

from striate.errors import DataError, RunError, one_line

# M. Okabe and K. Ito, "Color universal design", 2008.
BLUE, VERMILION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
INK, FAINT = "#222222", "#767676"
_CLASS_COLORS = (ORANGE, BLUE, GREEN, "#CC79A7", "#56B4E9", VERMILION, "#F0E442", "#000000")

TEXT, SMALL = 10.0, 8.5
"""Font sizes in points."""


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure of `width` × `height` inches that keeps its parts from overlapping."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | Path, dpi: int = 100) -> Path:
    """Write the figure as a PNG, or as an SVG where `path` ends so; the same figure gives the same bytes.

    Raises RunError where it cannot.
    """
    show_literally(figure)
    vector = Path(path).suffix.lower() == ".svg"
    try:
        with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "striate"}):
            # A letter that the font lacks becomes a box; the tables of a report show it.
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            changing = "Date" if vector else "Software"  # what would differ from one machine or day to another
            figure.savefig(path, dpi=dpi, format="svg" if vector else "png", metadata={changing: None})
    except OSError as error:
        raise RunError(
            str(path), error.strerror or str(error), "a file that can be written", "name another --out folder"
        ) from error
    return Path(path)


def show_literally(artist: Figure | Axes) -> None:
    """Turn off TeX and mathtext in every text of the artist: `$`, `_` and `\\` in names are only letters."""
    for text in artist.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)
        text.set_usetex(False)


def heading(axes: Axes, text: str) -> None:
    """The title of one pair of axes, to the left."""
    axes.set_title(text, loc="left", fontsize=TEXT, color=INK, parse_math=False)


def main_title(figure: Figure, text: str) -> Text:
    """The title of the whole figure, cut where the figure ends."""
    letters = int(figure.get_figwidth() * 72 / ((TEXT + 1) * 0.7))
    return figure.suptitle(shorten(text, letters), fontsize=TEXT + 1, color=INK, fontweight="bold", parse_math=False)


def quiet_frame(axes: Axes) -> None:
    """No frame on top and right, a faint grid behind the data, small tick labels."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SMALL)


def of_split(data: str, split: str, n: int) -> str:
    """Of what a picture is: `flowers, test split, n = 50`."""
    return f"{data}, {split} split, n = {n:,}"


def shorten(name: str, letters: int) -> str:
    """The name on one line, in at most so many letters, cut with an ellipsis; wide letters count twice."""
    clean = one_line(name)
    widths = [2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in clean]
    if sum(widths) <= letters:
        return clean
    keep = int((np.cumsum(widths) <= letters - 1).sum())
    return clean[:keep].rstrip() + "…"


def class_colors(count: int) -> list[Any]:
    """A color for each class: distinct ones for up to eight, more from a map that runs from dark to light."""
    if count <= len(_CLASS_COLORS):
        return list(_CLASS_COLORS[:count])
    return list(matplotlib.colormaps["viridis"](np.linspace(0, 1, count)))


def show_image(axes: Axes, image: ArrayLike) -> None:
    """Draw one (C, H, W) uint8 image with 1 or 3 channels, every pixel a square, without ticks."""
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3) or pixels.dtype != np.uint8:
        raise DataError(
            "picture of a sample",
            f"an array of shape {pixels.shape} and type {pixels.dtype}",
            "(C, H, W) uint8 with C = 1 or 3",
            "pass the split's inputs as they are, not normalized",
        )
    shown: NDArray[Any] = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    # Enlarged pixels stay squares; photographs that are made smaller are averaged.
    interpolation = "nearest" if max(shown.shape[:2]) < 64 else "antialiased"
    axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation=interpolation)
    axes.set_xticks([])
    axes.set_yticks([])
