"""The ranking of the finalists of a sweep, and the files and sentences about it."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.special import stdtrit

from striate.runs.directory import csv_text
from striate.runs.files import write_text
from striate.statistics.intervals import METHOD
from striate.studies.sweep.journal import Journal, Trial
from striate.studies.sweep.search import Search, repeats, seconds_spent, short
from striate.studies.sweep.space import SHARES
from striate.studies.sweep.train_once import TrainingOutcome
from striate.tasks.registry import metric_named, metric_text
from striate.wording import formatted, several


@dataclass(frozen=True)
class Finalist:
    """A trial that was trained to the end."""

    trial: Trial
    repeated: tuple[TrainingOutcome, ...]
    """Its repeats with other seeds; empty where one seed is requested."""

    @property
    def merit(self) -> float:
        """The score that chooses the winner: the mean of the repeats, or that of the search without them."""
        if not self.repeated:
            return self.trial.score
        scores = [-math.inf if o.score is None else o.score for o in self.repeated]
        return -math.inf if -math.inf in scores else statistics.fmean(scores)

    def val(self) -> dict[str, Any]:
        """Validation metrics, each as `{"mean", "std", "seeds"}` over the repeats (std with n − 1); without repeats, of
        the search's single training, without std."""
        outcomes = [o for o in self.repeated if o.score is not None] or [self.trial.rungs[-1]]
        summary: dict[str, Any] = {}
        for name in outcomes[0].val:
            values = [o.val[name] for o in outcomes]
            std = statistics.stdev(values) if len(values) > 1 else None
            summary[name] = {"mean": statistics.fmean(values), "std": std, "seeds": len(values)}
        return summary


def finalists(journal: Journal) -> tuple[Finalist, ...]:
    """The trials that were repeated, or else all completed ones; best first."""
    trials, repeated = journal.trials(), repeats(journal)
    numbers = journal.notes().get("finalists") or [t.number for t in trials if t.state == "complete"]
    found = [Finalist(trials[number], tuple(repeated.get(number, ()))) for number in numbers]
    return tuple(sorted(found, key=lambda f: (-f.merit, -f.trial.score, f.trial.number)))


def summarize(journal: Journal, search: Search, facts: dict[str, Any], best_run: dict[str, Any]) -> dict[str, Any]:
    """The content of metrics.json; `facts` are the name of the data and the number of samples, `best_run` the metrics
    of the final run."""
    trials, standing = journal.trials(), finalists(journal)
    recipe = next((f for f in standing if f.trial.recipe), None)
    counts = Counter(t.state for t in trials)
    seconds = sum(o.seconds for t in trials for o in t.rungs)
    study = {
        **facts,
        "metric": search.headline,
        "higher_is_better": search.higher_is_better,
        "over": {d.field: d.text for d in search.space},
        "trials": len(trials),
        **{state: counts[state] for state in ("complete", "pruned", "diverged", "refused")},
        "rungs": [round(share, 4) for share in SHARES],
        "epochs_trained": sum(sum({o.epochs for o in t.rungs}) for t in trials),
        "epochs_without_pruning": sum(t.epochs for t in trials),
        "seconds": round(seconds_spent(journal), 3),
        "search_seconds": round(seconds, 3),
        "search_seconds_without_pruning": round(sum(map(_whole_seconds, trials)), 3),
        "seeds": search.seeds_of_repeats(),
    }
    return {
        "study": study,
        "best": {"trial": standing[0].trial.number, "fields": standing[0].trial.fields},
        "val": {"n": facts["n_val"], **standing[0].val()},
        "recipe": None if recipe is None else {"n": facts["n_val"], **recipe.val()},
        "finalists": [
            {"trial": f.trial.number, "recipe": f.trial.recipe, "fields": f.trial.fields}
            | {"search": f.trial.rungs[-1].val, "val": f.val()}
            for f in standing
        ],
        "test": best_run["test"],
        "run": "best",
    }


