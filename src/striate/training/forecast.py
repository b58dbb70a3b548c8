"""What a training will take and reach: the record, and the law by which short trainings foretell a long one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

_USUAL_POWER = 0.3  # of the error's fall with the number of steps, where the short trainings do not say otherwise
_TRUST = 0.5  # how far a measured power is believed: two or three noisy figures determine it poorly
_POWERS = (0.05, 0.6)  # between which it is taken
_UP, _DOWN = 1.6, 3.0  # times as large, and as small, as foretold: within these errors were (docs/training.md)
_COVERAGE = 0.9  # of the runs by which these were set


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
        text = f"forecast: {duration(self.seconds)} in all"
        if self.accuracy is None:
            return text
        low, high = self.accuracy
        return (
            f"{text}, accuracy {100 * low:.1f} to {100 * high:.1f} % ({len(self.short)} short trainings, extrapolated)"
        )


def forecast_from_json(values: dict[str, Any]) -> Forecast:
    """The forecast that `to_json` wrote."""
    short = tuple(ShortTraining(**row) for row in values["short"])
    accuracy = None if values["accuracy"] is None else (values["accuracy"][0], values["accuracy"][1])
    return Forecast(values["steps"], values["seconds"], accuracy, values["expected"], short)


def with_outcome(forecast: Forecast, seconds: float, accuracy: float | None, *, whole: bool) -> dict[str, Any]:
    """The forecast with what came, as plain values: `seconds_taken`; `accuracy_reached`, None where there is none; and
    whether it lies `within` the interval, None where either is missing or training did not go its `whole` way."""
    within = None
    if whole and forecast.accuracy is not None and accuracy is not None:
        within = forecast.accuracy[0] <= accuracy <= forecast.accuracy[1]
    came = {"seconds_taken": round(seconds, 1), "accuracy_reached": accuracy, "within": within}
    return forecast.to_json() | came


def extrapolate(short: Sequence[ShortTraining], steps: int, chance: float) -> tuple[float, float, float]:
    """Accuracy at `steps` steps: low, expected, high, shares from 0 to 1.

    The error falls like a power of the number of steps (Hestness et al., "Deep learning scaling is predictable,
    empirically", 2017): through the longest short training, with a power between that fitted to all of them by least
    squares in logarithms and the usual one. `chance` is the error of answering at random; it is never expected to be
    worse. The interval is that of errors which came out, as a multiple of what was foretold.
    """
    longest = max(short, key=lambda row: row.steps)
    power = _power(short)
    expected = min(chance, _above_zero(longest) * (steps / longest.steps) ** -power)
    return 1 - min(chance, _UP * expected), 1 - expected, 1 - expected / _DOWN


def _power(short: Sequence[ShortTraining]) -> float:
    xs, ys = [math.log(row.steps) for row in short], [math.log(_above_zero(row)) for row in short]
    middle, spread = sum(xs) / len(xs), sum((x - sum(xs) / len(xs)) ** 2 for x in xs)
    if not spread:
        return _USUAL_POWER
    fitted = -sum((x - middle) * y for x, y in zip(xs, ys, strict=True)) / spread
    return min(_POWERS[1], max(_POWERS[0], _TRUST * fitted + (1 - _TRUST) * _USUAL_POWER))


def _above_zero(row: ShortTraining) -> float:
    return max(row.error, 1e-4)


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
