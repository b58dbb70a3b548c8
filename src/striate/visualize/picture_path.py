"""Check where a picture may be written, before it is computed, and write it in the format of its suffix."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from striate.errors import RunError, UsageError, pasted
from striate.runs.files import write_atomic
from striate.visualize.picture import Picture

_LONGEST = 200
"""Largest size of a file's name, in bytes. Folders allow 255, and the temporary name of a file is longer."""


def refuse_picture_path(
    path: Path, *, force: bool = False, endings: Collection[str] = (".png",), option: str = "--out"
) -> None:
    """Raise UsageError where no new file with one of these endings can be written to `path`, the value of `option`
    (`--out`, or the name of an argument); `force` allows overwriting a file."""
    first = next(iter(endings))
    folder, there = _existing(path, option, first)
    if path.suffix.lower() not in endings:
        # `.` and `/` are folders without a name.
        named = path.with_suffix(first) if path.name.strip(".") else path / f"out{first}"
        got = f"{path}, a file that ends in {path.suffix or 'nothing'}"
        raise UsageError(option, got, f"a file that ends in {_either(endings)}", _place(option, named))
    if folder or (there and not force):
        other = _place(option, path.with_stem(f"{path.stem}-2"))
        raise UsageError(
            str(path), "it exists already", "a new file", other if folder else f"--force overwrites it; or {other}"
        )
    if not path.absolute().parent.is_dir():
        raise UsageError(option, str(path), "a file in a folder that exists", f"mkdir -p {pasted(path.parent)}")


def refuse_idle_force(force: bool, written: bool, options: str) -> None:
    """Raise UsageError where `force` is given and no file is `written`; `options` are those that name one."""
    if force and not written:
        raise UsageError("--force", "no file to overwrite", f"--force together with {options}", "leave out --force")


def _existing(path: Path, option: str, ending: str) -> tuple[bool, bool]:
    """Whether the path is a folder, and whether it exists. Raises UsageError for a path that is too long."""
    try:
        folder, there, reason = path.is_dir(), path.exists(), "File name too long"
    except OSError as error:
        folder, there, reason = False, False, error.strerror or str(error)
    else:
        if len(os.fsencode(path.name)) <= _LONGEST:
            return folder, there
    got = f"{str(path)[:60]}…: {reason}"
    raise UsageError(
        option,
        got,
        f"a shorter path, with a file name of at most {_LONGEST} bytes",
        _place(option, Path(f"out{ending}")),
    ) from None


def _place(option: str, path: Path) -> str:
    """The remedy: an option with its value, or `write to` with the path for an argument."""
    return f"{option} {pasted(path)}" if option.startswith("-") else f"write to {pasted(path)}"


def _either(endings: Collection[str]) -> str:
    *others, last = endings
    return f"{', '.join(others)} or {last}" if others else last


FORMATS = {
    **{".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP", ".ppm": "PPM", ".pgm": "PPM"},
    **{".jpg": "JPEG", ".jpeg": "JPEG"},
}
"""Pillow's format by suffix. All but JPEG preserve every value."""


def refuse_out(out: Path, picture: Picture | None = None, *, force: bool = False) -> None:
    """Raise UsageError where the picture cannot be written to `out`: for its suffix, its folder, an existing file, and
    for transparency or color that the format does not support."""
    refuse_picture_path(out, force=force, endings=FORMATS, option="OUT")
    if picture is not None and picture.alpha is not None and out.suffix.lower() not in (".png", ".tif", ".tiff"):
        got, expected = f"{out}, for a picture with transparency", "a format with transparency: .png, .tif"
        raise UsageError("OUT", got, expected, f"write to {pasted(out.with_suffix('.png'))}")
    if picture is not None and len(picture.channels) > 1 and out.suffix.lower() == ".pgm":
        got, expected = f"{out}, for a picture in color", "a format with color: .ppm, .png"
        raise UsageError("OUT", got, expected, f"write to {pasted(out.with_suffix('.ppm'))}; or --gray")


def save_picture(picture: Picture, out: Path) -> str | None:
    """Write the picture atomically, in the format of the suffix; returns a note if the file has other values.

    Call `refuse_out` first. Raises UsageError where the file cannot be written.
    """
    planes = picture.values if picture.alpha is None else np.dstack([picture.values, picture.alpha])
    image = Image.fromarray(planes[..., 0] if planes.shape[2] == 1 else planes)
    kind = FORMATS[out.suffix.lower()]
    options: dict[str, Any] = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    if picture.profile and kind != "PPM":
        options["icc_profile"] = picture.profile
    try:
        write_atomic(out, lambda opened: image.save(opened, format=kind, **options))
    except RunError as error:
        raise UsageError("OUT", f"{out} {error.got}", error.expected, "write to a file in another folder") from None
    if kind == "JPEG":
        return f"{out}: JPEG changes values a little; .png stores them exactly"
    return None
