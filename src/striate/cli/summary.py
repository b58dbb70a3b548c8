"""`striate summary`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from striate.cli.fields import read_sizes
from striate.errors import InputMisfit, NoInputShape, UsageError, pasted

if TYPE_CHECKING:
    from striate.api.networks import Summary


def summary(
    model: str,
    /,
    *,
    input: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    classes: int | None = None,
    against: str | None = None,
    effective: Annotated[bool, Parameter(negative=())] = False,
    depth: int | None = None,
    html: Path | None = None,
    svg: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Show the layers of a network: shapes, parameters, operations, memory, receptive fields.

    Operations are multiply–accumulates (MACs). They are counted in a forward pass in eval mode that allocates no memory
    for weights. Below the table: totals, operations that could not be counted, and advice on the design.

    Parameters
    ----------
    model
        A zoo name (striate models), a layer string, path/to/file.py:function (which runs that code), a run, or the
        folder of striate export --format hub.
    input
        The shape of one input without the batch: channels x height x width, 3x224x224 or 1x28x28 (28x28 means 28
        channels of length 28); or 13 for a table of 13 columns. Default: the published one, or the run's.
    classes
        The number of outputs. Default: the published one, the run's, or the network's own.
    against
        A second network to compare with the first: totals, layers, ratios. Each gets inputs of --input or of its own
        shape.
    effective
        Also measure the effective receptive field: the pixels that the center unit of the last map depends on, by
        gradients.
    depth
        Group the layers of the table by this many leading parts of their names: 1 gives layer1, layer2, …
    html
        Write a page with all numbers and the diagram, which opens in any browser, also offline.
    svg
        Write the diagram of the first network.
    force
        Overwrite these files if they exist.
    json
        Print one JSON document on stdout.
    """
    from striate.cli.output import print_json, print_note, print_text, results_only
    from striate.models.from_run import run_first

    shape = None if input is None else read_sizes("--input", input, "3x224x224")
    _refuse(depth, "--against" if against is not None else "--json" if json else None)
    _refuse_files(html, svg, force)
    model, against = run_first(model, print_note), against and run_first(against, print_note)
    with results_only(json):
        found = _summarize(model, shape, classes, against, effective)
    _write(found, html, svg)
    print_json(found.to_json()) if json else print_text(_text(found, depth))
    if axes := _axes(model, shape):
        print_note(axes)
    return 0


def _axes(model: str, shape: tuple[int, ...] | None) -> str:
    """The meaning of the axes of a run's inputs, where their shape does not show it; else empty."""
    from striate.models.from_run import names_run

    if shape is not None or not names_run(model):
        return ""
    from striate.api import load
    from striate.data.media.every_medium import medium_of
    from striate.training.rewards.player import plays

    if plays(model):
        return ""
    preparation = load(model).preparation
    return medium_of(preparation.kind).axes(preparation)


def _summarize(
    model: str, shape: tuple[int, ...] | None, classes: int | None, against: str | None, effective: bool
) -> Summary:
    from striate.api.networks import summary as account

    try:
        return account(model, shape, outputs=classes, against=against, effective=effective)
    except NoInputShape as error:
        command = f"striate summary {pasted(model)} --input 1x28x28"
        command += f" --against {pasted(against)}" if against else ""
        raise UsageError("--input", f"none, for {error.where}", error.expected, command) from None
    except InputMisfit as error:
        error.remedy = _fitting(error, model, against, shape) or error.remedy
        raise


def _fitting(error: InputMisfit, model: str, against: str | None, shape: tuple[int, ...] | None) -> str:
    """The remedy with options of this verb; empty where no shape was requested."""
    from striate.models.from_run import names_run

    if shape is None:
        return ""
    remedies = []
    if any(names_run(name) for name in (model, against or "")):
        remedies.append("leave out --input: a run has its own")
    elif error.fitting:
        remedies.append(f"--input {_written(error.fitting)}")
    if error.instead:
        command = f"striate summary {pasted(error.instead)} --input {_written(shape)}"
        remedies.append(f"another network: {command}" if against is None else f"another network: {error.instead}")
    return ", or ".join(remedies)


def _written(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _refuse(depth: int | None, other: str | None) -> None:
    """Raise UsageError for a depth below 1, or together with an option that lists single layers."""
    if depth is not None and depth < 1:
        raise UsageError("--depth", str(depth), "at least 1", "--depth 1")
    if depth is not None and other is not None:
        got = f"--depth {depth} with {other}, which lists single layers"
        raise UsageError("--depth", got, "one of the two", f"leave out --depth, or {other}")


def _refuse_files(html: Path | None, svg: Path | None, force: bool) -> None:
    """Raise UsageError for files that cannot be written, before the network is summarized."""
    from striate.visualize.picture_path import refuse_idle_force, refuse_picture_path

    refuse_idle_force(force, bool(html or svg), "--html or --svg")
    for option, path, endings in (("--html", html, (".html", ".htm")), ("--svg", svg, (".svg",))):
        if path is not None:
            refuse_picture_path(path, force=force, endings=endings, option=option)


def _write(found: Summary, html: Path | None, svg: Path | None) -> None:
    """Write the files, and print their names once all are written."""
    from tempfile import gettempdir

    from striate.cli.output import print_note
    from striate.errors import RunError

    for option, path in (("html", html), ("svg", svg)):
        if path is not None:
            from striate.api.networks import write_summary

            try:
                write_summary(found, **{option: path})
            except RunError as error:
                elsewhere = f"--{option} {pasted(Path(gettempdir()) / path.name)}"
                raise UsageError(error.where, error.got, error.expected, elsewhere) from None
    for path in filter(None, (html, svg)):
        print_note(f"written: {path}")


def _text(found: Summary, depth: int | None) -> str:
    from shutil import get_terminal_size

    from striate.account.comparison import comparison_table
    from striate.account.ledger import ledger_table
    from striate.account.table import WIDTH

    # A wide terminal gets a wide table with uncut names, a pipe one that fits a page.
    width = max(WIDTH, min(120, get_terminal_size((WIDTH, 24)).columns))
    if found.comparison is not None:
        return comparison_table(found.comparison, width)
    return ledger_table(found.ledger, width, depth=depth)
