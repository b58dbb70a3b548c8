"""`striate eval RUN --learning-curve`."""

from __future__ import annotations

from pathlib import Path


def print_learning_curve(run: Path, *, json: bool) -> int:
    """Train on parts of the training samples, write the curve into the run, print it."""
    from striate.api import learning_curve, write_learning_curve
    from striate.cli.output import print_json, print_note, print_text, results_only

    with results_only(json):
        found = learning_curve(run, announce=print_note)
        for written in write_learning_curve(run, found):
            print_note(f"written: {written}")
    if json:
        print_json(found.to_json())
    else:
        print_text(str(found))
    return 0
