"""Where a picture may be written, checked before time is spent on what it would show."""

from __future__ import annotations

from pathlib import Path

from striate.errors import UsageError, pasted


def refuse_picture_path(
    path: Path, *, force: bool = False, endings: tuple[str, ...] = (".png",), option: str = "--out"
) -> None:
    """Raise UsageError where no new file with one of these endings can be written to `path`, which came with `option`;
    `force` allows to overwrite one."""
    if path.suffix.lower() not in endings:
        expected = f"a file that ends in {' or '.join(endings)}"
        # `.` and `/` are folders without a name.
        named = path.with_suffix(endings[0]) if path.name.strip(".") else path / f"picture{endings[0]}"
        raise UsageError(option, str(path), expected, f"{option} {pasted(named)}")
    if path.is_dir() or (path.exists() and not force):
        other = f"{option} {pasted(path.with_stem(f'{path.stem}-2'))}"
        remedy = other if path.is_dir() else f"--force overwrites it; or {other}"
        raise UsageError(str(path), "it exists already", "a new file", remedy)
    if not path.absolute().parent.is_dir():
        raise UsageError(option, str(path), "a file in a folder that exists", f"mkdir -p {pasted(path.parent)}")
