"""Where a picture may be written, checked before time is spent on what it would show."""

from __future__ import annotations

from pathlib import Path

from striate.errors import UsageError, pasted


def refuse_picture_path(path: Path, *, force: bool = False) -> None:
    """Raise UsageError where no new .png can be written to `path`; `force` allows to overwrite one."""
    if path.suffix.lower() != ".png":
        raise UsageError("--out", str(path), "a file that ends in .png", f"--out {pasted(path.with_suffix('.png'))}")
    if path.is_dir() or (path.exists() and not force):
        other = f"--out {pasted(path.with_stem(f'{path.stem}-2'))}"
        remedy = other if path.is_dir() else f"--force overwrites it; or {other}"
        raise UsageError(str(path), "it exists already", "a new file", remedy)
    if not path.absolute().parent.is_dir():
        raise UsageError("--out", str(path), "a file in a folder that exists", f"mkdir -p {pasted(path.parent)}")
