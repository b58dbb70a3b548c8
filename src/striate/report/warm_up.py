"""What a process does that will draw: load the libraries, and draw once, since the first picture takes longest."""

from __future__ import annotations

from importlib import import_module
from io import BytesIO

from striate.visualize.canvas import new_figure, print_figure
from striate.visualize.charts import chart


def prepare_to_draw() -> None:
    """Import what assessments and pictures of a classification need, and draw a picture of nothing."""
    for module in ("scipy.optimize", "sklearn.metrics", "striate.tasks.classify.show"):
        import_module(module)
    chart(lambda axes: axes.plot([1, 2], [1, 2], label="line"), "a line")
    figure = new_figure(2, 2)
    figure.subplots()
    print_figure(figure, BytesIO(), "png")
