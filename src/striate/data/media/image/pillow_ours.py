"""Pillow without its warnings and its own limits, while striate decodes."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

_lock = threading.Lock()
_inside = 0
_silence = warnings.catch_warnings()
_pixel_limit: int | None = None


@contextmanager
def pillow_ours() -> Iterator[None]:
    """Pillow without its warnings and its own pixel limit (ours is checked instead), both put back at the end.

    Both are global, so threads that are inside together share one change: the first makes it, the last undoes it.
    """
    global _inside, _silence, _pixel_limit
    with _lock:
        if _inside == 0:
            _silence = warnings.catch_warnings()
            _silence.__enter__()
            warnings.simplefilter("ignore")
            _pixel_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                Image.MAX_IMAGE_PIXELS = _pixel_limit
                _silence.__exit__(None, None, None)
