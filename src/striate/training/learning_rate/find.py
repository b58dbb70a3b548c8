"""Finds a learning rate: brackets it by a range test and by halving, then compares short trainings."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic

import numpy as np

from striate.data.loader import batch_bounds
from striate.errors import UsageError
from striate.training.budget.speed import trial_state
from striate.training.execution import execution_settings
from striate.training.learning_rate.judge import Verdict, judge, mean_scores
from striate.training.learning_rate.records import Halving, LearningRateSearch, Origin, RangePoint, RateTrial
from striate.training.learning_rate.trials import (
    LOWEST,
    Fold,
    halve_until_stable,
    make_fold,
    objective_of,
    range_test,
    run_trial,
)
from striate.training.loop import validate
from striate.training.prepare import Prepared
from striate.wording import number, several

SECONDS = 45.0
HORIZON = 0.32
"""The best peak rate falls with this power of the number of steps: Bjorck et al., "Scaling optimal LR across token
horizons", 2024; benchmarks/lr_horizon.py measures it on small networks."""
_BRACKETING = 220  # steps of the range test and of three halvings
_FEWEST_STEPS, _LEAST_STEPS = 50, 10  # of a trial: as a rule, and where steps are slow
_FEWEST_TRIALS = 10
_TRIALS = 16  # with two seeds: seven or eight rates
_MOST_SEEDS = 5
_MOST_RATES = 12
_MOST_TRIALS = 2 * (_MOST_RATES + 2)  # with two seeds, and two rates next to the best
_COARSE, _FINE = 2, 1  # quarters of a decade
# Logarithms of the loss over that of the best rate: above these, further trials change nothing.
_HOPELESS_AFTER_ONE, _HOPELESS = math.log(3.0), math.log(1.6)

Announce = Callable[[str], None]


@dataclass(frozen=True)
class TrialPlan:
    """How many trials a search makes, and how long they are."""

    steps: int
    """Optimizer steps of each trial."""
    seeds: int
    """Seeds of each rate that could be the best."""


def search_learning_rate(
    prepared: Prepared,
    *,
    seconds: float = SECONDS,
    plan: TrialPlan | None = None,
    origin: Origin = "recipe",
    announce: Announce = lambda _: None,
) -> LearningRateSearch:
    """The peak learning rate that ends with the lowest held-out loss, by short trainings on copies.

    Three stages, all from the current weights: a range test (Smith 2015); halving from its end until a constant rate
    does not diverge (Bottou 2012); then, around a tenth of that rate, trainings with the run's own schedule compressed
    into fewer steps. Their rates are a factor 3.2 apart, then 1.8 around the best, with several seeds. Steps are as
    many as fit into about `seconds`, unless `plan` gives them. Where steps are slow, the first two stages are left out,
    and trials, around the configured rate, end after twice that time, or after the fewest possible trials. The best
    rate of short trainings is lowered for a longer one (`HORIZON`). The test split is not used.

    Network, optimizer, buffers, modes and random states (torch, NumPy, Python) are the same bits afterwards, also when
    it raises. Raises ModelError for a network that cannot be copied, UsageError for `seconds` that are not positive.
    """
    if not 0 < seconds < float("inf"):
        raise UsageError("seconds", f"{seconds:g}", "a positive number", "--seconds 45")
    started = monotonic()
    with random_states_preserved(), execution_settings(prepared.config):
        search = _Search(prepared, announce)
        per_step = 0.0 if plan else _time_step(prepared, search.fold(0), seconds)
        points: tuple[RangePoint, ...] = ()
        halvings: tuple[Halving, ...] = ()
        if 2 * per_step * _BRACKETING <= seconds:
            points = range_test(prepared, search.fold(0))
            announce(_say_range(points))
            highest = max((p.lr for p in points), default=LOWEST)
            halvings = halve_until_stable(prepared, search.fold(0), highest)
            announce(_say_halvings(halvings))
        else:
            announce(f"no time for range test and halving, since a step takes {per_step:.2g} s")
        if plan is None:
            left = started + 2 * seconds - monotonic()
            plan, least = _make_plan(prepared, search.fold(0), per_step, left - seconds, left)
            search.deadline = monotonic() + max(left, least)
            if least > left:
                announce(f"the smallest search takes about {least:.0f} s, since a step takes {per_step:.2g} s")
        if not halvings or not halvings[-1].diverged:
            search.run(plan, halvings[-1].lr if halvings else 10 * search.configured)
    return search.result(plan, points, halvings, origin, monotonic() - started)


def _time_step(prepared: Prepared, fold: Fold, seconds: float) -> float:
    """Seconds of a step; timed twice, so that the warm-up does not count, unless steps take long."""
    times: list[float] = []
    while len(times) < 2 and sum(times) < seconds / 2:
        before = monotonic()
        range_test(prepared, fold, 2)
        times.append((monotonic() - before) / 2)
    return min(times)


