"""Train and resume: one run, or a cross-validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from threading import RLock
from time import monotonic
from typing import Any, Literal

import torch
from rich.console import Console
from torch import nn

from striate import notebook
from striate.api.announcing import announce_decisions, announcer
from striate.api.following import follow_run, send_end, send_start
from striate.api.keywords import known_keywords
from striate.api.networks import load, remember_module
from striate.api.playing import resume_on_rewards, train_on_rewards
from striate.data.environments.open_environment import is_environment
from striate.data.sources.objects import Data, given_data
from striate.errors import DataError, ModelError, RunError, UsageError, reason_of
from striate.evaluation.evaluate import groups_of
from striate.models.build import Model, module_of_run, named_model
from striate.models.preserved_state import usual_torch
from striate.models.trained_modules import note_trained
from striate.models.trusted_code import name_of, take_as
from striate.records import Finding
from striate.report.finish import finish_run
from striate.runs.checkpoint import without_checkpoint
from striate.runs.directory import (
    RunDirectory,
    RunPath,
    create_run,
    further_command,
    open_run,
    path_of_run,
    read_metrics,
    refuse_occupied,
)
from striate.runs.events import already_finished, append_event, cut_incomplete_line, read_events
from striate.runs.files import remedy_in_place
from striate.runs.lock import owned
from striate.runs.plain_files import is_there
from striate.studies.cross_validation.fold_files import FOLDERS, load_folds
from striate.studies.cross_validation.plan_cross_validation import CrossValidation, plan_cross_validation
from striate.studies.cross_validation.run_cross_validation import (
    finish_cross_validation,
    run_folds,
    study_is_complete,
    write_cv_beginning,
)
from striate.tasks.registry import split_line
from striate.tasks.task import Task
from striate.training.budget.deadline import time_watch
from striate.training.code_fields import ARGUMENTS, NAMES_OF_CODE, given_arguments, how_to_resume
from striate.training.config import Config
from striate.training.config_file import config_from_yaml, get_field
from striate.training.events import Event
from striate.training.execution import execution_settings, memory_explained
from striate.training.first_files import recover_unchanged_run, refuse_changed_config, write_first_files
from striate.training.interruption import Interrupted, terminating_interrupts
from striate.training.measured import watched_count
from striate.training.prepare import Prepared, prepare
from striate.training.processes.coordination import Coordinator, coordinated, refuse_lost_process
from striate.training.processes.decide import among_processes, resumed_among
from striate.training.processes.launch import launched
from striate.training.progress import progress_reader
from striate.training.request import ConfigSource, continued, merge_request, read_config, requested_fields
from striate.training.session import Reader, restore, run_training
from striate.training.snapshots import SnapshotWriter
from striate.training.trained import Trained
from striate.wording import several, type_of


@dataclass(frozen=True)
class Run:
    """A finished run: its directory and the content of its metrics.json."""

    path: Path
    metrics: dict[str, Any]

    def __fspath__(self) -> str:
        """Its directory: what takes the path of a run also takes the run."""
        return str(self.path)

    @property
    def report(self) -> Path:
        """The one-page report, which opens in any browser."""
        return self.path / "report.html"

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings: on data, weights and signal before the first step, and on the training at its end."""
        before = [event for event in read_events(open_run(self.path)) if event["event"] == "finding"]
        every = (*before, *self.metrics.get("findings", ()))
        return tuple(Finding(**{field.name: record[field.name] for field in fields(Finding)}) for record in every)

    def _repr_html_(self) -> str:
        return notebook.page(
            f"{self.metrics.get('model')} on {self.metrics.get('data')}",
            notebook.items(
                f"{split}: {split_line(self.metrics[split])}"
                for split in ("train", "val", "test")
                # Metrics of several trainings are means with standard deviations, which the report shows.
                if isinstance(self.metrics.get(split, {}).get("loss"), float)
            ),
            *(finding._repr_html_() for finding in self._findings_if_readable()),
            notebook.line(f"The run: {self.path}; its report: {self.report}"),
        )

    def _findings_if_readable(self) -> tuple[Finding, ...]:
        with suppress(RunError, KeyError):  # a notebook shows the metrics also after the folder is removed
            return self.findings
        return ()

    def load(self) -> Trained:
        """The trained network (the best epoch's), ready to predict."""
        return load(self.path)


