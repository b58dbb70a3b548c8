"""`striate env`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from rich.table import Table

    from striate.machine.rates import Rate


def env(
    *,
    measure: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Print machine and versions for a bug report; --measure: how fast the machine is.

    Parameters
    ----------
    measure
        Measure matrix products by precision and library, memory bandwidth and decoding; takes a few seconds.
    json
        Print one JSON document on stdout.
    """
    from striate.cli.output import print_json, print_text
    from striate.runs.environment import describe_environment

    environment = describe_environment()
    rates = _measured() if measure else ()
    if json:
        print_json(environment | (_to_json(rates) if measure else {}))
        return 0
    packages = environment.pop("packages")
    for name, value in (environment | packages).items():
        print_text(f"{name:<16}{value if value not in (None, []) else '-'}")
    if measure:
        _print_measured(rates, environment)
    return 0


def _measured() -> tuple[Rate, ...]:
    from striate.api.planning import measure_machine

    return measure_machine()


def _to_json(rates: Sequence[Rate]) -> dict[str, object]:
    from striate.machine.memory import available_bytes, total_bytes
    from striate.machine.rates import LECTURE_PROCESSORS, SOURCE

    return {
        "rates": [rate.to_json() for rate in rates],
        "memory_bytes": {"total": total_bytes(), "available": available_bytes()},
        "lectures": {"source": SOURCE, "processors": [row.to_json() for row in LECTURE_PROCESSORS]},
    }


def _print_measured(rates: Sequence[Rate], environment: Mapping[str, Any]) -> None:
    from striate.cli.output import print_text, stdout
    from striate.machine.memory import available_bytes, total_bytes
    from striate.machine.rates import SOURCE
    from striate.wording import size_in_bytes

    print_text(f"{'memory':<16}{size_in_bytes(total_bytes())}, available {size_in_bytes(available_bytes())}")
    print_text("\nmeasured: best: the fastest of several repeats; median: the typical repeat")
    stdout().print(_rates_table(rates))
    print_text(f"\nfor comparison: the processors of the lectures\n({SOURCE})")
    stdout().print(_processors_table(rates, environment))


def _rates_table(rates: Sequence[Rate]) -> Table:
    table = _table("", "how", "best", "median", "slowest", "", right=(2, 3, 4))
    for rate in rates:
        what = rate.what if rate.precision is None else f"{rate.what}, {rate.precision}"
        values = (_digits(value) for value in (rate.best, rate.median, rate.slowest))
        table.add_row(what, rate.how, *values, rate.unit)
    return table


def _processors_table(rates: Sequence[Rate], environment: Mapping[str, Any]) -> Table:
    from striate.machine.rates import LECTURE_PROCESSORS, best_rate

    table = _table("GFLOP/s", "cores", "GHz", "memory", "price", "fp32", "other", right=(1, 2, 4, 5, 6))
    gpus = dict.fromkeys(environment["gpus"])
    here = {environment["processor"]: [rate for rate in rates if rate.how not in gpus]}
    here |= {gpu: [rate for rate in rates if rate.how == gpu] for gpu in gpus}
    for name, its in here.items():
        fp32, bf16 = (best_rate(its, precision) for precision in ("fp32", "bf16"))
        mine = "" if fp32 is None else _digits(fp32.best), "" if bf16 is None else f"{_digits(bf16.best)} bf16"
        cores = "" if name in gpus else str(environment["cores"])
        table.add_row(f"here: {_model_of(name)}", cores, "", "", "", *mine, style="bold")
    for row in LECTURE_PROCESSORS:
        clock = "?" if row.clock_ghz is None else f"{row.clock_ghz:g}"
        fp32_rate = "?" if row.fp32_rate is None else _digits(row.fp32_rate)
        other = "" if row.other_rate is None else f"{_digits(row.other_rate)} {row.other}"
        table.add_row(row.name, row.cores, clock, row.memory, row.price, fp32_rate, other)
    return table


def _model_of(processor: str) -> str:
    """The name of a processor without trademarks: `Intel Xeon`."""
    return " ".join(processor.replace("(R)", " ").replace("(TM)", " ").removesuffix("Processor").split())


def _table(*columns: str, right: Sequence[int]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place in right else "left", overflow="fold")
    return table


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"
