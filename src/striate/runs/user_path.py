"""A path as a person writes it, with `~` for a home folder."""

from __future__ import annotations

from pathlib import Path

from striate.errors import RunError


def user_path(text: str) -> Path:
    """The path with `~` and `~name` put in. Raises RunError where nobody has that name."""
    path = Path(text.strip())
    try:
        return path.expanduser()
    except RuntimeError:
        name = path.parts[0]
        raise RunError(
            text[:80],
            f"{name}, and no user of that name",
            "the home folder of somebody who is known here, or another path",
            f"write the path in full: {Path.cwd() / path} for a folder of that name here",
        ) from None
