"""What a training will take and reach: the record, the law that extrapolates from short trainings, and
forecast.json."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from striate.runs.directory import RunDirectory
from striate.runs.files import read_optional_json, write_json
from striate.runs.plain_files import is_there
from striate.training.budget.pace import Pace, pace_from_json
from striate.wording import duration, percent

# The error of a long training falls more slowly than that of short ones: with these shares of their power in the worst,
# the expected and the best case, as measured by benchmarks/forecast.py.
_WORST, _EXPECTED, _BEST = 0.35, 0.55, 1.5
_POWERS = (0.1, 1.5)  # limits of the power of short trainings
_STEEPEST = 1.0  # limit of the power of the best case
_NOISE = 1.2  # factor by which an error measured on a few hundred samples may be too large or too small
_SMALLEST = 1e-4  # an error of 0 on a few hundred samples is not 0
_REPEATS = 15.0  # of samples, after which another pass teaches next to nothing (Muennighoff et al. 2023)
_VARIED = 60.0  # the same where images are varied each time; by the runs of benchmarks/forecast.py


@dataclass(frozen=True)
class ShortTraining:
    """A whole training in a few steps."""

    steps: int
    """Optimizer steps."""
    error: float
    """Share of wrong predictions on validation at its end, 0 to 1."""


@dataclass(frozen=True)
class Forecast:
    """What a training will take and reach."""

    steps: int
    """Optimizer steps of the training."""
    seconds: float
    """Wall-clock seconds of the whole command."""
    accuracy: tuple[float, float] | None = None
    """Lowest and highest expected accuracy, 0 to 1. None: not extrapolated."""
    expected: float | None = None
    """The most likely accuracy. None as `accuracy`."""
    short_trainings: tuple[ShortTraining, ...] = ()
    """The short trainings that the accuracy is extrapolated from."""

    def to_json(self) -> dict[str, Any]:
        """The forecast as plain values."""
        values = asdict(self)
        return values | {"accuracy": None if self.accuracy is None else list(self.accuracy)}

    def __str__(self) -> str:
        text = f"forecast: {duration(self.seconds)} in total"
        if self.accuracy is None:
            return text
        low, high = self.accuracy
        source = f"extrapolated from {len(self.short_trainings)} short trainings"
        return f"{text}, val accuracy {100 * low:.1f} to {percent(high)} ({source})"


def forecast_from_json(values: dict[str, Any]) -> Forecast:
    """The forecast that `to_json` wrote. Raises LookupError, TypeError or ValueError for anything else."""
    short = tuple(ShortTraining(**row) for row in values["short_trainings"])
    accuracy = None if values["accuracy"] is None else (float(values["accuracy"][0]), float(values["accuracy"][1]))
    return Forecast(int(values["steps"]), float(values["seconds"]), accuracy, values["expected"], short)


def with_outcome(forecast: Forecast, seconds: float, accuracy: float | None, *, whole: bool) -> dict[str, Any]:
    """The forecast with the outcome, as plain values: `seconds_taken`, `accuracy_reached` (None: not measured), and
    whether that is `within_interval` (None where either is missing, or training ended early: not `whole`)."""
    within = None
    if whole and forecast.accuracy is not None and accuracy is not None:
        within = forecast.accuracy[0] <= accuracy <= forecast.accuracy[1]
    came = {"seconds_taken": round(seconds, 1), "accuracy_reached": accuracy, "within_interval": within}
    return forecast.to_json() | came


def extrapolate(
    short: Sequence[ShortTraining], steps: int, chance: float, *, epoch_steps: int, varied: bool
) -> tuple[float, float, float]:
    """Accuracy at `steps` steps: low, expected, high, from 0 to 1.

    The error falls like a power of the number of samples (Hestness et al., "Deep learning scaling is predictable,
    empirically", 2017). The power is fitted to the short trainings by least squares in logarithms. The extrapolation
    begins at the longest of them, with about half of that power; the interval takes a third of it, and one and a half
    times it. After `epoch_steps` steps samples are seen again and count for less (`effective_steps`), unless they are
    `varied` each time. `chance` is the error of guessing: no forecast is worse.
    """
    seen = [effective_steps(n, epoch_steps, varied=varied) for n in (*(row.steps for row in short), steps)]
    errors = [max(row.error, _SMALLEST) for row in short]
    power = _power(seen[:-1], errors)
    last = max(range(len(short)), key=lambda k: short[k].steps)

    def error(share: float) -> float:
        return errors[last] * math.pow(seen[-1] / seen[last], -min(_STEEPEST, share * power))

    worst, expected, best = error(_WORST) * _NOISE, error(_EXPECTED), error(_BEST) / _NOISE
    return 1 - min(chance, worst), 1 - min(chance, expected), 1 - min(chance, best)


def effective_steps(steps: int, epoch_steps: int, *, varied: bool) -> float:
    """How many steps on new samples teach as much as `steps` steps: the first epoch counts in full, R further ones
    count r (1 − e^(−R / r)) (Muennighoff et al., "Scaling data-constrained language models", 2023)."""
    repeats, lasting = max(0.0, steps / epoch_steps - 1), _VARIED if varied else _REPEATS
    return min(steps, epoch_steps) + epoch_steps * lasting * -math.expm1(-repeats / lasting)


def _power(steps: Sequence[float], errors: Sequence[float]) -> float:
    xs, ys = [math.log(n) for n in steps], [math.log(error) for error in errors]
    middle = sum(xs) / len(xs)
    squares = sum((x - middle) ** 2 for x in xs)
    fitted = -sum((x - middle) * y for x, y in zip(xs, ys, strict=True)) / squares if squares else 0.0
    return min(_POWERS[1], max(_POWERS[0], fitted))


def write_forecast(run: RunDirectory, forecast: Forecast | None, pace: Pace | None) -> None:
    """Write forecast.json where both were measured and the file does not exist yet. Raises RunError."""
    if forecast is not None and pace is not None and not is_there(run.forecast):
        write_json(run.forecast, {"forecast": forecast.to_json(), "pace": asdict(pace)})


def read_forecast(run: RunDirectory) -> tuple[Forecast, Pace] | None:
    """What `write_forecast` wrote; None where the file is missing or damaged."""
    values = read_optional_json(run.forecast)
    try:
        return forecast_from_json(values["forecast"]), pace_from_json(values["pace"])
    except (ValueError, LookupError, TypeError):
        return None
