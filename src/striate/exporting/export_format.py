"""The interface of export formats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from striate.data.dataset import Dataset
from striate.errors import UsageError
from striate.exporting.traceable import Traceable
from striate.training.trained import Trained

Runner = Callable[[np.ndarray], list[np.ndarray]]
"""Computes the outputs of a file for a batch of inputs by one runtime."""


class ExportFormat:
    """A format: how its files are written, read and run."""

    name: ClassVar[str]
    """As `--format` names it."""
    what: ClassVar[str]
    """What it is, in a few words."""
    suffix: ClassVar[str] = ""
    """Of its file; empty where it is a folder."""
    second_suffix: ClassVar[str] = ""
    """The suffix of a second file that lies beside it; empty where there is none."""
    extra: ClassVar[str] = ""
    """The extra of striate that it needs."""
    needs: ClassVar[tuple[str, ...]] = ()
    """The packages of that extra."""

    def require(self) -> None:
        """Raise UsageError where a package is missing."""
        missing = [package for package in self.needs if find_spec(package) is None]
        if missing:
            raise UsageError(
                f"striate export --format {self.name}",
                f"{' and '.join(missing)}: not installed",
                f"the extra `{self.extra}`",
                f"pip install 'striate[{self.extra}]'",
            )

    def write(self, network: Traceable, facts: Mapping[str, Any], place: Path) -> None:
        """Write the file, or the files of the folder, at the temporary path `place`, whose folder is removed in the
        end."""
        raise NotImplementedError

    exports_players: ClassVar[bool] = True
    """Whether it takes networks that play, which have no metrics of samples."""
    quantizes: ClassVar[bool] = False
    """Whether the format has `write_int8`."""

    def write_int8(self, source: Path, place: Path, trained: Trained, data: Dataset) -> None:
        """Write the file `source` in 8-bit integers at `place`."""
        raise NotImplementedError

    def facts(self, place: Path) -> dict[str, Any]:
        """The facts in the file; empty for a file of another program."""
        raise NotImplementedError

    def runners(self, place: Path) -> dict[str, Runner]:
        """The runtimes for the file on this machine, by name, the decisive one first."""
        raise NotImplementedError


def written_size(place: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files)
