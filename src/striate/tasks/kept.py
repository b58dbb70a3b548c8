"""The predictions that lie with a run, once the task that they name has said that they are such as it makes."""

from __future__ import annotations

from striate.errors import RunError, pasted
from striate.runs.directory import RunDirectory
from striate.runs.predictions import Predictions, read_predictions
from striate.tasks.registry import task_of_run


def kept_predictions(run: RunDirectory, split: str) -> Predictions | None:
    """As `read_predictions`; raises RunError too for an unknown task, and for predictions of another one than theirs:
    whoever reads them computes with them as those of the task."""
    kept = read_predictions(run, split)
    if kept is None or task_of_run(kept.task, str(run.path)).made(kept):
        return kept
    raise RunError(
        str(run.predictions / f"{split}.npz"),
        f"damaged (a task {kept.task[:40]!r} with predictions of another one)",
        "the predictions as striate wrote them",
        f"remove it, then: striate eval {pasted(run.path)}",
    )
