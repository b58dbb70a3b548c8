"""`striate baseline`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from striate.cli.fields import WRITTEN, Flag, takes_fields


@takes_fields("data.", "task.name", "task.class_weights", "seed", without=WRITTEN)
def baseline(
    data: str | None = None,
    /,
    *,
    fields: dict[str, Any],
    config: Path | None = None,
    json: Flag = False,
) -> int:
    """Measure what a network has to beat, without training one.

    Classes: the commonest; logistic regression; for images HOG, and color where there is some, with a linear SVM,
    and the same on features that k-means learns from patches without labels (Coates et al. 2011).
    Numbers: the mean; ridge regression; for tables gradient boosting. Masks: the commonest; a random forest on pixels.
    They are fitted to the training split that `striate train` would use, tuned on the validation split, and evaluated
    on the test split. `striate train --baseline` compares a network with them. Exit code 1 if some of the data could
    not be read.

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
    from rich.table import Table

    from striate.cli.output import print_text, stdout
    from striate.errors import one_line

    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, column in enumerate(content.columns):
        table.add_column(column, justify="right" if place else "left", overflow="fold")
    for row in content.rows:
        table.add_row(*map(str, row))
    print_text(one_line(content.caption))
    stdout().print(table)