def path_of(run: str | Path | Run | Trained) -> Path:
    """The folder or checkpoint of any of these. Raises RunError for a network that was loaded from no run."""
    if not isinstance(run, Trained):
        return path_of_run(run)
    if run.run is None:
        got, remedy = "a network without a run", 'give the run: "runs/NAME"'
        raise RunError("run", got, "a run, or a network that striate.load loaded from one", remedy)
    return run.run


def run_and_network(run: str | Path | Run | Trained) -> tuple[RunDirectory, Trained]:
    """A run and its trained network, from either. Raises RunError where there is no run."""
    opened = open_run(path_of(run))
    return opened, run if isinstance(run, Trained) else load(opened.path)


TRAININGS = RLock()
"""Held while a run trains: random states, threads and precision belong to the process, so trainings in two threads
would change each other's."""


@known_keywords
@usual_torch()
def train(
    data: Data = None,
    model: Model = "auto",
    *,
    task: str | type | Task | None = None,
    loss: str | Callable[[Any, Any], torch.Tensor] | None = None,
    optimizer: str | Callable[[list[nn.Parameter]], torch.optim.Optimizer] | None = None,
    scheduler: str | Callable[[int, int], float] | None = None,
    transform: str | Callable[[torch.Tensor], torch.Tensor] | None = None,
    on_event: Callable[[Event], None] | None = None,
    weights: str | Path | None = None,
    start: str | Path | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    target: float | None = None,
    recipe: Literal["quick", "standard", "speedrun", "fine-tune", "planner"] = "standard",
    batch: int | None = None,
    lr: float | None = None,
    size: int | tuple[int, int] | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    baseline: bool = False,
    cv: str | None = None,
    config: ConfigSource = None,
    set: Mapping[str, Any] | None = None,
) -> Run:
    """Train a network on `data`, evaluate it, and write a run directory.

    `data`: a name, folder, archive, manifest, idx folder or `.npz`; arrays or tensors (x, y), or `{"train": (x, y),
    "val": …, "test": …}`; a map-style `torch.utils.data.Dataset`, or the `DataLoader` of one. `mnist5k` if neither it
    nor `config` says.
    `model`: a zoo name, layer string, `file.py:function`, a run, an `nn.Module`, or a class or function that makes one;
    it is given the number of classes, the input shape or its channels, if it has a parameter `num_classes`,
    `input_shape` or `in_channels`. `weights`: a run, checkpoint,
    state_dict or `.safetensors` that it begins with. `start`: a finished run whose network is trained further, with
    its configuration and splits, also on other `data`; not beside `config`.
    `task`, `loss`, `optimizer`, `scheduler`, `transform`: a name, `file.py:name`, or the thing itself: a class or
    instance of a task (docs/extending.md); `loss(outputs, targets)`, a scalar mean; `optimizer(parameters)`;
    `scheduler(step, steps)`, the share of the rate; `transform(images)` of each training batch, which keeps shape and
    type. `on_event(event)` is called after each step and epoch with a record of `striate.training.events`.
    `epochs` or `minutes`, not both. `target`: end as soon as validation reaches it (accuracy or IoU as a share, RMSE in
    the units of the numbers).
    `recipe`: "standard", the default, leaves the choice to the data; `set={"recipe": "standard"}` insists on it.
    `size`: pixels, or (height, width). `baseline`: also fit what the network has to beat, on the same splits.
    `cv`: folds × repeats of cross-validation (`"5x5"`) instead of one training; no network is saved then.
    `config`: a config.yaml, mapping or Config; arguments that differ from their defaults, and dotted fields in `set`
    (`{"optim.weight_decay": 0.1}`), go on top of it.
    Progress is shown on standard error when it is a terminal. Raises StriateError; Interrupted after Ctrl-C,
    with the state saved.
    """
    if start is not None and config is not None:
        raise UsageError(
            "train", "start and config", "start alone: the run has its own configuration", "leave out config"
        )
    name, module = named_model(model)
    reader = None if on_event is None else _reader_calling(on_event)
    given: dict[str, Any] = {"batch": batch, "optim.lr": lr}
    given |= {"seed": seed or None, "recipe": None if recipe == "standard" else recipe}
    given |= {"baseline": baseline or None, "model.name": name}
    given |= {"budget.target": target}
    given |= {"model.weights": None if weights is None else str(weights), "cv": cv}
    given |= {"task.name": task, "task.loss": loss, "optim.name": optimizer}
    given |= {"schedule.name": scheduler, "augment.transform": transform}
    given |= {name: name_of(given[name]) for name in NAMES_OF_CODE if given[name] is not None}
    fields = requested_fields(given, set or {})
    console = Console(stderr=True)
    quiet = not console.is_terminal
    with TRAININGS, given_data(data, announcer(console, quiet)) as source:
        merged = merge_request(
            read_config(config) if start is None else continued(start),
            data=source,
            epochs=epochs,
            minutes=minutes,
            size=size,
            fields=fields,
        )
        return train_config(
            merged,
            module=module,
            out=None if out is None else Path(out),
            console=console,
            quiet=quiet,
            reader=reader,
        )


