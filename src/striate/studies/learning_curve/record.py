"""A learning curve: a plain record, without torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class SizePoint:
    """One training: on `share` of the training samples, `n` of them, for `steps` steps; `value` is the headline metric
    of the test split. `seconds` of training; `of_run`: it is the run itself, not trained again."""

    share: float
    n: int
    seed: int
    steps: int
    value: float
    seconds: float
    of_run: bool


@dataclass(frozen=True)
class PowerLaw:
    """error = `scale` · n^−`exponent` + `floor`: the error falls with the number n of training samples toward a floor.

    The error is the share of wrong answers, or the RMSE.
    """

    scale: float
    exponent: float
    floor: float

    def error(self, n: float) -> float:
        """At n training samples."""
        return float(self.scale * n**-self.exponent + self.floor)


@dataclass(frozen=True)
class Gain:
    """By how much twice the training samples would lower the error, by a power law: `value` with its 95 % `interval`
    (bootstrap over test samples and seeds). `told`: the interval lies above 0, for classes
    by at least half a test sample."""

    law: PowerLaw
    value: float
    interval: tuple[float, float]
    told: bool


@dataclass(frozen=True)
class LearningCurve:
    """How good the network of a run is after learning from parts of its training samples.

    `metric` is `accuracy` or `rmse` of the `n_test` test samples; `points` are ordered by size and seed; `gain` is None
    where nothing is left to gain or a law cannot be fitted; `sentence` says what more labels would bring.
    """

    data: str
    metric: str
    n_test: int
    seeds: tuple[int, ...]
    points: tuple[SizePoint, ...]
    gain: Gain | None
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """The content of learning-curve.json."""
        gain = None
        if self.gain is not None:
            gain = asdict(self.gain) | {"interval": list(self.gain.interval)}
        return {
            "data": self.data,
            "split": "test",
            "metric": self.metric,
            "n_test": self.n_test,
            "seeds": list(self.seeds),
            "points": [asdict(point) for point in self.points],
            "gain": gain,
            "sentence": self.sentence,
        }

    def __str__(self) -> str:
        from striate.studies.learning_curve.text import render

        return render(self)
