"""The progress that public functions report while they work."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from rich.console import Console

from striate.errors import one_line
from striate.training.prepare import Prepared

Announce = Callable[[str], None]


def announcer(console: Console, quiet: bool) -> Announce:
    """A function that prints a text, whatever characters it has, as one line on `console`, unless `quiet`."""

    def announce(text: str) -> None:
        if not quiet:
            console.print(one_line(text), markup=False, emoji=False, highlight=False, soft_wrap=True)

    return announce


def announce_decisions(prepared: Prepared, announce: Announce, spent: float = 0.0) -> None:
    """Announce what was decided about data and training, the findings, and when training will end; `spent`: seconds
    since the user's request."""
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in prepared.data.splits.items())
    announce(f"{prepared.data.name}: {sizes}; {prepared.data.inputs_in_words}")
    for note in (*filter(None, (prepared.data.annotated,)), *prepared.notes):
        announce(note)
    for finding in prepared.findings:
        announce(str(finding))
    if prepared.forecast is not None:
        left = timedelta(seconds=max(0.0, prepared.forecast.seconds - spent))
        announce(f"{prepared.forecast}; it ends at about {datetime.now() + left:%H:%M}")
