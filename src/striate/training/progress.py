"""Readers of the event stream for a user: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from striate.statistics.intervals import wilson
from striate.training.budget.deadline import TimeWatch
from striate.training.events import EpochDone, EpochRow, Event, MemoryRanOut, StepDone
from striate.wording import duration, number, several

_REDRAW = 0.1  # seconds between two updates of the bar
_WAIT_MATTERS = 0.05  # share of the time: shorter waits for data are not shown
_PLAIN_EVERY = 2.0  # seconds between plain lines: an epoch of a table takes milliseconds


_FEW = 200


def describe_row(row: EpochRow, validated: int = 0) -> str:
    """`loss 0.123 val accuracy 97.1 % 12,300 samples/s`, within 60 columns. Longer where steps wait for data, and where
    few samples were `validated` (0: unknown), whose 95 % interval is added."""
    name = next((k for k in row.val if k != "loss"), "loss")
    value = row.val[name]
    shown = f"{100 * value:.1f} %" if name in ("accuracy", "iou") else number(value)
    if name == "accuracy" and 0 < validated < _FEW:
        span = wilson(round(value * validated), validated)
        shown += f" ({100 * span.low:.0f}–{100 * span.high:.0f} %, n = {validated})"
    speed = row.samples / row.seconds if row.seconds > 0 else 0.0
    wait = row.data_wait or 0.0
    waited = f"  {wait:.0%} waiting for data" if wait > _WAIT_MATTERS else ""
    skipped = f"  {several(row.skipped_steps, 'step')} skipped by the fp16 scaler" if row.skipped_steps else ""
    return f"loss {row.train['loss']:.4f}  val {name} {shown}  {speed:,.0f} samples/s{waited}{skipped}"


@contextmanager
def progress_reader(
    console: Console, quiet: bool = False, watch: TimeWatch | None = None, validated: int = 0
) -> Iterator[Callable[[Event], None]]:
    """A reader that shows training on `console`: a bar on a terminal, otherwise a line every few seconds. `watch`, a
    reader before this one, knows the time left of the whole command. `validated`: number of validation samples."""
    if quiet:
        yield lambda _: None
    elif console.is_terminal:
        with _bar(console, watch, validated) as reader:
            yield reader
    else:
        yield _plain(console, watch, validated)


@contextmanager
def _bar(console: Console, watch: TimeWatch | None, validated: int) -> Iterator[Callable[[Event], None]]:
    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(bar_width=16),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(compact=True) if watch is None else TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[row]}"),
    )
    with Progress(*columns, console=console, auto_refresh=False) as progress:
        task: TaskID | None = None
        drawn = 0.0

        def read(event: Event) -> None:
            nonlocal task, drawn
            if isinstance(event, StepDone):
                if task is None:
                    task = progress.add_task("", total=event.steps, epoch=f"{event.epoch}", row="", left="")
                if monotonic() - drawn > _REDRAW or event.step == event.steps:
                    progress.update(
                        task, total=event.steps, completed=event.step, epoch=f"{event.epoch}", left=_left(watch)
                    )
                    progress.refresh()
                    drawn = monotonic()
            elif isinstance(event, MemoryRanOut):
                progress.console.print(str(event), highlight=False, soft_wrap=True)
            elif isinstance(event, EpochDone) and task is not None:
                progress.update(task, epoch=event.place, row=describe_row(event.row, validated))
                progress.refresh()

        yield read


def _plain(console: Console, watch: TimeWatch | None, validated: int) -> Callable[[Event], None]:
    shown = 0.0

    def read(event: Event) -> None:
        nonlocal shown
        if isinstance(event, MemoryRanOut):
            console.print(str(event), highlight=False, soft_wrap=True)
        if isinstance(event, EpochDone) and (event.finished or monotonic() - shown > _PLAIN_EVERY):
            shown = monotonic()
            line = f"epoch {event.place}  {describe_row(event.row, validated)}"
            left = _left(watch)
            console.print(f"{line}  {left} left" if left else line, highlight=False, soft_wrap=True)

    return read


def _left(watch: TimeWatch | None) -> str:
    return "" if watch is None or watch.left is None else duration(watch.left)