@contextmanager
def random_states_preserved() -> Iterator[None]:
    """The random states of NumPy and Python, which the user's network or transform may draw from, are the same
    afterwards."""
    arrays, plain = np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        np.random.set_state(arrays)
        random.setstate(plain)


def _make_plan(prepared: Prepared, fold: Fold, per_step: float, seconds: float, left: float) -> tuple[TrialPlan, float]:
    """The plan, and the seconds of the fewest trials. Trials have as many steps as fit into `seconds`: at least the
    usual fewest, if these fit into all the time that is `left`, and at most those of the training. The rest of the time
    is for more seeds."""
    config, train = prepared.config, fold.splits["train"]
    assert config.batch is not None and config.budget.steps is not None
    state = trial_state(prepared.state, config)
    objective = objective_of(prepared, config, state)
    before = monotonic()
    validate(state.eval_module, objective, fold.splits["val"], config, prepared.normalize)
    validation = monotonic() - before
    each = per_step + validation / min(config.budget.steps, len(batch_bounds(len(train), config.batch)))
    fitting, at_most = (int(time / (_TRIALS * each)) for time in (seconds, left))
    steps = min(max(fitting, min(_FEWEST_STEPS, at_most), _LEAST_STEPS), config.budget.steps)
    seeds = int(2 * seconds / (_TRIALS * each * steps))
    return TrialPlan(steps, max(2, min(_MOST_SEEDS, seeds))), _FEWEST_TRIALS * min(steps, _LEAST_STEPS) * each


