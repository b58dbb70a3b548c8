"""Writing a picture whole or not at all, in the format that its suffix names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from striate.errors import RunError, UsageError, pasted
from striate.runs.files import write_atomic
from striate.visualize.picture import Picture
from striate.visualize.picture_path import refuse_picture_path

FORMATS = {
    **{".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP", ".ppm": "PPM", ".pgm": "PPM"},
    **{".jpg": "JPEG", ".jpeg": "JPEG"},
}
"""Suffixes that a picture is written under. All but JPEG keep every value."""


def refuse_out(out: Path, picture: Picture | None = None, *, force: bool = False) -> None:
    """Raise UsageError where no picture can be written to `out`: its suffix, its folder, what is there already, or
    transparency that the format does not hold."""
    refuse_picture_path(out, force=force, endings=FORMATS, option="OUT")
    if picture is not None and picture.alpha is not None and out.suffix.lower() not in (".png", ".tif", ".tiff"):
        got, expected = f"{out}, for a picture with transparency", "a format that holds it: .png, .tif"
        raise UsageError("OUT", got, expected, f"write to {pasted(out.with_suffix('.png'))}")


def save_picture(picture: Picture, out: Path) -> str | None:
    """Write the picture whole or not at all, in the format of the suffix; a note where the file holds other values.

    Call `refuse_out` first. Raises UsageError where the file cannot be written.
    """
    planes = picture.values if picture.alpha is None else np.dstack([picture.values, picture.alpha])
    image = Image.fromarray(planes[..., 0] if planes.shape[2] == 1 else planes)
    kind = FORMATS[out.suffix.lower()]
    options: dict[str, Any] = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    if picture.profile and kind != "PPM":
        options["icc_profile"] = picture.profile
    try:
        write_atomic(out, lambda temporary: image.save(temporary, format=kind, **options))
    except RunError as error:
        raise UsageError("OUT", f"{out} {error.got}", error.expected, "write to a file in another folder") from None
    if kind == "JPEG":
        return f"{out}: JPEG changes values a little; a .png keeps each as it was computed"
    return None
