"""A sweep: many configurations, from cheap trainings to expensive ones, and the best one trained as an ordinary run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from striate.errors import ConfigError, RunError, UsageError, pasted
from striate.models.trusted_code import trust_named
from striate.report.finish import finish_run
from striate.runs.directory import RunDirectory, create_run, read_metrics, refuse_occupied
from striate.runs.environment import describe_environment, read_environment
from striate.runs.files import explained, write_json, write_text
from striate.runs.lock import owned
from striate.runs.plain_files import is_there
from striate.studies.sweep.journal import Journal, load_optuna, locked
from striate.studies.sweep.search import FINALISTS, Search, check_space, repeat_best, run_trials
from striate.studies.sweep.space import Choices, Dimension, default_space, parse_space, rung_epochs
from striate.studies.sweep.standing import describe, finalists, summarize, write_trials
from striate.studies.sweep.sweep_report import write_sweep_report
from striate.studies.sweep.train_once import ReadData, plan, without_test
from striate.training.config import Config
from striate.training.config_file import config_from_dict, config_from_yaml, config_to_dict, config_to_yaml, read_yaml
from striate.training.execution import execution_settings, memory_explained
from striate.training.first_files import recover_unchanged_run, write_first_files
from striate.training.interruption import terminating_interrupts
from striate.training.prepare import Prepared, prepare, read_data
from striate.training.progress import progress_reader
from striate.training.request import decided_fields, merge_request
from striate.training.session import restore, run_training
from striate.wording import several

TRIALS = 30
"""Trials of a sweep without a number of trials or minutes."""
TRAININGS = 10
"""Whole trainings that should about fit into the minutes of a sweep."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class SweepRequest:
    """The options of a sweep."""

    config: Config
    """The fixed fields."""
    over: tuple[str, ...] = ()
    """The search space as text; empty for the default space."""
    trials: int | None = None
    """Number of trials. None: by `minutes`, or 30 without these."""
    minutes: float | None = None
    """Minutes of the whole sweep. None: by `trials`."""
    seeds: int = 3
    """Seeds with which the best trials are repeated; 1 repeats none."""


@dataclass(frozen=True)
class Sweep:
    """A finished sweep."""

    path: Path
    """Its directory."""
    metrics: dict[str, Any]
    """The content of its metrics.json."""
    lines: tuple[str, ...] = ()
    """The result as lines of text."""

    @property
    def report(self) -> Path:
        """The one-page report, which opens in any browser."""
        return self.path / "report.html"

    @property
    def best(self) -> Path:
        """The run directory of the best configuration's network."""
        return self.path / "best"


