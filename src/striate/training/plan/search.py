"""The search for the fastest candidate that computes what plain fp32 computes: stage by stage, not the full product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from time import perf_counter

import torch

from striate.inference.race import FEWEST, Timing, failure, is_ahead, race
from striate.machine.allocator import allocator_policy
from striate.machine.load import Load
from striate.training.plan.agreement import Agreement, Reference, compare, reference_result
from striate.training.plan.offers import Offers
from striate.training.plan.plan_table import Candidate, PlanRow, choose
from striate.training.plan.probe import Probe
from striate.training.plan.trial import Trials
from striate.wording import several

_SHARES = {"arithmetic": 0.65, "threads": 0.35}  # of the time, each stage; threads are for short steps
_LONG_ROUNDS = 2  # of steps that are long: the machine disturbs them less
_ROOMY = 20  # plain steps that fit into the time for the arithmetic: enough to try fp32 in other ways, too
_BY_FAR = 1.6  # times as fast as plain: no other way to compute fp32 gains as much
_CLOSE = 1.35  # times what the fastest takes: a part of a batch may put them in another order than the whole
_FEWER_THREADS = 0.1
"""What fewer threads have to gain on quiet cores. While a neighbor of a virtual machine takes a core they gain a few
hundredths, for a second or more."""
_SHORT_STEP = 0.002  # seconds: to wake further threads takes about what they save
_MORE_THREADS = 0.05
"""What more threads have to gain in so short a step: beside a neighbor they lose a third of it or more, for a part of a
minute, and one thread nothing."""
_THREADS_PAY = 0.01  # seconds: where no time is left, a longer step keeps all threads without a comparison
LONG_STEP = 0.03  # seconds: the threads of a longer one have enough to do
_CHECKED = 32  # samples of a batch whose results are compared: more take longer and show no more


@dataclass
class Search:
    """A search in progress: times, agreement and failures of each candidate that was looked at."""

    probe: Probe
    offers: Offers
    timings: dict[Candidate, Timing] = field(default_factory=dict)
    agreements: dict[Candidate, Agreement | str] = field(default_factory=dict)
    peaks: dict[Candidate, int] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    asides: list[str] = field(default_factory=list)
    no_time_to_compile: bool = False
    quiet: bool = False
    _references: dict[int, Reference] = field(init=False)
    _few: Trials | None = None

    def __post_init__(self) -> None:
        known = self.probe.reference
        self._references = {} if known is None else {self.probe.trials.samples: known}

    def run(self, seconds: float, remaining: float, *, load: Load, thorough: bool) -> Candidate:
        """The chosen candidate, in about `seconds`; compiling, whose trial takes longer, only where the `remaining`
        seconds of the run suggest that it pays. On busy cores, or `thorough`ly, numbers of threads are compared
        also for long steps; `thorough`ly, all ends with these seconds. Raises what the plain network raises."""
        self.quiet = not load.busy
        with allocator_policy(self.offers.allocator):  # type: ignore[arg-type]
            best = self._run(seconds, remaining, load, thorough)
        seems = min(self.timings, key=lambda one: self.timings[one].seconds)
        if self.quiet and is_ahead(self.timings[seems], self.timings[best]):
            told = (f"{one.name} {1e3 * self._compared(self.timings[one]).seconds:.3g} ms" for one in (best, seems))
            self.asides.append(
                f"other programs slowed the cores at times; in the faster half of rounds: {', '.join(told)}"
            )
        return best

    def _run(self, seconds: float, remaining: float, load: Load, thorough: bool) -> Candidate:
        started = perf_counter()
        plain = self.offers.plain
        best = self._arithmetic(seconds, thorough)
        if self.probe.trials.samples < self.probe.batch:
            best = self._settled(best, seconds - (perf_counter() - started))
        fewer = plain.threads < max(self.offers.threads)  # busy when the run began, whatever they are now
        late = perf_counter() - started >= seconds and self.timings[best].seconds > _THREADS_PAY
        asked = load.busy or fewer or thorough or (self.timings[best].seconds < LONG_STEP and not late)
        if len(self.offers.threads) > 1 and asked:
            short = self.quiet and self.timings[best].seconds < _SHORT_STEP
            # Which precision is faster may depend on the threads, too, where these cost as much as the numbers.
            ways = [best, *(one for one in self.offers.arithmetic() if short and one in self.timings)]
            compared = [plain, *(one for way in ways for one in self.offers.with_threads(way))]
            rest = seconds - (perf_counter() - started)
            self._compare(compared, max(0.0, min(_SHARES["threads"] * seconds, rest)))
            timed = [one for one in compared if one in self.timings]
            best = self._of_short(timed) if short else self._with_threads(timed, best)
        left = self._left(best, remaining)
        if not self.offers.compiling_pays(left):
            if self.offers.compiles and thorough:
                worth = 1.5 * self.offers.compile_seconds / self.offers.usual_gain / 60
                self._not_compiled(
                    self.offers.compile_seconds, f"it may pay off in runs of {worth:.0f} minutes and more"
                )
            return best
        # Those that have the cores as well make it longer: the compiler waits, and so do the trial's steps.
        needed = self.offers.compile_seconds * len(self.offers.compiles) * (1 + load.taken / load.cores)
        spent = perf_counter() - started
        if thorough and spent + needed > seconds:
            self.no_time_to_compile = True
            enough = 10 * ceil((seconds + needed) / 10)
            self._not_compiled(needed, f"{max(0.0, seconds - spent):.0f} s were left: --seconds {enough} tries it")
            return best
        return self._try_compiling(
            best, seconds - spent - needed if thorough else _SHARES["arithmetic"] * seconds, left
        )

    def duel(self, rivals: Sequence[Candidate], *, load: Load) -> Candidate:
        """The fastest of plain and `rivals`, in a few steps; plain where all are refused or fail."""
        self.quiet = not load.busy
        with allocator_policy(self.offers.allocator):  # type: ignore[arg-type]
            if accepted := [one for one in rivals if self.accepts(one)]:
                self._compare([self.offers.plain, *accepted], 0.0, _LONG_ROUNDS)
        return self._fastest(self.timings) if self.timings else self.offers.plain

    def _arithmetic(self, seconds: float, thorough: bool) -> Candidate:
        """The fastest precision and layout. Where time is short, fp32 in other ways than the plain one is tried only
        where nothing of less precision is faster by far."""
        plain = self.offers.plain
        seconds *= _SHARES["arithmetic"]
        every = [one for one in self.offers.arithmetic() if one != plain]
        first = [one for one in every if one.precision != plain.precision]
        if thorough or not first or seconds > _ROOMY * self.probe.about:
            first = every
        self._compare([plain, *first], seconds)
        best = self._fastest(self.timings)
        if len(first) < len(every) and _BY_FAR * self.timings[best].seconds > self.timings[plain].seconds:
            self._compare([plain, *(one for one in every if one not in first)], seconds)
            best = self._fastest(self.timings)
        return best

    def _fastest(self, timings: dict[Candidate, Timing]) -> Candidate:
        return choose({one: self._compared(timing) for one, timing in timings.items()})

    def _with_threads(self, timed: Sequence[Candidate], best: Candidate) -> Candidate:
        """The fastest; on quiet cores with fewer threads than `best` only what is faster by more than a neighbor
        explains."""
        limit = (1 - _FEWER_THREADS) * self._compared(self.timings[best]).seconds
        few = {one for one in timed if self.quiet and one.threads < best.threads}
        kept = (one for one in timed if one not in few or self._compared(self.timings[one]).seconds < limit)
        return self._fastest({one: self.timings[one] for one in kept})

    def _of_short(self, timed: Sequence[Candidate]) -> Candidate:
        """The fastest of short steps, those with more threads than are needed counted as slower."""
        fewest = min(one.threads for one in timed)
        slower = {one: 1 + _MORE_THREADS * (one.threads > fewest) for one in timed}
        return self._fastest({one: self.timings[one].times(slower[one]) for one in timed})

    def _compared(self, timing: Timing) -> Timing:
        """What of it is compared. Where others have the cores all the time, a fast round was a lucky one."""
        return timing.undisturbed if self.quiet else timing

    def _not_compiled(self, needed: float, why: str) -> None:
        self.asides.append(f"compiling was not tried: it takes about {needed:.0f} s, and {why}")

    def _left(self, best: Candidate, remaining: float) -> float:
        """Of the run's seconds, computed so rather than plainly."""
        return remaining * self.timings[best].seconds / self.timings[self.offers.plain].seconds

    def _compare(self, candidates: Sequence[Candidate], seconds: float, fewest: int | None = None) -> None:
        """Check, then time together, those that were not refused; an earlier time is replaced."""
        accepted = [one for one in dict.fromkeys(candidates) if self.accepts(one)]
        fewest = fewest or (FEWEST if self.probe.about < LONG_STEP else _LONG_ROUNDS)
        measure, about = self.probe.trials.seconds, self.probe.about
        timings, failed = race(measure, accepted, seconds, about, fewest=fewest, warm=set(self.timings))
        self.agreements |= failed
        # An incumbent that was timed beside new ones has a time that can be compared with theirs, no other.
        for one, timing in timings.items():
            self.timings[one] = timing if one not in self.timings else _joined(self.timings[one], timing)
        for one in failed:
            self.timings.pop(one, None)
        if self.offers.plain not in self.timings:
            raise RuntimeError(f"plain steps {failed.get(self.offers.plain, 'fail')}")
        self._measure_memory(timings)

    def accepts(self, candidate: Candidate) -> bool:
        """Whether it computes what plain fp32 computes; looked at once for candidates that differ in threads or
        allocator only."""
        if candidate in self.agreements:
            agreed = self.agreements[candidate]
            return isinstance(agreed, Agreement) and agreed.passed
        if self.probe.trials.work.config.optim.name == "own-rule":
            return True  # only threads vary, and nothing is taken from a gradient
        alike = [one for one in self.agreements if one.numerics == candidate.numerics]
        found = self.agreements[alike[0]] if alike else self._look(candidate)
        self.agreements[candidate] = found
        return isinstance(found, Agreement) and found.passed

    def _look(self, candidate: Candidate) -> Agreement | str:
        trials = self.probe.trials
        if trials.samples > _CHECKED and candidate.compile == "off":  # what is compiled is so for whole batches
            trials = self._few = self._few or trials.with_samples(_CHECKED)
        if trials.samples not in self._references:
            self._references[trials.samples] = reference_result(trials, self.offers.plain)
        try:
            return compare(trials, candidate, self._references[trials.samples])
        except Exception as error:  # whatever a way of computing does not bear
            return failure(error)

    def _try_compiling(self, best: Candidate, seconds: float, left: float) -> Candidate:
        """`best`, or the same compiled, timed for `seconds`, where that gains more than it costs."""
        for compiled in self.offers.compiled(best):
            started = perf_counter()
            if self.accepts(compiled):
                self._compare([self.offers.plain, best, compiled], seconds)
            cost = perf_counter() - started
            timing, usual = self.timings.get(compiled), self.timings[best]
            if timing and is_ahead(self._compared(timing), self._compared(usual)):
                gain = 1 - self._compared(timing).seconds / self._compared(usual).seconds
                if gain * left > cost:
                    best = compiled
                else:
                    self.remarks.append(f"compile would need {cost:.0f} s to gain {100 * gain:.0f} %")
            elif timing:
                self.asides.append(f"{compiled.name}: no faster, after {cost:.0f} s of compiling and timing")
            self.probe.trials.forget(compiled)
        return best

    def _settled(self, best: Candidate, seconds: float) -> Candidate:
        """`best`, or what is close to it and faster with the whole batch, where `seconds` are enough for two rounds."""
        trials, batch = self.probe.trials, self.probe.batch
        limit = _CLOSE * self.timings[best].seconds
        close = [one for one, timing in self.timings.items() if one == best or min(timing.rounds) <= limit]
        step = self.timings[best].seconds * batch / trials.samples
        if len(close) < 2 or 3 * len(close) * step > 2 * seconds:
            return best
        whole, failed = race(trials.with_samples(batch).seconds, close, seconds, step, fewest=_LONG_ROUNDS)
        self.agreements |= failed
        for one in failed:
            self.timings.pop(one)
        if not whole:
            return self._fastest(self.timings)
        told = ", ".join(f"{one.precision} {one.memory_format} {1e3 * whole[one].seconds:.0f} ms" for one in whole)
        self.asides.append(f"with all {several(batch, 'sample')} of a batch: {told}")
        # Of the same precision none is plainer in what it computes, and few rounds tell no small lead for certain.
        precision = self._fastest(whole).precision
        return min((one for one in whole if one.precision == precision), key=lambda one: min(whole[one].rounds))

    def _measure_memory(self, timed: dict[Candidate, Timing]) -> None:
        device = self.probe.trials.batch.inputs.device
        if device.type != "cuda":
            return
        for candidate in timed:
            torch.cuda.reset_peak_memory_stats(device)
            self.probe.trials.seconds(candidate, 1)
            self.peaks[candidate] = torch.cuda.max_memory_allocated(device)

    @property
    def refused(self) -> bool:
        """Whether any candidate computed something too far from plain fp32."""
        return any(isinstance(one, Agreement) and not one.passed for one in self.agreements.values())

    def rows(self, chosen: Candidate) -> tuple[PlanRow, ...]:
        """The table: plain first, then as they were looked at."""
        plain = self.offers.plain
        known = [plain, *(one for one in (*self.timings, *self.agreements) if one != plain)]
        return tuple(self._row(one, one == chosen) for one in dict.fromkeys(known))

    def _row(self, candidate: Candidate, chosen: bool) -> PlanRow:
        timing, agreed = self.timings.get(candidate), self.agreements.get(candidate)
        failed = isinstance(agreed, str) or (agreed is not None and not agreed.passed)
        text = "the reference" if candidate == self.offers.plain else str(agreed or "not compared: no gradient is used")
        return PlanRow(
            candidate,
            timing.seconds if timing else None,
            timing.spread if timing and len(timing.rounds) > 1 else None,  # one round says nothing about others
            text,
            not failed,
            chosen,
            self.peaks.get(candidate),
        )


def _joined(one: Timing, other: Timing) -> Timing:
    return Timing((*one.rounds, *other.rounds))
