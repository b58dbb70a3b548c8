"""What a pack is of, and where packs are."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

import PIL
import torch

from striate.data.dataset import Preparation
from striate.data.store.pack import FORMAT

_DECODING = 1
"""To be raised whenever striate makes other bytes of the same file."""


def packs_folder(chosen: str | None) -> Path:
    """`chosen`, else `packs` in $STRIATE_CACHE, else in ~/.cache/striate."""
    if chosen:
        return Path(chosen).expanduser()
    cache = os.environ.get("STRIATE_CACHE")
    return (Path(cache).expanduser() if cache else Path.home() / ".cache" / "striate") / "packs"


def pack_key(contents: Iterable[bytes], form: tuple[int, ...], preparation: Preparation) -> str:
    """32 hexadecimal digits that are the same for the same pixels.

    They follow from the digests of the samples in their order, their `form` where they are arrays (empty for files),
    how they are prepared, and by which decoder.
    """
    how: list[object] = [preparation.input_shape, preparation.fit, preparation.max_pixels, preparation.reduced, form]
    how += [FORMAT, _DECODING, PIL.__version__, torch.__version__]
    digest = hashlib.sha256(json.dumps(how).encode())
    for content in contents:
        digest.update(content)
    return digest.hexdigest()[:32]
