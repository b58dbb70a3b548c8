"""What a figure shows, in words beneath it."""

from __future__ import annotations

import textwrap

from matplotlib.figure import Figure

from striate.visualize.canvas import INK, SMALL


def caption(figure: Figure, text: str) -> None:
    """Write the text beneath the figure, in as many lines as it takes."""
    lines = textwrap.wrap(text, int(figure.get_figwidth() * 72 / (SMALL * 0.56)))
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=SMALL, color=INK, parse_math=False)
