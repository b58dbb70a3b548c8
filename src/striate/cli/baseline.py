"""`striate baseline`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.cli.fields import Flag, takes_fields

if TYPE_CHECKING:
    from rich.table import Table


@takes_fields("data.", "task.name", "task.class_weights", "seed")
def baseline(
    data: str | None = None,
    /,
    *,
    fields: dict[str, Any],
    config: Path | None = None,
    json: Flag = False,
) -> int:
    """Measure the baselines that a network has to beat.

    Classes: the most common class; logistic regression; for images a linear SVM on HOG (and color) features, and one on
    features that k-means learns from patches without labels (Coates et al. 2011).
    Numbers: the mean; ridge regression; for tables gradient boosting. Masks: the most common class; a random forest on
    pixels. They are fitted to the training split that `striate train` would use, tuned on the validation split, and
    evaluated on the test split. Environments (gym:ID): random actions in the test episodes. `striate train --baseline`
    compares a network with them. Exit code 1 if some of the data could not be read.

    Parameters
    ----------
    data
        Data in any form that `striate train` takes. Default: mnist5k.
    config
        A config.yaml, for example of a run: its data and splits.
    json
        Print one JSON document on stdout.
    """
    from striate.api.measuring import data_baselines
    from striate.cli.output import print_json, print_note, print_text, results_only

    with results_only(json):
        found = data_baselines(data, size=None, config=config, fields=fields, announce=print_note)
    if json:
        print_json(found.to_json())
    else:
        from striate.report.baselines import baseline_table, explain_baseline

        n = found.baselines[0].metrics["n"]
        _print_table(baseline_table(found.baselines, f"test split of {found.data}, n = {n:,}"))
        for entry in found.baselines:
            print_text(f"\n{explain_baseline(entry)}")
    return 1 if any(finding.severity == "error" for finding in found.findings) else 0


def _print_table(content: Any) -> None:
    from striate.cli.output import print_text, stdout
    from striate.errors import one_line

    console = stdout()
    table = _laid_out((content.columns, *content.rows))
    unbounded = console.options.update(max_width=10_000)
    if console.measure(table, options=unbounded).minimum > console.width:  # words would be broken: a line a figure
        table = _laid_out(tuple(zip(content.columns, *content.rows, strict=True)))
    print_text(one_line(content.caption))
    console.print(table)


def _laid_out(lines: Sequence[Sequence[object]]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, column in enumerate(lines[0]):
        table.add_column(str(column), justify="right" if place else "left", overflow="fold")
    for line in lines[1:]:
        table.add_row(*map(str, line))
    return table