def _whole_seconds(trial: Trial) -> float:
    """Seconds of a whole training of the trial, measured, or extrapolated from the speed of its last rung."""
    timed = [o for o in trial.rungs if o.seconds > 0]
    return timed[-1].seconds / timed[-1].epochs * trial.epochs if timed else 0.0


def write_trials(path: Path, journal: Journal, search: Search) -> None:
    """trials.csv: one row per training, repeats last. `state` is `promoted` where a longer training followed."""
    trials, repeated = journal.trials(), repeats(journal)
    rows: list[tuple[Trial, str, int | str, TrainingOutcome | None]] = []
    for trial in trials:
        for rung, outcome in enumerate(trial.rungs):
            if rung and trial.rungs[rung - 1].epochs == outcome.epochs:
                continue  # no training of its own: the result of the rung before counts
            longer = trial.rungs[-1].epochs > outcome.epochs
            rows.append((trial, "promoted" if longer else trial.state, rung + 1, outcome))
        if not trial.rungs:
            rows.append((trial, trial.state, "", None))
    for number, outcomes in repeated.items():
        rows += [(trials[number], "repeat", len(SHARES), outcome) for outcome in outcomes]
    metrics = list(dict.fromkeys(name for *_, o in rows if o is not None for name in o.val))
    header = ["number", "state", "rung", "epochs", "seed", *(d.field for d in search.space)]
    header += [*(f"val_{name}" for name in metrics), "seconds"]
    write_text(path, csv_text(header, [_row(row, search, metrics) for row in rows]))


def _row(
    row: tuple[Trial, str, int | str, TrainingOutcome | None], search: Search, metrics: Sequence[str]
) -> list[Any]:
    trial, state, rung, outcome = row
    values_of = (trial.fields.get(d.field, "") for d in search.space)
    fields = [list(value) if isinstance(value, tuple) else value for value in values_of]
    if outcome is None:
        return [trial.number, state, rung, "", "", *fields, *("" for _ in metrics), ""]
    values = [outcome.val.get(name, "") for name in metrics]
    return [trial.number, state, rung, outcome.epochs, outcome.seed, *fields, *values, round(outcome.seconds, 3)]


def mean_and_deviation(summary: dict[str, Any], name: str) -> str:
    """`97.10 ± 0.21 %`; without the deviation for a single training."""
    return metric_text(name, summary[name]["mean"], summary[name]["std"])


def comparison(metrics: dict[str, Any], standing: Sequence[Finalist]) -> str:
    """A sentence that compares the best with the recipe, seed by seed; "" where the recipe is not among the
    finalists."""
    name, best = metrics["study"]["metric"], standing[0]
    recipe = next((f for f in standing if f.trial.recipe), None)
    if recipe is None:
        return ""
    if recipe is best and len(standing) == 1:
        others = metrics["study"]["trials"] - 1
        if not others:
            return "Only the recipe was tried."
        return (
            f"The recipe has no rival: none of {several(others, 'other trial')} completed, and shorter trainings do not"
            " show which would be better. More --trials may give one."
        )
    if recipe is best:
        figure = "mean" if best.repeated else "metric"
        return f"No trial has a better {figure} than the recipe: leave these fields to it."
    ours, theirs = ({o.seed: o.val[name] for o in f.repeated if o.score is not None} for f in (best, recipe))
    seeds = sorted(ours.keys() & theirs.keys())
    scale, unit = metric_named(name).lead
    sign = 1 if metrics["study"]["higher_is_better"] else -1
    if len(seeds) < 2:
        gain = sign * scale * (best.trial.rungs[-1].val[name] - recipe.trial.rungs[-1].val[name])
        return f"One training each: {_lead(gain, '', unit, name, sign)}, which may be chance."
    gains = [sign * scale * (ours[seed] - theirs[seed]) for seed in seeds]
    mean, error = statistics.fmean(gains), statistics.stdev(gains) / math.sqrt(len(gains))
    if unit:
        # A metric of n samples cannot be more certain than one sample, even where seeds agree.
        error = max(error, scale / metrics["study"]["n_val"] / math.sqrt(len(gains)))
    # The best of several is more often ahead by luck than a single one: Bonferroni's correction.
    rivals = sum(not f.trial.recipe for f in standing)
    reach = float(stdtrit(len(gains) - 1, 1 - 0.025 / rivals)) * error
    method = "Student" if rivals == 1 else f"Student, as the best of {rivals} (Bonferroni)"
    verdict = "more than the seeds explain" if mean > reach else "which may be chance"
    return (
        f"Seed by seed: {_lead(mean, f' ± {reach:.2g}', unit, name, sign)}"
        f" (95 % interval of the mean over {several(len(gains), 'seed')}, {method}), {verdict}."
    )


