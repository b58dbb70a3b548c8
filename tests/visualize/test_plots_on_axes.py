"""Whatever is drawn as a figure can be drawn on a pair of axes of one's own."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import striate.visualize

ROOM = Path(striate.visualize.__file__).parent
# Rows of pictures with words around them are figures of many axes, and canvas has `new_figure` and `save_figure`.
COMPOSED = {"canvas.py", "check_sheet.py", "instance_pictures.py", "reconstruction_figures.py", "sample_figures.py"}


def functions(file: Path) -> list[ast.FunctionDef]:
    return [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)]


FILES = sorted(
    file
    for file in ROOM.glob("*.py")
    if file.name not in COMPOSED and any(f.name.endswith("_figure") and f.name[0] != "_" for f in functions(file))
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_plot_takes_axes(file: Path) -> None:
    public = [f for f in functions(file) if f.name.startswith("draw_") and f.args.args[0].arg in ("ax", "axes")]
    assert public, f"{file.name} draws a figure, and nothing on given axes"
