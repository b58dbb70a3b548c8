"""Shared by all pictures: figures without pyplot, colors for color-blind readers, titles, axes, legends.

Only the functions that draw import matplotlib, so that computing what a picture shows does not wait for it.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import DataError, one_line
from striate.runs.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.text import Text

# M. Okabe and K. Ito, "Color universal design", 2008.
BLUE, VERMILION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
INK, FAINT = "#222222", "#767676"
_CLASS_COLORS = (ORANGE, BLUE, GREEN, "#CC79A7", "#56B4E9", VERMILION, "#F0E442", "#000000")

TEXT, SMALL = 10.0, 8.5
"""Font sizes in points."""


def load_drawing() -> None:
    """Import matplotlib ahead of the first figure."""
    import matplotlib.backends.backend_agg
    import matplotlib.backends.backend_svg  # noqa: F401


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure of `width` × `height` inches that keeps its parts from overlapping."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def figure_of(draw: Callable[[Axes], object], width: float, height: float, title: str = "") -> Figure:
    """A figure of one pair of axes, on which `draw` draws, of `width` × `height` inches."""
    figure = new_figure(width, height)
    draw(figure.subplots())
    if title:
        main_title(figure, title)
    return figure


def save_figure(figure: Figure, path: str | Path, dpi: int = 100) -> Path:
    """Write the figure as a PNG, or as an SVG if `path` has that suffix; the same figure gives the same bytes.

    Raises RunError where the file cannot be written.
    """
    kind: Literal["png", "svg"] = "svg" if Path(path).suffix.lower() == ".svg" else "png"
    write_atomic(Path(path), lambda file: print_figure(figure, file, kind, dpi))
    return Path(path)


def print_figure(figure: Figure, file: IO[Any], kind: Literal["png", "svg"], dpi: int = 100) -> None:
    """Draw the figure into a file that is open: bytes for a PNG, text or bytes for an SVG.

    `Figure.savefig` would draw it twice, and lay it out anew each time.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    show_literally(figure)
    figure.set_dpi(dpi)
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "striate"}):
        # A letter that the font lacks becomes a box; the tables of a report show it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        if (engine := figure.get_layout_engine()) is not None:
            engine.execute(figure)
            figure.set_layout_engine("none")
        # Metadata that differ between machines or days are left out.
        if kind == "svg":
            FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})
        else:
            FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})


def show_literally(artist: Figure | Axes) -> None:
    """Turn off TeX and mathtext in every text of the artist: `$`, `_` and `\\` in names are only letters."""
    from matplotlib.text import Text

    for text in artist.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)
        text.set_usetex(False)


def heading(axes: Axes, text: str) -> None:
    """The title of one pair of axes, to the left."""
    axes.set_title(text, loc="left", fontsize=TEXT, color=INK, parse_math=False)


def name_grid(grid: Any, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Labels beside the rows of a grid of axes, as far as there are any, and a heading over each column."""
    for axes, label in zip(grid[:, 0], rows, strict=False):
        axes.set_ylabel(label, fontsize=SMALL)
    for axes, name in zip(grid[0], columns, strict=True):
        heading(axes, name)


def main_title(figure: Figure, text: str) -> Text:
    """The title of the figure, cut to its width."""
    letters = int(figure.get_figwidth() * 72 / ((TEXT + 1) * 0.7))
    return figure.suptitle(shorten(text, letters), fontsize=TEXT + 1, color=INK, fontweight="bold", parse_math=False)


def quiet_frame(axes: Axes, grid: Literal["both", "x"] = "both") -> None:
    """No frame on top and right, a faint grid behind the data, small tick labels."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, axis=grid, color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SMALL)


def name_axes(axes: Axes, x: str = "", y: str = "", size: float = TEXT) -> None:
    """Name the axes: `x` below, `y` at the left; an empty name changes nothing."""
    if x:
        axes.set_xlabel(x, fontsize=size, parse_math=False)
    if y:
        axes.set_ylabel(y, fontsize=size, parse_math=False)


def legend(drawn: Axes | Figure, *series: Any, **options: Any) -> None:
    """A legend in small letters, without a frame; `series`: handles and labels, by default all."""
    drawn.legend(*series, **{"fontsize": SMALL, "frameon": False, **options})


_BESIDE = 22  # letters of the longest of two names that stand side by side below a chart


def legend_below(axes: Axes, **options: Any) -> None:
    """A legend below the axes, where it covers no curve; none without labels."""
    figure, (handles, labels) = axes.get_figure(root=True), axes.get_legend_handles_labels()
    if labels and figure is not None:
        columns = 2 if max(map(len, labels)) <= _BESIDE else 1
        legend(figure, handles, labels, **{"loc": "outside lower center", "ncols": columns, **options})


def limit_ticks(axis: Axis, most: int = 10, *, whole: bool = False) -> None:
    """About `most` ticks at round numbers; `whole`: only at whole numbers, at least one."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=most, integer=whole, min_n_ticks=1 if whole else 2))


def show_plain_numbers(axis: Axis) -> None:
    """Write numbers as `0.001`, not as powers of ten, at the major ticks, and none at the minor ticks."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def show_percent(axis: Axis) -> None:
    """Write shares from 0 to 1 in percent."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))


def logarithmic(axes: Axes) -> None:
    """A logarithmic vertical axis with plain numbers at 1, 2 and 5."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    show_plain_numbers(axes.yaxis)


def evenly_chosen(count: int, most: int) -> list[int]:
    """At most `most` of the numbers 0 to `count` − 1, evenly spaced, with the first and the last."""
    return [int(k) for k in np.unique(np.linspace(0, count - 1, min(most, count)).round())]


def of_split(data: str, split: str, n: int) -> str:
    """The samples of a picture: `flowers, test split, n = 50`."""
    return f"{data}, {split} split, n = {n:,}"


def shorten(name: str, letters: int) -> str:
    """The name on one line, cut with an ellipsis to at most `letters`; wide letters count twice."""
    clean = one_line(name)
    widths = [2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in clean]
    if sum(widths) <= letters:
        return clean
    keep = int((np.cumsum(widths) <= letters - 1).sum())
    return clean[:keep].rstrip() + "…"


def class_colors(count: int) -> list[Any]:
    """A color for each class, without an order among them: hues that color-blind readers tell apart for up to eight,
    the ten of Tableau and their pale variants for up to twenty, hues far from those of neighboring classes for more."""
    if count <= len(_CLASS_COLORS):
        return list(_CLASS_COLORS[:count])
    from matplotlib import colormaps

    if count <= 20:
        return [colormaps["tab20"](k) for k in (*range(0, 20, 2), *range(1, 20, 2))][:count]
    return list(colormaps["hsv"](np.arange(count) * (np.sqrt(5) - 1) / 2 % 1))


def show_image(axes: Axes, image: ArrayLike, extent: tuple[float, float, float, float] | None = None) -> None:
    """Draw one (C, H, W) uint8 image with 1 or 3 channels, every pixel a square, without ticks; `extent`: its (left,
    right, bottom, top) in the units of the axes, for several images on one pair of axes."""
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3) or pixels.dtype != np.uint8:
        raise DataError(
            "picture of a sample",
            f"an array of shape {pixels.shape} and type {pixels.dtype}",
            "(C, H, W) uint8 with C = 1 or 3",
            "pass the split's inputs as they are, not normalized",
        )
    shown: NDArray[Any] = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    # Enlarged pixels stay squares; reduced photographs are averaged.
    interpolation = "nearest" if max(shown.shape[:2]) < 64 else "antialiased"
    axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation=interpolation, extent=extent)
    axes.set_xticks([])
    axes.set_yticks([])
