"""`striate models`: the list of networks, one entry in full, ImageNet's progress."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from striate.models.catalog.history import ChallengeResult
from striate.models.layer_strings import words
from striate.models.registry import ModelInfo, PublishedError
from striate.wording import scaled, several, show_shape


def models(
    name: str | None = None,
    /,
    *,
    history: Annotated[bool, Parameter(negative=())] = False,
    out: Path | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """List the networks that have a name.

    The table has parameters, operations and the published error of each network.

    Parameters
    ----------
    name
        Show one network in full: its layers, its paper, and every published error. With arguments, as in
        "alexnet-2012(groups=1)", also parameters and operations of that variant.
    history
        Show ImageNet's progress instead: the best error of each year's challenge, and a human's.
    out
        With --history, also draw it into this .png or .svg. Without it nothing is written.
    force
        Overwrite the picture if it exists.
    json
        Print one JSON document on stdout.
    """
    from striate.errors import UsageError

    if history:
        if name is not None:
            got = f"--history and the name {name[:80]}"
            raise UsageError("striate models", got, "--history or a name", "striate models --history")
        return _history(out, force, json)
    if out is not None or force:
        given = "--out" if out is not None else "--force"
        remedy = f"striate models --history{'' if out is None else ' --out imagenet.png'}"
        raise UsageError(f"striate models {given}", "no --history", "--history: only this picture is drawn", remedy)
    return _one(name, json) if name is not None else _all(json)


def _all(as_json: bool) -> int:
    from striate.cli.output import print_json, print_table, print_text
    from striate.models.registry import GROUPS

    if as_json:
        print_json([model_json(info, group) for group, entries in GROUPS.items() for info in entries])
        return 0
    table, notes = model_list(GROUPS)
    print_table(table)
    print_text(notes)
    return 0


def _one(name: str, as_json: bool) -> int:
    from striate.cli.output import print_json, print_text
    from striate.models.registry import GROUPS, describe_model

    (info,) = describe_model(name)
    form = None if name.strip() == info.name else _form(name.strip())
    if as_json:
        group = next(group for group, entries in GROUPS.items() if info in entries)
        print_json(model_json(info, group, form))
        return 0
    print_text(model_entry(info, form))
    return 0


def _form(name: str) -> Form:
    """The cost of a network with these arguments."""
    from striate.api.networks import summary

    ledger = summary(name).ledger
    return Form(name, ledger.params, ledger.macs)


def _history(out: Path | None, force: bool, as_json: bool) -> int:
    from dataclasses import asdict

    from striate.cli.output import print_json, print_note, print_table, print_text
    from striate.models.catalog.history import HISTORY

    if out is not None:
        # Refuse the path before matplotlib is loaded.
        from striate.visualize.picture_path import refuse_picture_path

        refuse_picture_path(out, force=force, endings=(".png", ".svg"))
        from striate.visualize.imagenet_history import save_imagenet_history

        print_note(f"drawn into {save_imagenet_history(out)}")
    if as_json:
        print_json([asdict(result) for result in HISTORY])
        return 0
    table, notes = history_table(HISTORY)
    print_table(table)
    print_text(notes)
    return 0


_WIDTH = 80


def model_list(groups: Mapping[str, Sequence[ModelInfo]]) -> tuple[Table, str]:
    """A line for each network under the name of its family, and the notes below, which name the data of the errors.

    Of several published errors the line has the most comparable one: of a single network with a single crop.
    """
    table = _table(
        ("name", "year", "parameters", "MACs", "top-1", "top-5", "measured on"), left=("name", "measured on")
    )
    numbers: dict[tuple[str, str], int] = {}
    for group, entries in groups.items():
        table.add_row(f"[bold]{group}[/]")
        for info in sorted(entries, key=lambda info: info.year):
            error = comparable_error(info)
            mark = ""
            if error is not None:
                mark = f"[{numbers.setdefault((error.of, error.source), len(numbers) + 1)}]"
            size = f"{info.published_parameters:,}"
            rates = [_percent(error.top1), _percent(error.top5)] if error else ["", ""]
            # A backslash keeps rich from taking [1] for a style.
            row = [
                f"  {info.name}",
                str(info.year),
                size,
                scaled(info.published_macs),
                *rates,
                mark.replace("[", r"\["),
            ]
            table.add_row(*row)
    notes = [_note(f"[{number}] {of}: {source}", 4) for (of, source), number in numbers.items()]
    more = (
        "MACs: multiply–accumulates for one input of the published size.\n"
        "Errors in percent; compare only errors with the same note.\n"
        "Details: striate models NAME. ImageNet's progress: striate models --history.\n"
        'Any layer string is a network too: --model "conv(16,5) relu pool(2) fc(10)"'
    )
    return table, "\n".join(["", *notes, *([""] if notes else []), more])


def comparable_error(info: ModelInfo) -> PublishedError | None:
    """The error to compare with other networks: that of a single network with a single crop, else the first published
    one; of several, that of the weights that can be downloaded."""
    single = [e for e in info.errors if re.search(r"\b(1|one|single)( central)? crop\b", e.of)]
    downloaded = [e for e in single if info.weights and e.source.startswith(info.weights)]
    return next(iter([*downloaded, *single, *info.errors]), None)


@dataclass(frozen=True)
class Form:
    """A network with arguments."""

    written: str
    """The name with its arguments."""
    params: int
    """Number of trainable parameters."""
    macs: int
    """Multiply–accumulates for one input of the published size."""


def model_entry(info: ModelInfo, form: Form | None = None) -> str:
    """All that is known of one network, in lines; with a `form`, also the cost of that variant."""
    shape = show_shape(info.input_shape)
    outputs = "classes at every pixel" if info.dense else "outputs"
    divides = f"; its layers divide the size by {info.reduction}" if info.reduction > 1 else ""
    lines = [
        ("description", info.description),
        ("source", info.source),
        ("written", info.signature),
        ("input", f"{shape} as published, {info.outputs:,} {outputs}{divides}"),
        ("parameters", f"{info.published_parameters:,} trainable"),
        ("MACs", f"{info.published_macs:,} multiply–accumulates for one such input"),
    ]
    if form is not None:
        lines += [
            ("variant", f"{form.written}: the other lines describe the published network"),
            ("", f"{several(form.params, 'parameter')}, {form.macs:,} multiply–accumulates"),
        ]
    if info.small_form:
        lines.append(("small images", f'--model "{info.small_form}"'))
    if info.weights:
        lines.append(("weights", f"files of {info.weights} have the same tensors: --weights FILE"))
    if info.local_rule:
        lines.append(("learning", "has a local learning rule, which needs no gradient: --optim.name local-rule"))
    lines += [("published", _error(error)) for error in info.errors]
    first = [name if k == 0 or name != lines[k - 1][0] else "" for k, (name, _) in enumerate(lines)]
    body = [_note(f"  {label:<13}{text}", 15) for label, (_, text) in zip(first, lines, strict=True)]
    return "\n".join([f"{info.name} ({info.year})", *body])


def model_json(info: ModelInfo, group: str, form: Form | None = None) -> dict[str, Any]:
    """One network as a JSON object, with everything that is known of it; `params` and `macs` are those of the `form`,
    if there is one, and `published` has those of the published network."""
    values = asdict(info)
    published = {"params": values.pop("published_parameters"), "macs": values.pop("published_macs")}
    return {
        "name": info.name,
        "family": group,
        "signature": info.signature,
        **(published if form is None else asdict(form) | {"published": published}),
        "arguments": [_argument(parameter) for parameter in info.parameters],
    } | {key: value for key, value in values.items() if key not in ("path", "parameters")}


def history_table(results: Iterable[ChallengeResult]) -> tuple[Table, str]:
    """A line for each result with its error as a bar, and the notes below it."""
    results = list(results)
    table = _table(("year", "place", "network", "layers", "error %", ""), left=("year", "network", ""))
    for result in results:
        place, depth = (str(number) if number else "" for number in (result.place, result.depth))
        table.add_row(str(result.year), place, result.network, depth, _percent(result.top5), _bar(result.top5))
    sources = [_note(f"{r.year} {r.team}: {r.source}", 5) for r in results]
    more = _note(
        "Error: percent of test images whose label is not among the five predictions, 1,000 classes, trained on the "
        "given images only; mostly several networks averaged.",
        0,
    )
    return table, "\n".join(["", more, "", *sources, "", "As a picture: striate models --history --out imagenet.png"])


def _argument(parameter: words.Parameter) -> dict[str, Any]:
    """One argument: its kind, its default, and what it may be."""
    shown: dict[str, Any] = {"name": parameter.name, "kind": parameter.kind, "many": parameter.many}
    if parameter.default is not ...:
        shown["default"] = parameter.default
    if parameter.kind == "choice":
        return shown | {"choices": list(parameter.choices)}
    return shown if parameter.kind == "flag" else shown | {"low": parameter.low, "high": parameter.high}


def _error(error: PublishedError) -> str:
    rates = [f"{name} {value:g} %" for name, value in (("top-1", error.top1), ("top-5", error.top5)) if value]
    return f"{', '.join(rates)} wrong on {error.of} ({error.source})"


def _percent(value: float | None) -> str:
    """At most two decimals, points below each other: `40.7 `, `43.48`."""
    if value is None:
        return ""
    return f"{value:.1f} " if round(value, 1) == value else f"{value:.2f}"


def _bar(percent: float) -> str:
    """A bar of two cells for 5 %, to an eighth of a cell."""
    eighths = round(percent * 8 * 2 / 5)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _note(text: str, indent: int) -> str:
    return textwrap.fill(text, _WIDTH, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def _table(columns: Sequence[str], left: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="left" if column in left else "right", no_wrap=True)
    return table
