"""`striate plan`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from striate.cli.fields import NOT_FIRST_STEPS, Data, Flag, takes_fields
from striate.errors import one_line
from striate.wording import several

if TYPE_CHECKING:
    from striate.training.plan.plan_table import PlanRecord, PlanRow


@takes_fields(without=("execution.plan", *NOT_FIRST_STEPS))
def plan(
    data: Data = None,
    /,
    *,
    fields: dict[str, Any],
    config: Path | None = None,
    seconds: float = 20.0,
    json: Flag = False,
) -> int:
    """Measure in which precision, memory format and number of threads a network trains fastest here.

    Each combination trains a copy for some steps, in turns with the others, and is checked against plain fp32: loss,
    outputs and gradients of a real batch. `striate train` does the same by itself where the run is long enough. A field
    that you give (--execution.precision fp32) is not varied.

    Parameters
    ----------
    config
        A config.yaml, for example of an earlier run; other options go on top of it.
    seconds
        About how long measuring may take. More rounds detect smaller differences. Compiling takes long and is tried
        only if there is time for it.
    json
        Print one JSON document on stdout, everything else on stderr.
    """
    from striate.api import plan_training
    from striate.cli.output import print_json, print_note, print_table, print_text, results_only, stdout
    from striate.wording import filled, show_shape

    with results_only(json):
        found = plan_training(data, config=config, set=fields, seconds=seconds, announce=print_note)
    if json:
        print_json(found.to_json())
        return 0
    shape = show_shape(found.input_shape)
    print_text(one_line(f"{found.model} on {found.data}: inputs {shape}, batch {found.batch:,}, {found.device}") + "\n")
    print_table(plan_table(found.record))
    width = stdout().width
    for line in plan_notes(found.record):
        print_text(filled(line, width))
    return 0


def plan_table(record: PlanRecord) -> Table:
    """A line for each candidate, at most 80 columns; the chosen one has an arrow."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="")
    table.add_column("")
    for name in ("precision", "layout", "threads", "memory"):
        table.add_column(name, justify="right" if name == "threads" else "left", no_wrap=True)
    for name in ("ms", "±", "images/s", "speedup"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("gradient")
    for row in record.rows:
        table.add_row(*_cells(record, row), style="bold" if row.chosen else "")
    return table


def _cells(record: PlanRecord, row: PlanRow) -> tuple[str, ...]:
    candidate, times = row.candidate, record.times_plain(row)
    compiled = {"off": "", "default": "\n+ compiled", "cuda-graphs": "\n+ CUDA graphs"}[candidate.compile]
    memory = "reused" if candidate.allocator == "keep" else ""
    timed = ("–", "–", "–", "–")
    if row.seconds:
        speed = f"{record.samples / row.seconds:,.0f}"
        spread = "–" if row.spread is None else _milliseconds(row.spread)
        timed = (_milliseconds(row.seconds), spread, speed, f"{times:.2f}" if times else "–")
    if row == record.rows[0]:
        agreed = "reference"
    else:
        agreed = row.agreement.removeprefix("gradient off by ").partition(":")[0] if row.passed else "refused"
    layout = candidate.memory_format + compiled
    return ("→" if row.chosen else "", candidate.precision, layout, str(candidate.threads), memory, *timed, agreed)


def plan_notes(record: PlanRecord) -> list[str]:
    """What the table leaves out: units, why candidates were refused, the load of the machine, the chosen plan."""
    notes = [
        "",
        f"ms: median time of a step of {several(record.samples, 'sample')} over several rounds; "
        "±: half the interquartile range, – with one round",
        "speedup: relative to the first line; "
        "gradient: relative difference from the gradient of the first line; refused if it is too large",
    ]
    notes += [f"{row.candidate.name}: {row.agreement}" for row in record.rows if not row.passed or ":" in row.agreement]
    notes += [
        f"{row.candidate.name}: {row.peak_bytes / 2**20:,.0f} MiB of GPU memory at most"
        for row in record.rows
        if row.peak_bytes is not None
    ]
    notes += record.notes
    return [*notes, f"load while measuring: {record.load}; took {_short(record.seconds)} s", "", str(record)]


def _milliseconds(seconds: float) -> str:
    """Milliseconds with three digits: steps of networks on tables take a quarter of one."""
    value = 1e3 * seconds
    return f"{value:.3f}" if 0 < value < 0.9995 else _short(value)


def _short(value: float) -> str:
    return f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"
