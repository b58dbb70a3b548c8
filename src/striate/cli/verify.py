"""`striate verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from striate.api.verifying import Verification


def verify(
    run: Path,
    /,
    *,
    steps: int | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Check that the files of a run are intact, and that its steps repeat bit for bit.

    The steps between the last two checkpoints are trained again on a copy. The loss of each step is compared, then
    weights, optimizer state and metrics. For a game, and for a run of several processes without --deterministic, only
    the files are checked. Exit code 0 if all agree, 1 if something differs or is damaged, 2 if it cannot be checked.
    Nothing is written into the run.

    Parameters
    ----------
    run
        A run directory.
    steps
        Largest number of steps to repeat. Default: all between the two checkpoints.
    json
        Print one JSON document on stdout.
    """
    from striate.api import verify as verify_run
    from striate.cli.output import print_json, print_note, results_only

    with results_only(json):
        found = verify_run(run, steps=steps, announce=print_note)
    if json:
        print_json(found.to_json())
    else:
        _print(found)
    return 0 if found.verdict in ("agree", "intact") else 1


def _print(found: Verification) -> None:
    from striate.cli.output import print_text

    bad = [check for check in found.files if not check.intact]
    for check in found.files:
        if check.message or not check.intact:
            print_text(f"{'ok' if check.intact else 'DAMAGED':<8}{check.name}: {check.message}")
    print_text(f"files:    {len(found.files) - len(bad)} of {len(found.files)} intact")
    done = found.replay
    if done is None:
        print_text(f"replay:   skipped: {found.not_replayed or 'files are damaged'}")
        return
    compared = (
        "losses, weights, optimizer state, metrics" if done.complete else "losses, and weights where they were recorded"
    )
    steps = f"steps {done.begin + 1:,} to {done.end:,}"
    if done.end == done.begin:
        steps = f"no step, only the end of the epoch after step {done.end:,}"
        compared = "weights, optimizer state, metrics"
    print_text(f"replay:   {steps}, from {found.replayed_from}")
    print_text(f"compared: {compared}")
    print_text("verdict:  " + ("bit-identical" if done.first_difference is None else str(done.first_difference)))
    for change in found.changed:
        print_text(f"changed:  {change}")
