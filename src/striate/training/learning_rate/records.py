"""What a search for a learning rate found, and how it reads; free of torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Origin = Literal["recipe", "request"]
"""Who chose the rate that training would use now."""


@dataclass(frozen=True)
class RangePoint:
    """One step of the range test: its rate, the batch's loss, and the loss smoothed over the steps before."""

    lr: float
    loss: float
    smoothed: float


@dataclass(frozen=True)
class Halving:
    """One short training at a constant rate: training loss at its start and its end, and whether it diverged."""

    lr: float
    loss_start: float
    loss_end: float
    diverged: bool


@dataclass(frozen=True)
class Trial:
    """One training in miniature, with `lr` as its peak.

    `loss_start` is that of the first batch, `loss_end` the mean over the last batches, `held_out` that of samples the
    trial was not trained on, after it; None where it diverged before.
    """

    lr: float
    seed: int
    loss_start: float
    loss_end: float
    held_out: float | None
    diverged: bool


@dataclass(frozen=True)
class Rate:
    """All trials of one rate: mean, lowest and highest held-out loss (None where any diverged), and how many."""

    lr: float
    held_out: float | None
    lowest: float | None
    highest: float | None
    trials: int
    good: bool

    @property
    def diverged(self) -> bool:
        """Whether a trial of it diverged."""
        return self.held_out is None


@dataclass(frozen=True)
class LearningRateSearch:
    """What was found.

    `suggestion` is the peak rate to train with, None where the trials cannot tell; from `low` to `high`, rates were as
    good within noise; `why` says it in words. All three are for a training of `run_steps`, where the trials, of
    `steps`, were shorter. `configured` is the rate that training would use now, by
    the `origin` "recipe" or "request", and `configured_is_good` whether it lies in the range (None where there is no
    range). `diverges_at` is the smallest constant rate that diverged, None where none did. `start` is the held-out loss
    of the network as it was, `constant` that of always giving the best constant answer.
    """

    optimizer: str
    suggestion: float | None
    low: float | None
    high: float | None
    why: str
    configured: float
    origin: Origin
    configured_is_good: bool | None
    diverges_at: float | None
    start: float
    constant: float
    held_out_samples: int
    steps: int
    run_steps: int
    seconds: float
    rates: tuple[Rate, ...]
    trials: tuple[Trial, ...]
    halvings: tuple[Halving, ...]
    range_test: tuple[RangePoint, ...]
    command: str | None = None

    @property
    def informative(self) -> bool:
        """Whether there is a suggestion."""
        return self.suggestion is not None

    def to_json(self) -> dict[str, Any]:
        """The search as one JSON object."""
        return {"informative": self.informative, **asdict(self)}

    def __str__(self) -> str:
        lines = [_row("rate", "held-out loss", "lowest–highest", "trials", ""), *map(_rate_row, self.rates)]
        ends = f"before {self.start:.4g}, of the best constant answer {self.constant:.4g}"
        lines += ["", f"held-out loss of {self.held_out_samples:,} samples; {ends}"]
        lines.append(f"{len(self.trials)} trials of {self.steps:,} steps; the training has {self.run_steps:,}")
        if self.diverges_at is not None:
            lines.append(f"diverges at a constant rate of {self.diverges_at:.2g}")
        lines += ["", *self._verdict()]
        return "\n".join(lines)

    def _verdict(self) -> list[str]:
        if self.suggestion is None:
            return [f"not informative: {self.why}", self._configured("which was not judged")]
        lines = [f"learning rate {self.suggestion:g}, {self.low:g} to {self.high:g} being as good: {self.why}"]
        inside = "inside that range" if self.configured_is_good else "outside that range"
        lines.append(self._configured(inside))
        return lines if self.command is None else [*lines, self.command]

    def _configured(self, verdict: str) -> str:
        who = "the recipe would use" if self.origin == "recipe" else "asked for was"
        return f"{who} {self.configured:.3g} ({self.optimizer}), {verdict}"


def _row(rate: str, mean: str, span: str, trials: str, mark: str) -> str:
    return f"{rate:>10}  {mean:>13}  {span:>19}  {trials:>6}  {mark}".rstrip()


def _rate_row(rate: Rate) -> str:
    if rate.held_out is None or rate.lowest is None or rate.highest is None:
        return _row(f"{rate.lr:g}", "diverged", "", str(rate.trials), "")
    span = f"{rate.lowest:.4g}–{rate.highest:.4g}" if rate.trials > 1 else ""
    return _row(f"{rate.lr:g}", f"{rate.held_out:.4g}", span, str(rate.trials), "good" if rate.good else "")
