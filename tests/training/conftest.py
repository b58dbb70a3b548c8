"""Runs whose reports have one tiny picture: drawing takes longer than training, and has tests of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from striate.report import finish
from striate.visualize.page_parts import Picture


def _tiny(folder: Path, *_: object) -> Picture:
    path = folder / "signal.png"
    Image.new("RGB", (1, 1)).save(path)
    return Picture("Signal through the layers", "one pixel", path, "signal")


@pytest.fixture(autouse=True, scope="module")
def without_drawing() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finish, "_pictures", lambda *_: [])
        patch.setattr(finish, "draw_signal", _tiny)
        yield
