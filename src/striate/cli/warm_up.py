"""Prepare a process to draw: load the libraries, and draw once, since the first picture takes longest."""

from __future__ import annotations

from importlib import import_module
from io import BytesIO

from striate.visualize.canvas import load_drawing, new_figure, print_figure
from striate.visualize.charts import chart

_LOADED = ("scipy.optimize", "scipy.stats", "striate.report.finish", "striate.tasks.classify.show")


def prepare_to_draw() -> None:
    """Import the modules for the end of a training and for pictures of a classification, and draw an empty picture."""
    load_drawing()
    for module in _LOADED:
        import_module(module)
    chart(lambda axes: axes.plot([1, 2], [1, 2], label="line"), "a line")
    figure = new_figure(2, 2)
    figure.subplots()
    print_figure(figure, BytesIO(), "png")