def train_config(
    config: Config,
    *,
    module: nn.Module | None = None,
    out: Path | None = None,
    console: Console,
    quiet: bool = False,
    spent: float = 0.0,
    reader: Reader | None = None,
) -> Run:
    """`train` for a merged configuration; notes and progress go to `console` unless `quiet`. `spent`: seconds since the
    user's request, which count toward `budget.minutes`. `reader` is called with each event."""
    started = monotonic() - spent
    if is_environment(config.data.source):
        if reader is not None:
            raise UsageError("on_event", "an environment", "samples", "leave out on_event, and follow metrics.csv")
        return Run(*train_on_rewards(config, module, out, console, quiet, started))
    with TRAININGS, coordinated(launched()) as coordinator:
        if coordinator.is_follower:
            return Run(*follow_run(coordinator, module))
        config = among_processes(config, coordinator.launch)
        return _train(config, module, out, console, quiet, started, coordinator, reader)


LEAST_STEPS = 200
"""Steps of the shortest run that is checked before it: the three timing steps of the check are then a small share."""


def _pre_checked(prepared: Prepared) -> Prepared:
    """The training with the errors of a quick examination as findings. Short runs, networks that learn by a local
    learning rule, and several processes are not examined, which saves the third of a second that loading takes."""
    config = prepared.config
    short = (config.budget.steps or 0) < LEAST_STEPS
    if short or config.optim.name == "local-rule" or (config.execution.processes or 1) > 1:
        return prepared
    from striate.api.diagnosing import pre_checked

    return pre_checked(prepared)


def _train(
    config: Config,
    module: nn.Module | None,
    out: Path | None,
    console: Console,
    quiet: bool,
    started: float,
    coordinator: Coordinator,
    reader: Reader | None,
) -> Run:
    if out is not None:
        refuse_occupied(out)  # before minutes are spent on reading the data
    announce = announcer(console, quiet)
    if config.cv is not None:
        if reader is not None:
            raise UsageError("on_event", "with cv, which runs many trainings", "one training", "leave out cv")
        with memory_explained(config):
            study = plan_cross_validation(config, module, announce=announce)
        run = create_run(out, f"{study.pool.data.name[:24]} {study.network} cv", FOLDERS)
        with owned(run.path, announce):
            refuse_occupied(run.path)
            return _cross_validate(run, study, console, quiet)
    with memory_explained(config):
        prepared = prepare(
            config, module, seconds_spent=lambda: monotonic() - started, announce=announce, forecast=True
        )
    prepared = _pre_checked(prepared)
    model = "module" if prepared.network_name is None else prepared.network_name
    run = create_run(out, f"{prepared.data.name}-{model if len(model) <= 24 else 'custom'}")
    with owned(run.path, announce):
        refuse_occupied(run.path)  # by another process that took the same folder meanwhile
        write_first_files(run, prepared)
        announce_decisions(prepared, announce, monotonic() - started)
        prepared.state.elapsed = monotonic() - started
        if module is not None:
            note_trained(module, run.path)
        send_start(coordinator, run, prepared)
        return _train_to_end(run, prepared, console, quiet, coordinator, reader)


