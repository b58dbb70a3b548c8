"""`striate compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def compare(
    *runs: Path,
    split: Literal["test", "val"] = "test",
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Test whether the difference between trained runs is statistically significant.

    The result lists parameters and operations of each network beside its metrics.
    All networks predict the same samples. Classes: McNemar's exact test, with a paired bootstrap interval of the
    difference of accuracies. Numbers and masks: paired permutation test and bootstrap. Networks that learned from
    rewards play the same episodes, and their returns are compared. With more than two runs, all pairs are compared, and
    p-values are corrected by Holm's procedure.

    Parameters
    ----------
    runs
        Two run directories or more, of the same data and splits.
    split
        Which samples: `test`, or `val`, to choose a network without looking at the test split.
    json
        Print one JSON document on stdout.
    """
    from striate.api import compare as compare_runs
    from striate.cli.output import print_note, print_result, results_only

    with results_only(json):
        found = compare_runs(runs, split=split, announce=print_note)
    for note in found.notes:
        print_note(note)
    print_result(found, json=json)
    return 0
