"""How long a plain step takes, and with how many samples a trial step is to be taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from striate.training.plan.agreement import Reference, reference_result
from striate.training.plan.plan_table import Candidate
from striate.training.plan.trial import Trials, on_cpu

_FIRST, _MORE = 4, 16  # samples: a batch of large images may take half a minute, and of three bf16 seems to disagree
LONGEST = 0.25  # seconds of a trial step
_ONCE = 0.2  # seconds of a step that is long enough to be taken once
_FEWEST = 8


@dataclass(frozen=True)
class Probe:
    """`trials` at a number of samples whose plain step takes about `about` seconds; a step of the run's whole `batch`
    takes about `whole`. `reference`: what plain fp32 gives for so many samples, where it was computed."""

    trials: Trials
    about: float
    whole: float
    batch: int
    reference: Reference | None = None

    @property
    def of_whole_batches(self) -> Probe:
        """With the run's batch in each trial step."""
        if self.trials.samples == self.batch:
            return self
        return Probe(self.trials.with_samples(self.batch), self.whole, self.whole, self.batch)


def probe(
    copies: Trials,
    plain: Candidate,
    longest: float | None = None,
    too_long: Callable[[float], bool] = lambda whole: whole > LONGEST,
) -> Probe:
    """Take a few plain steps on `copies`; a trial step is to take `longest` seconds at most, where that is given.
    Without it an estimate is enough where a step of the whole batch is `too_long` to be tried. An accelerator takes
    nearly as long for a few samples as for many, so there it is a whole batch. Raises ModelError where there can be no
    copy, and what the network raises."""
    work = copies.work
    batch = min(work.config.batch or 1, len(work.train))
    trials = copies.with_samples(min(batch, _FIRST) if on_cpu(work) else batch)
    about, reference = _first_seconds(trials, plain)
    if (
        trials.samples < batch and about * _MORE < (longest or LONGEST) * trials.samples
    ):  # a few samples say little about many
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


def _first_seconds(trials: Trials, plain: Candidate) -> tuple[float, Reference | None]:
    """Of a step, and what plain fp32 gives, which candidates are to agree with: of a network that takes long on a CPU
    the time of that is enough, of others it pays for allocation."""
    if not on_cpu(trials.work) or trials.work.config.optim.name == "own-rule":  # which takes nothing from a gradient
        return _seconds(trials, plain), None
    started = perf_counter()
    reference = reference_result(trials, plain)
    first = perf_counter() - started
    return first if first > _ONCE else min(trials.seconds(plain, 1) for _ in range(2)), reference


def _halved(batch: int, most: float) -> int:
    """The batch, or half of it, or a quarter, …: what is not above `most`, nor below 8 samples."""
    while batch > most and batch // 2 >= _FEWEST:
        batch //= 2
    return batch


def _seconds(trials: Trials, plain: Candidate) -> float:
    """The faster of two steps after one that pays for allocation; that one where it took long on a CPU: an accelerator
    loads its kernels in it."""
    first = trials.seconds(plain, 1)
    return first if first > _ONCE and on_cpu(trials.work) else min(trials.seconds(plain, 1) for _ in range(2))
