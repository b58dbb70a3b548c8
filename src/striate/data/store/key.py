"""What a pack is of, and where packs are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import PIL
import torch

from striate.data.preparation import Preparation
from striate.data.store.pack import FORMAT
from striate.errors import ConfigError
from striate.machine.cache import cache_folder

_DECODING = 1
"""To be raised whenever striate makes other bytes of the same file."""


def packs_folder(chosen: str | None) -> Path | None:
    """`chosen`, else `packs` in the cache folder; None where there is none. Raises ConfigError for `~` of nobody."""
    if not chosen:
        cache = cache_folder()
        return None if cache is None else cache / "packs"
    try:
        return Path(chosen).expanduser()
    except RuntimeError:
        raise ConfigError(
            "data.packs", chosen, "a home folder of somebody who is known here, or another path", "--data.packs ./packs"
        ) from None


def pack_key(contents: Iterable[bytes], form: tuple[int | str, ...], preparation: Preparation) -> str:
    """32 hexadecimal digits that are the same for the same pixels.

    They follow from the digests of the samples in their order, their `form` where they are arrays (empty for files; of
    masks, that they are such), how they are prepared, and by which decoder.
    """
    how: list[object] = [preparation.input_shape, preparation.fit, preparation.max_pixels, preparation.reduced, form]
    how += [FORMAT, _DECODING, PIL.__version__, _simplejpeg(), torch.__version__]
    digest = hashlib.sha256(json.dumps(how).encode())
    for content in contents:
        digest.update(content)
    return digest.hexdigest()[:32]


def _simplejpeg() -> str | None:
    try:
        return version("simplejpeg")
    except PackageNotFoundError:
        return None