class SweepInterrupted(KeyboardInterrupt):
    """The sweep at `path` was interrupted; finished trials are saved."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"interrupted: trials saved in {path}; resume with: striate sweep --resume {pasted(path)}")


@dataclass(frozen=True)
class _Study:
    """A sweep about to start or continue."""

    path: Path
    """Its directory."""
    search: Search
    """What is searched, and how."""
    facts: dict[str, Any]
    """Name of the data, task, and number of samples of each split."""
    read: ReadData
    """Reads the data without the test split."""


def run_sweep(request: SweepRequest, *, out: Path | None, console: Console, say: Say, quiet: bool = False) -> Sweep:
    """Search, repeat the best, train the winner, and measure it on the test split, once, at the end.

    The directory `out`, or `runs/<data>-sweep-<n>`, gets study.yaml, study.journal, trials.csv, best.yaml, `best/` (an
    ordinary run), metrics.json and report.html. `say` gets a line per trial. Everything is checked before anything
    runs. Raises StriateError; SweepInterrupted after Ctrl-C.
    """
    load_optuna()
    _check(request)
    if out is not None:
        refuse_occupied(out)
    space = parse_space(request.over)
    for name in (name for d in space if isinstance(d, Choices) and d.field == "model.name" for name in d.values):
        trust_named(name)
    read = without_test(say)
    config, data_notes = _with_decided_data(request, say)
    request = replace(request, config=config)
    decided = plan(request.config, read)
    request = replace(request, config=_fewer_epochs(request, decided, read, say))
    decided = plan(request.config, read)
    chosen = [note for note in decided.notes if note.startswith("model ")]
    for text in (_sizes(decided), *data_notes, *chosen, *map(str, decided.findings)):
        say(text)
    space = space or _announce_space(default_space(decided.config, request.config), say)
    search = _search(request, decided, space)
    check_space(search, read)
    path = create_run(out, f"{decided.data.name}-sweep", ("plots",)).path
    write_text(path / "study.yaml", _study_text(search))
    say(_intention(search))
    return _continue(_Study(path, search, _facts(decided), read), console, say, quiet)


def resume_sweep(path: Path, *, console: Console, say: Say, quiet: bool = False) -> Sweep:
    """Resume a sweep that was interrupted or killed; for a finished one, return its result. Raises RunError,
    DataError."""
    load_optuna()
    request = _read_study(path / "study.yaml")
    space = parse_space(request.over)
    if is_there(path / "metrics.json"):
        with locked(path):
            return _finished(path, Journal(path / "study.journal", space, request.config.seed))
    read = without_test(say)
    decided = plan(request.config, read)
    search = _search(request, decided, space)
    return _continue(_Study(path, search, _facts(decided), read), console, say, quiet)


def _continue(study: _Study, console: Console, say: Say, quiet: bool) -> Sweep:
    path, search = study.path, study.search
    try:
        with locked(path), terminating_interrupts():
            if not read_environment(path / "env.json"):
                write_json(path / "env.json", describe_environment())
            journal = Journal(path / "study.journal", search.space, search.config.seed)
            if journal.trials():
                say(f"continuing {path}: {several(len(journal.trials()), 'trial')} begun so far")

            def keep() -> None:
                write_trials(path / "trials.csv", journal, search)

            run_trials(journal, search, study.read, say, keep)
            repeat_best(journal, search, study.read, say, keep)
            return _finish(study, journal, console, say, quiet)
    except KeyboardInterrupt:
        raise SweepInterrupted(path) from None


def _finish(study: _Study, journal: Journal, console: Console, say: Say, quiet: bool) -> Sweep:
    """Train the winner as an ordinary run, and record the result of the sweep."""
    path, search = study.path, study.search
    standing = finalists(journal)
    winner = standing[0].trial
    write_trials(path / "trials.csv", journal, search)
    best = _train_best(path, search.with_trial(winner), console, say, quiet)
    metrics = summarize(journal, search, study.facts, best)
    write_sweep_report(path, journal, search, metrics, standing)
    write_json(path / "metrics.json", metrics)
    return _finished(path, journal)


def _finished(path: Path, journal: Journal) -> Sweep:
    metrics = read_metrics(RunDirectory(path))
    return Sweep(path, metrics, tuple(describe(metrics, finalists(journal))))


def _train_best(path: Path, config: Config, console: Console, say: Say, quiet: bool) -> dict[str, Any]:
    """Train or resume the ordinary run `best/`; returns its metrics."""
    run = RunDirectory(path / "best")
    if is_there(run.metrics_json):
        return read_metrics(run)
    say(f"training the best as a run: {run.path}")
    resumed = is_there(run.config)
    if not resumed:
        with explained(run.path):
            shutil.rmtree(run.path, ignore_errors=True)  # a process was killed while making it
        create_run(run.path, "best")
    with owned(run.path, say):
        checkpoint = recover_unchanged_run(run, say) if resumed else None
        prepared = prepare(config_from_yaml(run.config) if resumed else config, checkpoint=checkpoint)
        write_text(path / "best.yaml", config_to_yaml(prepared.config))
        write_first_files(run, prepared, say)
        restore(run, prepared, checkpoint)
        with execution_settings(prepared.config), memory_explained(prepared.config):
            with progress_reader(console, prepared.task.metrics, quiet) as progress:
                prepared = run_training(run, prepared, [progress])
            return finish_run(run, prepared, say)


def _check(request: SweepRequest) -> None:
    """Raise UsageError or ConfigError for limits and fixed fields that allow no sweep."""
    if request.trials is not None and request.minutes is not None:
        got, remedy = f"both {several(request.trials, 'trial')} and {_minutes(request.minutes)}", "leave out --trials"
        raise UsageError("striate sweep", got, "trials or minutes", remedy)
    limits = (("--trials", request.trials, 1, 100_000), ("--seeds", request.seeds, 1, 1000))
    for option, count, low, high in limits:
        if count is not None and not low <= count <= high:
            raise UsageError(
                option, str(count), f"{low} to {high:,}", f"{option} {3 if option == '--seeds' else TRIALS}"
            )
    if request.minutes is not None and not 0 < request.minutes <= 525_600:
        raise UsageError("--minutes", f"{request.minutes:g}", "more than 0, up to 525,600", "--minutes 10")
    config = request.config
    if config.cv is not None:
        raise ConfigError(
            "cv", str(config.cv), "a sweep without --cv: a sweep selects by the validation split", "leave out --cv"
        )
    if config.budget.target is not None:
        got = f"{config.budget.target:g}: trainings that end at a target cannot be ranked"
        remedy = "leave out --budget.target, and train the best.yaml of the sweep with --target"
        raise ConfigError("budget.target", got, "trainings of full length", remedy)
    if not config.auxiliary.task:
        expected = "a training with labels: a sweep chooses by how well they are predicted"
        raise ConfigError("auxiliary.task", "0: the network learns no labels", expected, "--auxiliary.task 1")
    if config.budget.minutes is not None or (config.budget.steps is not None and config.budget.epochs is None):
        raise ConfigError(
            "budget", "minutes or steps for each training", "epochs, which successive halving divides", "--epochs 12"
        )


def _with_decided_data(request: SweepRequest, say: Say) -> tuple[Config, tuple[str, ...]]:
    """The configuration with what recipe, network and time decide about the data, so that all trials have the same
    samples in the same size; and notes. The time is that of one training."""
    config = timed = request.config
    if request.minutes is not None and not _asks_epochs(config):
        timed = merge_request(config, minutes=request.minutes / TRAININGS, fields={})
    with memory_explained(timed):
        decided, data = read_data(timed, say)
    known = {name: getattr(decided.data, name) for name in ("source", "fingerprint", "size", "val_fraction")}
    pinned = replace(config, data=replace(config.data, **known))
    return replace(pinned, decided=decided_fields(config, pinned)), data.notes


def _asks_epochs(config: Config) -> bool:
    return config.budget.epochs is not None and "budget.epochs" not in config.decided


def _fewer_epochs(request: SweepRequest, decided: Prepared, read: ReadData, say: Say) -> Config:
    """The configuration with fewer epochs, so that several trainings fit into the minutes, by the speed of the recipe's
    training. Requested epochs stay; a line says where they are too many."""
    config, epochs = request.config, decided.config.budget.epochs
    assert epochs is not None
    if request.minutes is None:
        return config
    timed = plan(merge_request(config, minutes=request.minutes / TRAININGS, fields={}), read)
    fitting = timed.config.budget.epochs or 1
    if fitting >= epochs:
        return config
    if _asks_epochs(config):
        say(
            f"{_minutes(request.minutes)} are short for trainings of {several(epochs, 'epoch')}: --epochs {fitting} "
            "allows more trials"
        )
        return config
    say(f"the longest trainings have {fitting} epochs, not the recipe's {epochs}: {TRAININGS} fit into the time")
    return merge_request(config, epochs=fitting, fields={})


def _announce_space(space: tuple[Dimension, ...], say: Say) -> tuple[Dimension, ...]:
    shown = " and ".join(f"{d.field} {d.text}" for d in space)
    say(f"no --over: searching {shown}, from a tenth to ten times the recipe's values")
    return space


def _search(request: SweepRequest, decided: Prepared, space: tuple[Dimension, ...]) -> Search:
    if decided.task.scored_by_loss and any(d.field == "task.loss" for d in space):
        raise ConfigError(
            "--over task.loss", "several losses", "one loss: the scores of this task are losses", "--task.loss huber"
        )
    trials = TRIALS if request.trials is None and request.minutes is None else request.trials
    return Search(
        config=request.config,
        recipe=decided.config,
        headline=decided.task.headline,
        higher_is_better=decided.task.higher_is_better,
        space=space,
        trials=trials,
        minutes=request.minutes,
        seeds=request.seeds,
    )


def _sizes(decided: Prepared) -> str:
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in decided.splits.items())
    return f"{decided.data.name}: {sizes}; the test split is used only at the end"


def _minutes(minutes: float | None) -> str:
    return f"{minutes:g} {'minute' if minutes == 1 else 'minutes'}"


def _intention(search: Search) -> str:
    """What the sweep will do, in a line."""
    limit = _minutes(search.minutes) if search.trials is None else several(search.trials, "trial")
    epochs = search.recipe.budget.epochs or 1
    rungs = ", ".join(map(str, dict.fromkeys(rung_epochs(epochs))))
    again = f"; the best {FINALISTS} of the complete trials again with {several(search.seeds, 'seed')}"
    again = again if search.seeds > 1 else ""
    return f"{limit} of {rungs} epochs: the best third continues each time{again}"


def _facts(decided: Prepared) -> dict[str, Any]:
    counts = {f"n_{name}": len(split) for name, split in decided.splits.items()}
    return {"data": decided.data.name, "task": decided.task.name, **counts}


def _study_text(search: Search) -> str:
    """study.yaml: everything that resuming needs."""
    values = {
        "over": [f"{d.field}={d.text}" for d in search.space],
        "trials": search.trials,
        "minutes": search.minutes,
        "seeds": search.seeds,
        "config": config_to_dict(search.config),
    }
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110)


def _read_study(path: Path) -> SweepRequest:
    try:
        values = read_yaml(path)
    except ConfigError:
        raise _no_study(path, "no readable study" if is_there(path) else "no sweep") from None
    try:
        return SweepRequest(
            config_from_dict(values["config"], str(path)),
            tuple(map(str, values["over"])),
            values["trials"],
            values["minutes"],
            int(values["seeds"]),
        )
    except ConfigError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError):
        raise _no_study(path, "no readable study") from None


def _no_study(path: Path, got: str) -> RunError:
    expected, folder = "the directory of a sweep made by striate sweep", path.parent
    if got == "no sweep" and is_there(RunDirectory(folder).config):
        remedy = f"striate train --resume {pasted(folder)}"
        return RunError(str(folder), "a run of striate train", expected, remedy)
    sweeps = sorted(found.parent for found in (*Path().glob("*/study.yaml"), *Path("runs").glob("*/study.yaml")))
    remedy = f"striate sweep --resume {pasted(sweeps[-1])}" if sweeps else "striate sweep mnist5k --out runs/search"
    return RunError(str(path), got, expected, remedy)
