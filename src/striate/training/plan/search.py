"""The search for the fastest candidate that computes what plain fp32 computes: in stages, not over all combinations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from time import perf_counter

import torch

from striate.inference.race import FEWEST, Timing, failure, is_ahead, race
from striate.machine.allocator import allocator_policy
from striate.machine.load import Load
from striate.training.plan.agreement import Agreement, Fp32Reference, compare, reference_result
from striate.training.plan.offers import Offers
from striate.training.plan.plan_table import Candidate, PlanRow, choose
from striate.training.plan.probe import Probe
from striate.training.plan.trial import Trials
from striate.wording import percent, several

_SHARES = {"arithmetic": 0.65, "threads": 0.35}  # share of the time of each stage
_LONG_ROUNDS = 2  # rounds where steps are long: the machine disturbs them less
_ROOMY = 20  # plain steps: where so many fit into the time for the arithmetic, other layouts of fp32 are tried too
_BY_FAR = 1.6  # times as fast as plain: no layout of fp32 gains as much
_CLOSE = 1.35  # times what the fastest takes: such candidates may change places with the whole batch
_FEWER_THREADS = 0.1
"""Gain that fewer threads need on idle cores. While another virtual machine takes a core, they gain a few hundredths
for a second or more."""
_SHORT_STEP = 0.002  # seconds: waking further threads takes about as long as they save
_MORE_THREADS = 0.05
"""Gain that more threads need in so short a step: while another virtual machine takes a core, they lose a third of the
speed or more, and one thread loses nothing."""
_THREADS_PAY = 0.01  # seconds: where no time is left, longer steps keep all threads without a comparison
LONG_STEP = 0.03  # seconds: longer steps use all threads well
_CHECKED = 32  # samples whose results are compared with plain fp32: more show no more


@dataclass
class PlanSearch:
    """A search in progress."""

    probe: Probe
    """The time of a plain step, and the trials."""
    offers: Offers
    """What may be varied."""
    timings: dict[Candidate, Timing] = field(default_factory=dict)
    """Of each candidate that was timed."""
    agreements: dict[Candidate, Agreement | str] = field(default_factory=dict)
    """Of each candidate that was compared with plain fp32, or why it failed."""
    peaks: dict[Candidate, int] = field(default_factory=dict)
    """Peak bytes of GPU memory."""
    remarks: list[str] = field(default_factory=list)
    """For the one-line summary, a phrase each."""
    notes: list[str] = field(default_factory=list)
    """For the table, a sentence each."""
    no_time_to_compile: bool = False
    """Whether compiling would have been tried with more time."""
    quiet: bool = False
    """Whether the cores are idle apart from this process."""
    _references: dict[int, Fp32Reference] = field(init=False)
    _few: Trials | None = None

    def __post_init__(self) -> None:
        known = self.probe.reference
        self._references = {} if known is None else {self.probe.trials.samples: known}

    def run(self, seconds: float, remaining: float, *, load: Load, thorough: bool) -> Candidate:
        """The chosen candidate, found in about `seconds`. Compiling, whose trial takes longer, is tried only where the
        `remaining` seconds of the run suggest that it pays. On busy cores, or where the search is `thorough`, numbers
        of threads are compared for long steps too; a `thorough` search ends after these seconds. Raises what the plain
        network raises."""
        self.quiet = not load.busy
        with allocator_policy(self.offers.allocator):  # type: ignore[arg-type]
            best = self._run(seconds, remaining, load, thorough)
        seems = min(self.timings, key=lambda one: self.timings[one].seconds)
        if self.quiet and is_ahead(self.timings[seems], self.timings[best]):
            shown = (f"{one.name} {1e3 * self._compared(self.timings[one]).seconds:.3g} ms" for one in (best, seems))
            self.notes.append(
                f"other programs slowed the cores at times; in the faster half of rounds: {', '.join(shown)}"
            )
        return best

    def _run(self, seconds: float, remaining: float, load: Load, thorough: bool) -> Candidate:
        started = perf_counter()
        plain = self.offers.plain
        best = self._arithmetic(seconds, thorough)
        if self.probe.trials.samples < self.probe.batch:
            best = self._settled(best, seconds - (perf_counter() - started))
        fewer = plain.threads < max(self.offers.threads)  # the cores were busy when the run began
        late = perf_counter() - started >= seconds and self.timings[best].seconds > _THREADS_PAY
        compares = load.busy or fewer or thorough or (self.timings[best].seconds < LONG_STEP and not late)
        if len(self.offers.threads) > 1 and compares:
            short = self.quiet and self.timings[best].seconds < _SHORT_STEP
            # In short steps, which precision is faster depends on the number of threads.
            varied = [best, *(one for one in self.offers.arithmetic() if short and one in self.timings)]
            compared = [plain, *(one for other in varied for one in self.offers.with_threads(other))]
            rest = seconds - (perf_counter() - started)
            self._compare(compared, max(0.0, min(_SHARES["threads"] * seconds, rest)))
            timed = [one for one in compared if one in self.timings]
            best = self._of_short(timed) if short else self._with_threads(timed, best)
        left = self._left(best, remaining)
        slower = 1 + load.taken / load.cores  # on busy cores compiling and its trial steps take longer
        if not self.offers.compiling_pays(left, slower):
            if self.offers.compiles and thorough:
                worth = 1.5 * self.offers.compile_seconds / self.offers.usual_gain / 60
                self._not_compiled(
                    self.offers.compile_seconds, f"it may pay off in runs of {worth:.0f} minutes and more"
                )
            return best
        needed = self.offers.compile_seconds * len(self.offers.compiles) * slower
        spent = perf_counter() - started
        if thorough and spent + needed > seconds:
            self.no_time_to_compile = True
            enough = 10 * ceil((seconds + needed) / 10)
            self._not_compiled(needed, f"{max(0.0, seconds - spent):.0f} s were left: --seconds {enough} tries it")
            return best
        return self._try_compiling(
            best, seconds - spent - needed if thorough else _SHARES["arithmetic"] * seconds, left
        )

    def compare_quickly(self, others: Sequence[Candidate], *, load: Load) -> Candidate:
        """The fastest of plain and the `others`, in a few steps; plain where all are refused or fail."""
        self.quiet = not load.busy
        with allocator_policy(self.offers.allocator):  # type: ignore[arg-type]
            if accepted := [one for one in others if self.accepts(one)]:
                self._compare([self.offers.plain, *accepted], 0.0, _LONG_ROUNDS)
        return self._fastest(self.timings) if self.timings else self.offers.plain

    def _arithmetic(self, seconds: float, thorough: bool) -> Candidate:
        """The fastest precision and memory format. Where time is short, other layouts of the plain precision are tried
        only where no lower precision is faster by far."""
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
        """The fastest candidate; on idle cores, fewer threads than `best` need a gain that other processes do not
        explain."""
        limit = (1 - _FEWER_THREADS) * self._compared(self.timings[best]).seconds
        few = {one for one in timed if self.quiet and one.threads < best.threads}
        kept = (one for one in timed if one not in few or self._compared(self.timings[one]).seconds < limit)
        return self._fastest({one: self.timings[one] for one in kept})

    def _of_short(self, timed: Sequence[Candidate]) -> Candidate:
        """The fastest candidate of short steps, where more threads than needed count as slower."""
        fewest = min(one.threads for one in timed)
        slower = {one: 1 + _MORE_THREADS * (one.threads > fewest) for one in timed}
        return self._fastest({one: self.timings[one].times(slower[one]) for one in timed})

    def _compared(self, timing: Timing) -> Timing:
        """The timing that is compared. On idle cores only the faster half of the rounds counts; on busy cores a fast
        round is luck."""
        return timing.undisturbed if self.quiet else timing

    def _not_compiled(self, needed: float, why: str) -> None:
        self.notes.append(f"compiling was not tried: it takes about {needed:.0f} s, and {why}")

    def _left(self, best: Candidate, remaining: float) -> float:
        """Seconds of the run, computed by `best` rather than plainly."""
        return remaining * self.timings[best].seconds / self.timings[self.offers.plain].seconds

    def _compare(self, candidates: Sequence[Candidate], seconds: float, fewest: int | None = None) -> None:
        """Check the candidates, then time those that are not refused together; a candidate that was timed before gets
        further rounds."""
        accepted = [one for one in dict.fromkeys(candidates) if self.accepts(one)]
        fewest = fewest or (FEWEST if self.probe.about < LONG_STEP else _LONG_ROUNDS)
        measure, about = self.probe.trials.seconds, self.probe.about
        timings, failed = race(measure, accepted, seconds, about, fewest=fewest, warm=set(self.timings))
        self.agreements |= failed
        # A candidate that took part before keeps its earlier rounds.
        for one, timing in timings.items():
            self.timings[one] = timing if one not in self.timings else _joined(self.timings[one], timing)
        for one in failed:
            self.timings.pop(one, None)
        if self.offers.plain not in self.timings:
            raise RuntimeError(f"plain steps {failed.get(self.offers.plain, 'fail')}")
        self._measure_memory(timings)

    def accepts(self, candidate: Candidate) -> bool:
        """Whether the candidate computes what plain fp32 computes; compared once for candidates that differ only in
        threads or allocator."""
        if candidate in self.agreements:
            agreed = self.agreements[candidate]
            return isinstance(agreed, Agreement) and agreed.passed
        if self.probe.trials.work.config.optim.name == "local-rule":
            return True  # only threads vary, and there is no gradient to compare
        alike = [one for one in self.agreements if one.numerics == candidate.numerics]
        found = self.agreements[alike[0]] if alike else self._agreement(candidate)
        self.agreements[candidate] = found
        return isinstance(found, Agreement) and found.passed

    def _agreement(self, candidate: Candidate) -> Agreement | str:
        trials = self.probe.trials
        if trials.samples > _CHECKED and candidate.compile == "off":  # compiled code is for whole batches
            trials = self._few = self._few or trials.with_samples(_CHECKED)
        if trials.samples not in self._references:
            self._references[trials.samples] = reference_result(trials, self.offers.plain)
        try:
            return compare(trials, candidate, self._references[trials.samples])
        except Exception as error:  # whatever fails in this precision or layout
            return failure(error)

    def _try_compiling(self, best: Candidate, seconds: float, left: float) -> Candidate:
        """`best`, or the same compiled and timed for `seconds`, where that gains more than it costs."""
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
                    self.remarks.append(f"compile would need {cost:.0f} s to gain {percent(gain, 0)}")
            elif timing:
                self.notes.append(f"{compiled.name}: no faster, after {cost:.0f} s of compiling and timing")
            self.probe.trials.forget(compiled)
        return best

    def _settled(self, best: Candidate, seconds: float) -> Candidate:
        """`best`, or a similarly fast candidate that is faster with the whole batch, where `seconds` are enough for two
        rounds."""
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
        shown = ", ".join(f"{one.precision} {one.memory_format} {1e3 * whole[one].seconds:.0f} ms" for one in whole)
        self.notes.append(f"with all {several(batch, 'sample')} of a batch: {shown}")
        # Candidates of one precision compute equally precisely, and a few rounds do not settle a small lead.
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
        """Whether the numbers of a candidate are too far from plain fp32."""
        return any(isinstance(one, Agreement) and not one.passed for one in self.agreements.values())

    def rows(self, chosen: Candidate) -> tuple[PlanRow, ...]:
        """The rows of the table: plain first, then in the order of the search."""
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
            timing.half_interquartile_range if timing and len(timing.rounds) > 1 else None,
            text,
            not failed,
            chosen,
            self.peaks.get(candidate),
        )


def _joined(one: Timing, other: Timing) -> Timing:
    return Timing((*one.rounds, *other.rounds))
