"""Reads and writes how a run computed its metrics, so that its network predicts in the same way again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from striate.errors import RunError
from striate.inference.plan import InferencePlan
from striate.runs.directory import RunDirectory
from striate.runs.events import append_event, read_events
from striate.runs.files import read_optional_json

_EVENT = "inference"


def write_inference(run: RunDirectory, plan: InferencePlan) -> None:
    """Write how the run's metrics are going to be computed. Raises RunError."""
    append_event(run, _EVENT, plan=plan.to_json())


def written_inference(run: RunDirectory) -> InferencePlan | None:
    """The plan in metrics.json, or that of `write_inference` where the run is not complete; None where neither is
    there."""
    metrics = read_optional_json(run.metrics_json)
    if isinstance(metrics, dict) and (found := _plan(metrics.get("inference"))) is not None:
        return found
    try:
        plans = [event.get("plan") for event in read_events(run) if event["event"] == _EVENT]
    except RunError:
        return None
    return _plan(plans[-1]) if plans else None


def _plan(values: Any) -> InferencePlan | None:
    from pydantic import TypeAdapter, ValidationError

    try:
        return replace(TypeAdapter(InferencePlan).validate_python(values), seconds=0.0, cached=True)
    except ValidationError:  # the file of another person's run may hold anything
        return None