@usual_torch()
def resume(
    path: RunPath,
    *,
    module: nn.Module | Callable[..., nn.Module] | None = None,
    data: Data = None,
    task: str | type | Task | None = None,
    loss: str | Callable[[Any, Any], torch.Tensor] | None = None,
    optimizer: str | Callable[[list[nn.Parameter]], torch.optim.Optimizer] | None = None,
    scheduler: str | Callable[[int, int], float] | None = None,
    transform: str | Callable[[torch.Tensor], torch.Tensor] | None = None,
    console: Console | None = None,
    quiet: bool = False,
) -> Run:
    """Resume an interrupted run, bit for bit as if it had never stopped; start over if it has no checkpoint.

    On a finished run: verify its checkpoints and return it. `module` for a run of a network made in Python;
    likewise `data`, `task`, `loss`, `optimizer`, `scheduler` and `transform` that were given in Python.
    Raises RunError when the checkpoint is damaged, DataError when the data have changed since.
    """
    with TRAININGS, coordinated(launched()) as coordinator:
        if coordinator.is_follower:
            return Run(*follow_run(coordinator, module))
        console = console or Console(stderr=True)
        path = path_of_run(path)
        config = config_from_yaml(open_run(path).config)
        own: dict[str, object] = {
            "task.name": task,
            "task.loss": loss,
            "optim.name": optimizer,
            "schedule.name": scheduler,
        }
        own |= {"augment.transform": transform}
        for name, value in own.items():
            take_as(str(get_field(config, name)), value, ARGUMENTS[name])
        module = module_of_run(config.model.name, module)
        with given_data(data, announcer(console, quiet)) as source:
            refuse_other_data(source, config, "resume", path)
            return _resume(path, module, console, quiet, coordinator)


def refuse_other_data(source: str | None, config: Config, verb: str, run: Path) -> None:
    """Raise DataError where `source` is not the data of the run, which `verb` needs."""
    if source not in (None, config.data.source):
        got = f"data other than those of {run}: {source}"
        raise DataError(f"{verb}, data", got, config.data.source, "give the data of the run, unchanged")


def _resume(path: Path, module: nn.Module | None, console: Console, quiet: bool, coordinator: Coordinator) -> Run:
    started, run, announce = monotonic(), open_run(path), announcer(console, quiet)
    config = config_from_yaml(run.config)
    if is_environment(config.data.source):
        return Run(*resume_on_rewards(path, console, quiet))
    if config.cv is not None:
        return _resume_cross_validation(run, config, module, console, quiet)
    if is_there(run.metrics_json):
        for file in (run.last, run.best):
            if not file.exists():
                raise without_checkpoint(run, file)
            try:
                load(file, module=module)
            except ModelError as error:
                error.remedy = how_to_resume(run.path, config) if given_arguments(config) else error.remedy
                raise
        announce(f"{already_finished(run)}; to train its network further: {further_command(run.path)}")
        metrics = read_metrics(run)
        send_end(coordinator, run.path, metrics)
        return Run(run.path, metrics)
    config, change = resumed_among(config, coordinator.launch)
    with owned(run.path, announce):
        with _disk_explained(run, config):
            checkpoint = recover_unchanged_run(run, announce)
            prepared = prepare(config, module, run=run, checkpoint=checkpoint, announce=announce)
            write_first_files(run, prepared, announce)
            prepared.state.elapsed = monotonic() - started
            if restore(run, prepared, checkpoint):
                done, total = prepared.state.step, prepared.config.budget.steps
                announce(f"continuing {run.path} after step {done:,} of {total:,}")
            else:
                announce(f"{run.path} has no checkpoint yet: starting over")
                run.last.parent.mkdir(exist_ok=True)
                append_event(run, "resumed", step=0)
            if change:
                announce(change)
                append_event(run, "note", text=change)
        if module is not None:
            note_trained(module, run.path)
        send_start(coordinator, run, prepared, checkpoint)
        return _train_to_end(run, prepared, console, quiet, coordinator)


