"""The signal through the layers, before the first step and at the end: its file, picture and table."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from striate.account.signal.trace import SignalRow, measure_signal, samples_of, signal_from_json, signal_to_json
from striate.machine.memory import in_halves
from striate.runs.directory import RunDirectory
from striate.runs.events import append_event
from striate.runs.files import explained, write_json
from striate.runs.plain_files import is_there, read_bytes
from striate.training.execution import training_part
from striate.training.prepare import Prepared
from striate.visualize.canvas import save_figure
from striate.visualize.charts import signal_charts
from striate.visualize.page_parts import Picture, Table
from striate.visualize.signal_figure import signal_figure
from striate.wording import number, percent, several

ROWS = 200
"""Largest number of layers in the table; its caption has the number of all."""


def complete_signal(run: RunDirectory, prepared: Prepared) -> tuple[tuple[SignalRow, ...], tuple[SignalRow, ...]]:
    """The rows of the start, from signal.json, and of the trained network, which are added to the file.

    A run of an older version without the file, or with a damaged one, has no rows of the start.
    """
    start = _start(run)
    network, train = prepared.state.eval_module, prepared.splits["train"]
    samples = training_part(prepared.config, samples_of(prepared.data.input_shape))
    end = in_halves(samples, partial(measure_signal, network, prepared.task, train, prepared.normalize))
    write_json(run.signal, {"start": signal_to_json(start), "end": signal_to_json(end)})
    return start, end


def _start(run: RunDirectory) -> tuple[SignalRow, ...]:
    if not is_there(run.signal):
        return ()
    with explained(run.signal):
        content = read_bytes(run.signal)
    try:
        return signal_from_json(json.loads(content)["start"])
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        append_event(
            run, "note", text=f"{run.signal.name} is damaged: the report lacks the signal before the first step"
        )
        return ()


def draw_signal(folder: Path, start: tuple[SignalRow, ...], end: tuple[SignalRow, ...], data: str) -> Picture:
    """`signal.png`: standard deviation and gradient by layer, at the start and at the end."""
    figure = signal_figure(start, end, title=f"{data}, train split, up to 64 samples")
    caption = (
        f"{data}, up to 64 samples of the train split, in train mode. A healthy initialization is level: where signals"
        " shrink or grow from layer to layer, some layers cannot learn. The output layer starts small on purpose. Zeros"
        " are gaps: a residual branch whose last scale begins at zero gets no gradient in the first step."
    )
    path = save_figure(figure, folder / "signal.png")
    return Picture("Signal through the layers", caption, path, "signal", signal_charts(start, end))


def signal_table(start: tuple[SignalRow, ...], end: tuple[SignalRow, ...]) -> Table:
    """A row for each layer; a dash where there is no value."""
    columns = (
        "layer",
        "kind",
        "mean",
        "std",
        "gradient norm",
        "saturated",
        "dead",
        "std at the end",
        "dead at the end",
    )
    after = {(row.name, row.kind): row for row in end}
    rows = []
    for row in start[:ROWS]:
        last = after.get((row.name, row.kind))
        figures = (number(row.mean), number(row.std), number(row.gradient_norm))
        ends = (number(last.std if last else None), percent(last.dead if last else None))
        rows.append((row.name, row.kind, *figures, percent(row.saturated), percent(row.dead), *ends))
    caption = f"{len(rows):,} of {several(len(start), 'layer')}, before the first step and at the end"
    return Table(caption, columns, tuple(rows))