def _lead(gain: float, reach: str, unit: str, name: str, sign: int) -> str:
    """By how much the best is ahead: with a sign where higher is better, in words where lower is."""
    shown = metric_named(name).name
    if sign > 0:
        return f"{formatted(gain, '+.3g')}{reach}{unit} val {shown} over the recipe"
    return f"val {shown} {abs(gain):.3g}{reach}{unit} {'lower' if gain >= 0 else 'higher'} than the recipe's"


def selection_note(metrics: dict[str, Any]) -> str:
    """A sentence on why the best validation metric is optimistic, with the test metric."""
    study, test, name = metrics["study"], metrics["test"], metrics["study"]["metric"]
    value = metric_text(name, test[name])
    if interval := test.get(f"{name}_interval"):
        low, high = (metric_text(name, bound) for bound in interval)
        method = test.get(f"{name}_interval_method", METHOD if name == "accuracy" else "bootstrap")
        value += f" (95 % interval {low} to {high}, {method})"
    shown = metric_named(name).name
    return (
        f"The validation {shown} of the best of {study['trials']} trials is optimistic:"
        f" the {several(study['n_val'], 'sample')} selected the trial."
        f" On {several(test['n'], 'test sample')}, used once, after the selection: {shown} {value}."
    )


def describe(metrics: dict[str, Any], standing: Sequence[Finalist]) -> list[str]:
    """The result as lines for a terminal: the finalists, the comparison with the recipe, the test metric."""
    name = metrics["study"]["metric"]
    seeds = len(metrics["study"]["seeds"])
    repeated = any(f.repeated for f in standing)
    head = ["trial", *metrics["study"]["over"], "search", several(seeds, "other seed") if repeated else ""]
    rows = [head]
    for finalist in standing:
        fields = [short(finalist.trial.fields[field]) for field in metrics["study"]["over"]]
        label = f"{finalist.trial.number}{' (recipe)' if finalist.trial.recipe else ''}"
        again = mean_and_deviation(finalist.val(), name) if finalist.repeated else ""
        rows.append([label, *fields, metric_text(name, finalist.trial.rungs[-1].val[name]), again])
    widths = [max(len(row[k]) for row in rows) for k in range(len(head))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    sentences = [sentence for sentence in (comparison(metrics, standing), selection_note(metrics)) if sentence]
    return [
        f"val {metric_named(name).name}, best first:",
        *table,
        *_others(metrics["study"], len(standing)),
        "",
        *sentences,
    ]


def _others(study: dict[str, Any], listed: int) -> list[str]:
    """A line on the trials that are not among the finalists; empty where there are none."""
    rest = {state: study[state] for state in ("pruned", "diverged", "refused") if study[state]}
    rest |= {"complete": study["complete"] - listed} if study["complete"] > listed else {}
    counts = ", ".join(f"{count:,} {state}" for state, count in rest.items())
    return [f"not listed: {counts}; trials.csv has every training"] if rest else []
