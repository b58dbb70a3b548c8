"""Readers of the event stream for a user: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from time import monotonic

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from striate.statistics.intervals import wilson
from striate.tasks.metric import Metric, metric_of
from striate.training.budget.deadline import TimeWatch
from striate.training.events import EpochDone, EpochRow, Event, MemoryRanOut, StepDone
from striate.wording import duration, percent, several

_REDRAW = 0.1  # seconds between two updates of the bar
_WAIT_MATTERS = 0.05  # share of the time: shorter waits for data are not shown
_PLAIN_EVERY = 2.0  # seconds between plain lines: an epoch of a table takes milliseconds


_FEW = 200
Described = Callable[[EpochRow], str]


def describe_row(row: EpochRow, metrics: Sequence[Metric], validated: int = 0) -> str:
    """`loss 0.123 val accuracy 97.1 % 12,300 samples/s`, within 60 columns. Longer where steps wait for data, and where
    few samples were `validated` (0: not told), whose 95 % interval is added. `metrics`: those of the task."""
    key = next((k for k in row.val if k != "loss"), "loss")
    metric, value = metric_of(metrics, key), row.val[key]
    shown = percent(value) if metric.is_share else metric.text(value)
    if key == "accuracy" and 0 < validated < _FEW:
        span = wilson(round(value * validated), validated)
        shown += f" ({100 * span.low:.0f}–{percent(span.high, 0)}, n = {validated})"
    speed = row.samples / row.seconds if row.seconds > 0 else 0.0
    wait = row.data_wait or 0.0
    waited = f"  {percent(wait, 0)} waiting for data" if wait > _WAIT_MATTERS else ""
    skipped = f"  {several(row.skipped_steps, 'step')} skipped by the fp16 scaler" if row.skipped_steps else ""
    return f"loss {row.train['loss']:.4f}  val {metric.name} {shown}  {speed:,.0f} samples/s{waited}{skipped}"


@contextmanager
def progress_reader(
    console: Console,
    metrics: Sequence[Metric],
    quiet: bool = False,
    watch: TimeWatch | None = None,
    validated: int = 0,
) -> Iterator[Callable[[Event], None]]:
    """A reader that shows training on `console`: a bar on a terminal, otherwise a line every few seconds. `watch`, a
    reader before this one, knows the time left of the whole command. `metrics`: those of the task; `validated`: number
    of validation samples."""
    described = partial(describe_row, metrics=metrics, validated=validated)
    if quiet:
        yield lambda _: None
    elif console.is_terminal:
        with _bar(console, watch, described) as reader:
            yield reader
    else:
        yield _plain(console, watch, described)


class _Bar(Progress):
    """The metrics of the last epoch have a line of their own: beside the bar, a narrow terminal would cut both off."""

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield from (Text(task.fields["row"]) for task in self.tasks if task.fields["row"])


@contextmanager
def _bar(console: Console, watch: TimeWatch | None, described: Described) -> Iterator[Callable[[Event], None]]:
    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(bar_width=16),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(compact=True) if watch is None else TextColumn("{task.fields[left]}"),
    )
    with _Bar(*columns, console=console, auto_refresh=False) as progress:
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
                progress.update(task, completed=event.row.step, epoch=event.place, row=described(event.row))
                progress.refresh()

        yield read


def _plain(console: Console, watch: TimeWatch | None, described: Described) -> Callable[[Event], None]:
    shown = 0.0

    def read(event: Event) -> None:
        nonlocal shown
        if isinstance(event, MemoryRanOut):
            console.print(str(event), highlight=False, soft_wrap=True)
        if isinstance(event, EpochDone) and (event.finished or monotonic() - shown > _PLAIN_EVERY):
            shown = monotonic()
            line = f"epoch {event.place}  {described(event.row)}"
            left = _left(watch)
            console.print(f"{line}  {left} left" if left else line, highlight=False, soft_wrap=True)

    return read


def _left(watch: TimeWatch | None) -> str:
    return "" if watch is None or watch.left is None else duration(watch.left)
