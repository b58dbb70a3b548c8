"""How far long work is, said in tenths, where it takes longer than a moment."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

_MOMENT_SECONDS = 2.0


def announce_tenths(
    what: str, total: int, unit: str, announce: Callable[[str], None] | None, *, moment: float = _MOMENT_SECONDS
) -> Callable[[int], None]:
    """A function to be told of every number of `unit` that is done, which announces every tenth of `total`.

    Nothing is announced in the first `moment` seconds, so that short work stays silent.
    """
    started, done, told = monotonic(), 0, 0

    def count(number: int) -> None:
        nonlocal done, told
        done += number
        tenths = min(10, 10 * done // max(1, total))
        if announce is not None and tenths > told and monotonic() - started >= moment:
            told = tenths
            announce(f"{what}: {10 * tenths} % of {total:,} {unit}")

    return count