@dataclass
class _Search:
    """A search in progress. Rates lie on a grid of quarters of a decade around the configured one."""

    prepared: Prepared
    announce: Announce
    """Gets a line per trial."""
    trials: list[RateTrial] = field(default_factory=list)
    """In the order in which they were made."""
    folds: dict[int, Fold] = field(default_factory=dict)
    """The samples of each seed, as far as they were needed."""
    deadline: float = math.inf
    """Time after which no further round begins."""
    slowest: float = 0.0
    """Seconds of the slowest trial."""
    left_out: int = 0
    """Trials that there was no time for."""

    def fold(self, number: int) -> Fold:
        """The samples of one seed, chosen when they are first needed."""
        if number not in self.folds:
            self.folds[number] = make_fold(self.prepared, number)
        return self.folds[number]

    @property
    def configured(self) -> float:
        """The rate that training would use now."""
        lr = self.prepared.config.optim.lr
        assert lr is not None, "recipes decide it"
        return lr

    def rate(self, place: int) -> float:
        """A rate of the grid, in two digits, so that the printed rate is the one that was tried."""
        return self.configured if place == 0 else float(f"{self.configured * 10 ** (place / 4):.2g}")

    def run(self, plan: TrialPlan, stable: float) -> None:
        """Coarse rates first, lower or higher until the best has worse ones on both sides; then the rates between it
        and its neighbors; then further seeds for all rates that could be the best; last, rates beyond good ends."""
        center = _COARSE * round(4 * math.log10(stable / 10 / self.configured) / _COARSE)
        tried = {center + k * _COARSE for k in (-2, -1, 0, 1, 2)}
        self._round(tried, 0, plan)
        self._round(self._still_possible(tried, 1), 1, plan)
        while len(tried) < _MOST_RATES:
            best = self._best(tried)
            beyond = {min(tried) - _COARSE} if best is None else {best - _COARSE, best + _COARSE} - tried
            if not beyond:
                break
            tried |= beyond
            self._round(beyond, 0, plan)
            self._round(self._still_possible(beyond, 1), 1, plan)
        best = self._best(tried)
        if best is None:
            return
        fine = {best - _FINE, best + _FINE}
        for seed in (0, 1):
            self._round(fine, seed, plan)
        tried |= fine
        for seed in range(2, plan.seeds):
            self._round(self._still_possible(tried, seed), seed, plan)
        self._find_ends(tried, plan)

    def _find_ends(self, tried: set[int], plan: TrialPlan) -> None:
        """Try rates further out while the outermost rate is good, so that the range has both ends."""
        while len(tried) < _MOST_RATES:
            rates = judge(self.trials, self.fold(0).start, self.fold(0).constant).rates
            outside = {min(tried) - _COARSE} if rates[0].good else set()
            outside |= {max(tried) + _COARSE} if rates[-1].good else set()
            if not outside:
                return
            tried |= outside
            for seed in range(plan.seeds):
                self._round(outside, seed, plan)

    def _round(self, places: set[int], seed: int, plan: TrialPlan) -> None:
        """One trial of each rate; none once the time is too short for all of them, since rates are compared on the same
        seeds."""
        if self.left_out or (self.trials and monotonic() + len(places) * self.slowest > self.deadline):
            self.left_out += len(places)
            return
        for place in sorted(places):
            before = monotonic()
            trial = run_trial(self.prepared, self.fold(seed), self.rate(place), plan.steps, seed)
            self.trials.append(trial)
            self.slowest = max(self.slowest, monotonic() - before)
            end = "diverged" if trial.held_out is None else f"held-out loss {trial.held_out:.4g}"
            self.announce(f"trial at {trial.lr:g}, seed {seed}, {several(plan.steps, 'step')}: {end}")

    def _best(self, places: set[int]) -> int | None:
        found = mean_scores(self.trials, self.fold(0).constant)
        known = [place for place in places if self.rate(place) in found]
        return min(known, key=lambda place: found[self.rate(place)], default=None)

    def _still_possible(self, places: set[int], seeds: int) -> set[int]:
        """The rates that could still be the best after `seeds` seeds."""
        found = mean_scores(self.trials, self.fold(0).constant)
        if not found:
            return set()
        limit = min(found.values()) + (_HOPELESS_AFTER_ONE if seeds < 2 else _HOPELESS)
        return {place for place in places if found.get(self.rate(place), math.inf) <= limit}

    def result(
        self,
        plan: TrialPlan,
        points: tuple[RangePoint, ...],
        halvings: tuple[Halving, ...],
        origin: Origin,
        seconds: float,
    ) -> LearningRateSearch:
        """The record of the search."""
        config, fold = self.prepared.config, self.fold(0)
        run_steps = config.budget.steps
        assert run_steps is not None and config.optim.name is not None
        diverged = [h.lr for h in halvings if h.diverged]
        if self.trials:
            verdict = judge(self.trials, fold.start, fold.constant)
        else:
            verdict = Verdict((), None, None, None, f"even a constant rate of {min(diverged):.2g} diverges")
        suggestion, low, high = (
            _rescaled(lr, plan.steps, run_steps) for lr in (verdict.best, verdict.low, verdict.high)
        )
        inside = None if low is None or high is None else low <= self.configured <= high
        return LearningRateSearch(
            optimizer=config.optim.name,
            suggestion=suggestion,
            low=low,
            high=high,
            why=verdict.why
            + self._say_left_out(plan.steps, run_steps)
            + _say_length(verdict.best is not None, plan.steps, run_steps),
            configured=self.configured,
            origin=origin,
            configured_is_good=inside,
            diverges_at=min(diverged, default=None),
            start=fold.start,
            constant=fold.constant,
            held_out_samples=len(fold.splits["val"]),
            steps=plan.steps,
            run_steps=run_steps,
            seconds=seconds,
            rates=verdict.rates,
            trials=tuple(self.trials),
            halvings=halvings,
            range_test=points,
        )

    def _say_left_out(self, steps: int, run_steps: int) -> str:
        """The note on trials without time, with `--seconds` that are enough for all stages: the search may take twice
        as long."""
        if not self.left_out:
            return ""
        enough = self.slowest / steps * (_BRACKETING + _MOST_TRIALS * min(_FEWEST_STEPS, run_steps)) / 2
        return f"; no time for {several(self.left_out, 'trial')}: --seconds {10 * math.ceil(enough / 10)}"


def _rescaled(lr: float | None, steps: int, run_steps: int) -> float | None:
    """The rate for `run_steps` steps that corresponds to `lr` in trials of `steps`, in two digits."""
    return None if lr is None else float(f"{lr * (steps / run_steps) ** HORIZON:.2g}")


def _say_length(found: bool, steps: int, run_steps: int) -> str:
    if steps == run_steps:
        return ""
    longer = number(run_steps / steps, 2)
    if not found:
        return f"; the training is {longer} times as long as a trial: with more --seconds, longer trials may decide"
    lower = number((run_steps / steps) ** HORIZON, 2)
    return f"; the training is {longer} times as long, so the rate is {lower} times lower"


def _say_range(points: tuple[RangePoint, ...]) -> str:
    if not points:
        return "range test: the first loss is NaN or Inf"
    lowest = min(points, key=lambda p: p.smoothed)
    return (
        f"range test: smoothed loss lowest at {lowest.lr:.2g}, ended at {points[-1].lr:.2g} "
        f"({several(len(points), 'step')})"
    )


def _say_halvings(halvings: tuple[Halving, ...]) -> str:
    last = halvings[-1]
    outcome = "still diverges" if last.diverged else "does not diverge"
    return f"halving from {halvings[0].lr:.2g}: {last.lr:.2g} {outcome}"
