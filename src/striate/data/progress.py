"""Progress of long work, announced in tenths."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

_MOMENT_SECONDS = 2.0


def announce_tenths(
    what: str, total: int, unit: str, announce: Callable[[str], None] | None, *, moment: float = _MOMENT_SECONDS
) -> Callable[[int], None]:
    """A function that is called with every number of finished `unit`s, and announces every tenth of `total`.

    Nothing is announced in the first `moment` seconds, so that short work stays silent.
    """
    started, done, announced = monotonic(), 0, 0

    def count(number: int) -> None:
        nonlocal done, announced
        done += number
        tenths = min(10, 10 * done // max(1, total))
        if announce is not None and tenths > announced and monotonic() - started >= moment:
            announced = tenths
            announce(f"{what}: {10 * tenths} % of {total:,} {unit}")

    return count
