"""The search: trials from cheap to expensive, then the best of them again with other seeds."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

from striate.errors import ConfigError, ModelError, TrainingError
from striate.studies.sweep.journal import Journal, Trial
from striate.studies.sweep.space import Dimension, Range, is_promoted, rung_epochs
from striate.studies.sweep.train_once import ReadData, TrainingOutcome, plan, train_once
from striate.tasks.registry import metric_named, metric_text
from striate.training.config import Config
from striate.training.config_file import get_field
from striate.training.request import merge_request
from striate.wording import several

FINALISTS = 3
"""Number of best trials that are repeated with other seeds; the recipe is repeated too."""
_SEARCH_SHARE = 0.5  # least share of the minutes for the search; the rest is for repeats

Say = Callable[[str], None]


@dataclass(frozen=True)
class Search:
    """What is searched, and how."""

    config: Config
    """The configuration with all fixed fields."""
    recipe: Config
    """The configuration as the recipe decides it without a search."""
    headline: str
    """The metric that ranks trials."""
    higher_is_better: bool
    """Whether a higher value of it is better."""
    space: tuple[Dimension, ...]
    """The searched fields."""
    trials: int | None
    """Number of trials. None: by `minutes`."""
    minutes: float | None
    """Minutes of the whole sweep. None: by `trials`."""
    seeds: int
    """Seeds with which the best trials are repeated; 1 repeats none."""

    def seeds_of_repeats(self) -> list[int]:
        """Seeds of the repeats, without that of the search, whose luck the selection has used; empty where one seed is
        requested."""
        count = self.seeds if self.seeds > 1 else 0
        return [(self.config.seed + k) % 2**32 for k in range(1, count + 1)]

    def with_trial(self, trial: Trial, seed: int | None = None) -> Config:
        """The configuration of a trial, with another seed if one is given."""
        config = merge_request(self.config, fields=trial.fields)
        return config if seed is None else replace(config, seed=seed)


def check_space(search: Search, read: ReadData) -> None:
    """Prepare a training at each end of each dimension, with the others at their first value, so that what cannot be
    trained is refused before anything runs. Raises StriateError."""
    first = {dimension.field: dimension.ends[0] for dimension in search.space}
    corners = [first, *({**first, d.field: value} for d in search.space for value in d.ends[1:])]
    for fields in corners:
        try:
            plan(merge_request(search.config, fields=fields), read)
        except (ConfigError, ModelError, TrainingError) as error:
            shown = ", ".join(f"{name}={value}" for name, value in fields.items())
            remedy = error.remedy
            for dimension in search.space:
                remedy = _searched(remedy, dimension)
            raise ConfigError(f"sweep, at {shown}: {error.where}", error.got, error.expected, remedy) from None


def _searched(remedy: str, dimension: Dimension) -> str:
    """The remedy of a training in terms of a sweep: `--over FIELD=LOW..HIGH` instead of `--FIELD HIGH`."""
    field = re.escape(dimension.field)
    remedy = re.sub(rf"leave out --{field}\b", f"leave out --over {dimension.field}", remedy)
    if isinstance(dimension, Range):
        low = dimension.field_value(dimension.low)

        def ranged(found: re.Match[str]) -> str:
            high = found[1].rstrip(".")
            return f"--over {dimension.field}={low if low < float(high) else 0}..{high}"

        remedy = re.sub(rf"--{field} (\d[\d.]*)", ranged, remedy)
    return remedy


def run_trials(journal: Journal, search: Search, read: ReadData, say: Say, done: Callable[[], None]) -> None:
    """Run trials until there are enough, or half of the minutes are spent; `done` is called after each."""
    recipe = {d.field: get_field(search.recipe, d.field) for d in search.space}
    while not _enough(journal, search):
        trial = journal.next_trial(recipe)
        _run_trial(journal, search, trial, read)
        say(describe_trial(journal.trials()[trial.number], search.headline))
        done()


def _enough(journal: Journal, search: Search) -> bool:
    trials = journal.trials()
    if trials and trials[-1].state == "running":
        return False
    if search.minutes is None:
        return len(trials) >= (search.trials or 1)
    if not trials:
        return False
    allowed = 60 * search.minutes
    afterwards = (FINALISTS * len(search.seeds_of_repeats()) + 1) * _full_seconds(trials)
    return seconds_spent(journal) > allowed - min(afterwards, (1 - _SEARCH_SHARE) * allowed)


def _full_seconds(trials: Sequence[Trial]) -> float:
    """Seconds of the longest whole training so far; of rungs with equal epochs, only the first was trained."""
    whole = (next(o for o in t.rungs if o.epochs == t.rungs[-1].epochs) for t in trials if t.state == "complete")
    return max((outcome.seconds for outcome in whole), default=0.0)


def seconds_spent(journal: Journal) -> float:
    """Seconds of all trainings so far, also those of earlier processes."""
    searched = sum(outcome.seconds for trial in journal.trials() for outcome in trial.rungs)
    return searched + sum(o.seconds for found in repeats(journal).values() for o in found)


def _run_trial(journal: Journal, search: Search, trial: Trial, read: ReadData) -> None:
    """Run one trial to its end; recorded trainings are not repeated."""
    try:
        config = search.with_trial(trial)
        started = perf_counter()
        whole = plan(config, read)
        planning = perf_counter() - started
        epochs = whole.config.budget.epochs
        assert epochs is not None
        journal.begin(trial.number, epochs)
        previous: TrainingOutcome | None = None
        for rung, share in enumerate(rung_epochs(epochs)):
            if rung < len(trial.rungs):
                outcome = trial.rungs[rung]
            elif previous is not None and previous.epochs == share:
                outcome = replace(previous, seconds=0.0)  # the same epochs, so the same result
            else:
                outcome = _with_seconds(train_once(whole if share == epochs else plan(config, read, share)), planning)
            if rung >= len(trial.rungs):
                journal.keep(trial.number, rung, outcome)
            if outcome.score is None:
                return journal.close(trial.number, "diverged")
            if share < epochs and not is_promoted(outcome.score, _earlier(journal, trial.number, rung)):
                return journal.close(trial.number, "pruned")
            previous = outcome
        journal.close(trial.number, "complete")
    except (ConfigError, ModelError, TrainingError) as error:
        journal.close(trial.number, "refused", f"{error.where}: {error.got}")


def _earlier(journal: Journal, number: int, rung: int) -> list[float]:
    """Scores of the earlier trials at a rung; those that diverged rank last."""
    found = [t.rungs[rung].score for t in journal.trials()[:number] if len(t.rungs) > rung]
    return [-math.inf if score is None else score for score in found]


def _with_seconds(outcome: TrainingOutcome, planning: float) -> TrainingOutcome:
    """The outcome with the seconds of planning added, which count against the minutes: for a table they are as many as
    those of training."""
    return replace(outcome, seconds=outcome.seconds + planning)


def describe_trial(trial: Trial, headline: str) -> str:
    """`trial 3: optim.lr 0.00312, batch 32: 94.1 % after 1 epoch, 96.0 % after 4; pruned`."""
    fields = ", ".join(f"{name} {short(value)}" for name, value in trial.fields.items())
    steps: list[str] = []
    seen = 0
    for outcome in trial.rungs:
        if outcome.epochs != seen:
            seen = outcome.epochs
            unit = "" if steps else " epoch" if seen == 1 else " epochs"
            shown = "not finite" if outcome.score is None else metric_text(headline, outcome.val[headline])
            steps.append(f"{shown} after {seen}{unit}")
    scores = f"val {metric_named(headline).name} {', '.join(steps)}; " if steps else ""
    ending = f"refused: {trial.why}" if trial.state == "refused" else str(trial.state)
    recipe = " (the recipe)" if trial.recipe else ""
    return f"trial {trial.number}{recipe}: {fields}: {scores}{ending}"


def short(value: object) -> str:
    """A field's value for a line of text."""
    if isinstance(value, tuple | list):
        return str(list(value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def repeat_best(journal: Journal, search: Search, read: ReadData, say: Say, done: Callable[[], None]) -> None:
    """Train the finalists again with other seeds. Raises TrainingError where no trial completed."""
    if "finalists" not in journal.notes():
        journal.note("finalists", _finalists(journal, search, say))
    trials = journal.trials()
    for number in journal.notes()["finalists"]:
        for seed in search.seeds_of_repeats():
            key = f"repeat_{number}_{seed}"
            if key not in journal.notes():
                started = perf_counter()
                prepared = plan(search.with_trial(trials[number], seed), read)
                planning = perf_counter() - started
                outcome = _with_seconds(train_once(prepared), planning)
                journal.note(key, outcome.to_json())
                done()
        found = repeats(journal).get(number, [])
        scores = [o.val[search.headline] for o in found if o.score is not None]
        if found:
            shown = ", ".join(metric_text(search.headline, score) for score in scores)
            metric = metric_named(search.headline).name
            say(f"trial {number} again with {several(len(found), 'other seed')}: val {metric} {shown}")


def _finalists(journal: Journal, search: Search, say: Say) -> list[int]:
    """Numbers of the best completed trials, best first, and that of the recipe."""
    complete = [t for t in journal.trials() if t.state == "complete"]
    if not complete:
        last = journal.trials()[-1]
        raise TrainingError(
            "sweep",
            f"no trial completed; the last: {describe_trial(last, search.headline)}",
            "at least one complete trial",
            "smaller learning rates: --over optim.lr=1e-5..1e-3",
        )
    ranked = sorted(complete, key=lambda t: (-t.score, t.number))
    chosen = [t.number for t in ranked[:FINALISTS]]
    chosen += [t.number for t in ranked[FINALISTS:] if t.recipe]
    if search.minutes is not None and search.seeds > 1:
        left = 60 * search.minutes - seconds_spent(journal)
        fitting = max(0, int((left / max(_full_seconds(complete), 1e-3) - 1) / search.seeds))
        if fitting < len(chosen):
            some = f"for {fitting} of the best {len(chosen)}" if fitting else "for none of the best"
            say(f"time is left {some} to repeat with {several(search.seeds, 'other seed')}")
            chosen = _cut(chosen, fitting, {t.number for t in ranked if t.recipe})
    return chosen


def _cut(chosen: list[int], count: int, recipe: set[int]) -> list[int]:
    """The first `count` of `chosen`; the recipe is among them if there is room next to the best, since only it shows
    the gain."""
    kept = chosen[:count]
    dropped = [number for number in chosen[count:] if number in recipe]
    return [*kept[:-1], *dropped] if dropped and count > 1 else kept


def repeats(journal: Journal) -> dict[int, list[TrainingOutcome]]:
    """The repeated trainings of each finalist, in the order of training."""
    found: dict[int, list[TrainingOutcome]] = {}
    for key, value in journal.notes().items():
        if key.startswith("repeat_"):
            found.setdefault(int(key.split("_")[1]), []).append(TrainingOutcome(**value))
    return found
