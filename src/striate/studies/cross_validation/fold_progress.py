"""The fold in progress, on a terminal: one line that is replaced, and gone when the fold is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from striate.training.events import EpochDone, Event
from striate.training.progress import describe_row


@contextmanager
def fold_progress(console: Console | None, where: str) -> Iterator[Callable[[Event], None]]:
    """A reader of events that shows the newest epoch of the fold `where`; nothing where `console` is no terminal."""
    if console is None or not console.is_terminal:
        yield lambda _: None
        return
    with console.status(where) as status:

        def read(event: Event) -> None:
            if isinstance(event, EpochDone):
                status.update(f"{where}: epoch {event.row.epoch}/{event.epochs}  {describe_row(event.row)}")

        yield read
