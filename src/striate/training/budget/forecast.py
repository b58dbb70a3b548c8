"""What a training will take and reach: the record, and the law by which short trainings foretell a long one.
forecast.json: what a run was to take and to reach, and at what pace, for as long as the run lies there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from striate.runs.directory import RunDirectory
from striate.runs.files import read_dispensable, write_json
from striate.runs.plain_files import is_there
from striate.training.budget.pace import Pace, pace_from_json
from striate.wording import duration

# The error of a long training falls more slowly than that of short ones: with these shares of their power (at worst,
# expected, at best). By the runs of benchmarks/forecast.py.
_WORST, _EXPECTED, _BEST = 0.35, 0.55, 1.5
_POWERS = (0.1, 1.5)  # between which the power of short trainings is taken
_STEEPEST = 1.0  # power, at best
_NOISE = 1.2  # times as large or as small, since a few hundred samples measured it
_SMALLEST = 1e-4  # error that is taken as such: none of a few hundred is not zero
_REPEATS = 15.0  # of samples, after which another pass teaches next to nothing (Muennighoff et al. 2023)
_VARIED = 60.0  # the same where images are varied each time; by the runs of benchmarks/forecast.py


@dataclass(frozen=True)
class ShortTraining:
    """A whole training in `steps` steps, and the share of validation samples that it got wrong at its end."""

    steps: int
    error: float


@dataclass(frozen=True)
class Forecast:
    """Of a training of `steps` steps: wall-clock `seconds` of the whole command, and between which shares the accuracy
    will be, None where it was not tried. `short` are the trainings that this rests on."""

    steps: int
    seconds: float
    accuracy: tuple[float, float] | None = None
    expected: float | None = None
    short: tuple[ShortTraining, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The forecast as plain values."""
        values = asdict(self)
        return values | {"accuracy": None if self.accuracy is None else list(self.accuracy)}

    def __str__(self) -> str:
        text = f"forecast: {duration(self.seconds)} in total"
        if self.accuracy is None:
            return text
        low, high = self.accuracy
        source = f"extrapolated from {len(self.short)} short trainings"
        return f"{text}, val accuracy {100 * low:.1f} to {100 * high:.1f} % ({source})"


def forecast_from_json(values: dict[str, Any]) -> Forecast:
    """The forecast that `to_json` wrote. Raises LookupError, TypeError or ValueError for anything else."""
    short = tuple(ShortTraining(**row) for row in values["short"])
    accuracy = None if values["accuracy"] is None else (float(values["accuracy"][0]), float(values["accuracy"][1]))
    return Forecast(int(values["steps"]), float(values["seconds"]), accuracy, values["expected"], short)


def with_outcome(forecast: Forecast, seconds: float, accuracy: float | None, *, whole: bool) -> dict[str, Any]:
    """The forecast with what came, as plain values: `seconds_taken`; `accuracy_reached`, None where there is none; and
    whether it lies `within` the interval, None where either is missing or training did not go its `whole` way."""
    within = None
    if whole and forecast.accuracy is not None and accuracy is not None:
        within = forecast.accuracy[0] <= accuracy <= forecast.accuracy[1]
    came = {"seconds_taken": round(seconds, 1), "accuracy_reached": accuracy, "within": within}
    return forecast.to_json() | came


def extrapolate(
    short: Sequence[ShortTraining], steps: int, chance: float, *, epoch_steps: int, varied: bool
) -> tuple[float, float, float]:
    """Accuracy at `steps` steps: low, expected, high, shares from 0 to 1.

    The error falls like a power of the number of samples (Hestness et al., "Deep learning scaling is predictable,
    empirically", 2017). The power is fitted to the short trainings by least squares in logarithms; a long training goes
    on from the longest of them with about half of it, and between a third and one and a half in the interval. Samples
    that are seen again, after `epoch_steps` steps, count for less (`effective_steps`), unless they are `varied` each
    time. `chance` is the error of guessing; it is never expected to be worse.
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
    """How many steps on samples never seen before teach as much: the first pass counts whole, of R further ones
    r (1 − e^(−R / r)) (Muennighoff et al., "Scaling data-constrained language models", 2023)."""
    repeats, lasting = max(0.0, steps / epoch_steps - 1), _VARIED if varied else _REPEATS
    return min(steps, epoch_steps) + epoch_steps * lasting * -math.expm1(-repeats / lasting)


def _power(steps: Sequence[float], errors: Sequence[float]) -> float:
    xs, ys = [math.log(n) for n in steps], [math.log(error) for error in errors]
    middle = sum(xs) / len(xs)
    spread = sum((x - middle) ** 2 for x in xs)
    fitted = -sum((x - middle) * y for x, y in zip(xs, ys, strict=True)) / spread if spread else 0.0
    return min(_POWERS[1], max(_POWERS[0], fitted))


def write_forecast(run: RunDirectory, forecast: Forecast | None, pace: Pace | None) -> None:
    """Write the file where both were measured and it is not there yet. Raises RunError."""
    if forecast is not None and pace is not None and not is_there(run.forecast):
        write_json(run.forecast, {"forecast": forecast.to_json(), "pace": asdict(pace)})


def read_forecast(run: RunDirectory) -> tuple[Forecast, Pace] | None:
    """What `write_forecast` wrote; None where there is no such file, or a damaged one: a run does without."""
    values = read_dispensable(run.forecast)
    try:
        return forecast_from_json(values["forecast"]), pace_from_json(values["pace"])
    except (ValueError, LookupError, TypeError):
        return None
