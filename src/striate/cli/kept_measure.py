"""What is measured of a run only on request, and saved in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar


class _Measured(Protocol):
    def to_json(self) -> dict[str, Any]: ...


Found = TypeVar("Found", bound=_Measured)


def print_kept_measure(
    run: Path, measure: Callable[..., Found], write: Callable[[Path, Found], tuple[Path, ...]], *, json: bool
) -> int:
    """Measure the run, write what was found into it, print it."""
    from striate.cli.output import print_json, print_note, print_text, results_only

    with results_only(json):
        found = measure(run, announce=print_note)
        for written in write(run, found):
            print_note(f"written: {written}")
    if json:
        print_json(found.to_json())
    else:
        print_text(str(found))
    return 0
