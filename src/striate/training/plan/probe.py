"""How long a plain step takes, and how many samples a trial step has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from striate.training.plan.agreement import Fp32Reference, reference_result
from striate.training.plan.plan_table import Candidate
from striate.training.plan.trial import Trials, on_cpu

_FIRST, _MORE = 4, 16  # samples: a batch of large images may take half a minute; with three, bf16 seems to disagree
LONGEST = 0.25  # seconds of a trial step at most
_ONCE = 0.2  # seconds: longer steps are timed once
_FEWEST = 8


@dataclass(frozen=True)
class Probe:
    """The time of a plain step, and the number of samples of a trial step."""

    trials: Trials
    """Runs trial steps of that many samples."""
    about: float
    """Seconds of a plain trial step, roughly."""
    whole: float
    """Seconds of a plain step with the run's whole batch, roughly."""
    batch: int
    """Samples of the run's batch."""
    reference: Fp32Reference | None = None
    """The result of plain fp32 for a trial step. None: not computed."""

    @property
    def of_whole_batches(self) -> Probe:
        """The same with the run's batch in each trial step."""
        if self.trials.samples == self.batch:
            return self
        return Probe(self.trials.with_samples(self.batch), self.whole, self.whole, self.batch)


def probe(
    copies: Trials,
    plain: Candidate,
    longest: float | None = None,
    too_long: Callable[[float], bool] = lambda whole: whole > LONGEST,
) -> Probe:
    """Time a few plain steps on `copies` to find the samples of a trial step that takes at most `longest` seconds, if
    that is given. Without it, the time is estimated where a step of the whole batch is `too_long` to try. On an
    accelerator a trial step has the whole batch, since a few samples take nearly as long. Raises ModelError where the
    network cannot be copied, and what the network raises."""
    work = copies.work
    batch = min(work.config.batch or 1, len(work.train))
    trials = copies.with_samples(min(batch, _FIRST) if on_cpu(work) else batch)
    about, reference = _first_seconds(trials, plain)
    # A few samples say little about many.
    if trials.samples < batch and about * _MORE < (longest or LONGEST) * trials.samples:
        trials, reference = trials.with_samples(min(batch, _MORE)), None
        about = _seconds(trials, plain)
    whole = about * batch / trials.samples
    if trials.samples == batch or (longest is None and too_long(whole)):
        return Probe(trials, about, whole, batch, reference)
    samples = _halved(batch, trials.samples * (longest or LONGEST) / about)
    if samples != trials.samples:
        trials, reference = trials.with_samples(samples), None
        about = _seconds(trials, plain)
    return Probe(trials, about, about * batch / samples, batch, reference)


def _first_seconds(trials: Trials, plain: Candidate) -> tuple[float, Fp32Reference | None]:
    """Seconds of a step, and the result of plain fp32, which candidates are compared with. On a CPU computing that
    result times the step, if it takes long; else it only warms up."""
    if not on_cpu(trials.work) or trials.work.config.optim.name == "local-rule":  # which takes nothing from a gradient
        return _seconds(trials, plain), None
    started = perf_counter()
    reference = reference_result(trials, plain)
    first = perf_counter() - started
    return first if first > _ONCE else min(trials.seconds(plain, 1) for _ in range(2)), reference


def _halved(batch: int, most: float) -> int:
    """The batch, or half of it, or a quarter, …: at most `most` samples, but no fewer than 8."""
    while batch > most and batch // 2 >= _FEWEST:
        batch //= 2
    return batch


def _seconds(trials: Trials, plain: Candidate) -> float:
    """The faster of two steps after a warm-up step; on a CPU the warm-up step itself where it took long. On an
    accelerator that step loads kernels."""
    first = trials.seconds(plain, 1)
    return first if first > _ONCE and on_cpu(trials.work) else min(trials.seconds(plain, 1) for _ in range(2))