def _train_to_end(
    run: RunDirectory,
    prepared: Prepared,
    console: Console,
    quiet: bool,
    coordinator: Coordinator,
    reader: Reader | None = None,
) -> Run:
    announce, steps = announcer(console, quiet), prepared.config.budget.steps or 0
    if prepared.network_name is None:
        remember_module(run.path, prepared.state.module)
    with _resumable(run, prepared.config), execution_settings(prepared.config):
        watch = time_watch(run, prepared.state, steps, announce)
        together = coordinator.process_group(prepared.state, prepared.config, run.path)
        # Samples in groups tell less than as many others: an interval by samples would be too narrow.
        grouped = any(groups_of(prepared.data, "val"))
        validated = 0 if grouped else watched_count(len(prepared.splits["val"]), prepared.config)
        with (
            progress_reader(console, prepared.task.metrics, quiet, watch, validated) as progress,
            together as processes,
        ):
            readers: list[Reader] = [progress] if watch is None else [watch, progress]
            readers += [] if reader is None else [reader]
            if not processes.several:
                readers.append(SnapshotWriter(run, prepared, watch))
            prepared = run_training(run, prepared, readers, processes)
        metrics = finish_run(run, prepared, announce)
        send_end(coordinator, run.path, metrics)
        return Run(run.path, metrics)


def _reader_calling(on_event: Callable[[Event], None]) -> Reader:
    """The user's function, with UsageError in place of its exceptions."""
    expected = "a function of an event that raises no exception"
    if not callable(on_event):
        raise UsageError("on_event", type_of(on_event), expected, "on_event=print")

    def read(event: Event) -> None:
        try:
            on_event(event)
        except Exception as error:
            got = f"{type(error).__name__}: {reason_of(error)}, at {type(event).__name__}"
            raise UsageError("on_event", got, expected, "correct the function") from error

    return read


def _resume_cross_validation(
    run: RunDirectory, config: Config, module: nn.Module | None, console: Console, quiet: bool
) -> Run:
    """Continue with the next fold, or with those that a finished study has lost; of a complete study read the folds."""
    announce = announcer(console, quiet)
    if is_there(run.metrics_json):
        results = load_folds(run)
        if study_is_complete(config, results):
            announce(f"{run.path} is finished; its {several(len(results), 'fold was', 'folds were')} read")
            return Run(run.path, read_metrics(run))
    with owned(run.path, announce), memory_explained(config):
        refuse_changed_config(run, None)
        cut_incomplete_line(run)
        study = plan_cross_validation(config, module, announce=announce)
        return _cross_validate(run, study, console, quiet)


def _cross_validate(run: RunDirectory, study: CrossValidation, console: Console, quiet: bool) -> Run:
    announce = announcer(console, quiet)
    write_cv_beginning(run, study)
    for note in (*study.notes, *study.findings):
        announce(str(note))
    with _resumable(run, study.config):
        results = run_folds(run, study, announce, None if quiet else console)
        return Run(run.path, finish_cross_validation(run, study, results))


@contextmanager
def _disk_explained(run: RunDirectory, config: Config) -> Iterator[None]:
    """Add to the error of a disk, while a run is resumed, how to resume it again; `--out` is for new runs only."""
    try:
        yield
    except RunError as error:
        if isinstance(error.__cause__, OSError):
            _add_how_to_resume(error, run, config)
        raise


def _add_how_to_resume(error: RunError, run: RunDirectory, config: Config) -> None:
    error.remedy = f"{remedy_in_place(error.remedy)}; then resume with: {how_to_resume(run.path, config)}"


@contextmanager
def _resumable(run: RunDirectory, config: Config) -> Iterator[None]:
    """Add to errors and interruptions how to resume the run."""
    try:
        with memory_explained(config), terminating_interrupts():
            yield
    except RunError as error:  # such as a full disk
        _add_how_to_resume(error, run, config)
        raise
    except Interrupted:
        raise
    except KeyboardInterrupt:  # while finishing: training is over and saved; or before the first step
        refuse_lost_process(launched(), run.path)
        raise Interrupted(run.path, config) from None
