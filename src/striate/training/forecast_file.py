"""forecast.json: what a run was to take and to reach, and at what pace, for as long as the run lies there."""

from __future__ import annotations

from dataclasses import asdict

from striate.runs.directory import RunDirectory
from striate.runs.files import read_dispensable, write_json
from striate.training.forecast import Forecast, forecast_from_json
from striate.training.pace import Pace, pace_from_json


def write_forecast(run: RunDirectory, forecast: Forecast | None, pace: Pace | None) -> None:
    """Write the file where both were measured and it is not there yet. Raises RunError."""
    if forecast is not None and pace is not None and not run.forecast.exists():
        write_json(run.forecast, {"forecast": forecast.to_json(), "pace": asdict(pace)})


def read_forecast(run: RunDirectory) -> tuple[Forecast, Pace] | None:
    """What `write_forecast` wrote; None where there is no such file, or a damaged one: a run does without."""
    values = read_dispensable(run.forecast)
    try:
        return forecast_from_json(values["forecast"]), pace_from_json(values["pace"])
    except (ValueError, LookupError, TypeError):
        return None
