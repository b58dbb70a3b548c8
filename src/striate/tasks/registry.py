"""The tasks by name, including the user's own, and the metrics of all tasks by key."""

from __future__ import annotations

import importlib
import reprlib
from collections.abc import Iterable, Mapping
from copy import copy
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import FunctionType, ModuleType
from typing import Any, cast

from striate.data.annotations.annotation_kinds import KINDS, annotation_kind
from striate.data.dataset import Dataset
from striate.errors import ConfigError, RunError, StriateError, pasted, reason_of
from striate.models.from_file import resolve_name
from striate.models.trusted_code import is_given, names_code, refuse_unnamed_code, trusted_code
from striate.runs.directory import RunDirectory
from striate.runs.predictions import Predictions, read_predictions
from striate.tasks.config import TaskConfig
from striate.tasks.control.play import RETURN, network_line, return_line
from striate.tasks.evaluation import summary_line
from striate.tasks.every import REWARDS, TASKS
from striate.tasks.losses import with_loss
from striate.tasks.metric import LOSS, SILENT_UNITS, Metric, metric_of, one_view
from striate.tasks.task import Task

ENTRY_POINTS = "striate.tasks"
"""The entry-point group under which installed packages register tasks."""


def task_class(name: str) -> type[Task]:
    """The task of this name: one of `TASKS`, one that an installed package registers, `file.py:name`, which RUNS that
    code, or one that was given in Python. Raises RunError for code that the user has not named; ConfigError for an
    unknown name, with the nearest known one."""
    if name in TASKS:
        return _built_in(name)
    if names_code(name):
        return _own(resolve_name(name))
    registered = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name in registered:
        return as_task_class(_loaded(registered[name]), name)
    if name == REWARDS:
        got = f"{name!r} for data that are samples"
        raise ConfigError("task.name", got, "an environment, gym:ID", "striate train gym:striate/Catch-v0")
    known = [*TASKS, *registered]
    near = get_close_matches(name, known, 1, 0.5)
    raise ConfigError(
        "task.name",
        repr(name),
        f"{', '.join(known)}, or file.py:name",
        f"--task {near[0]}" if near else "leave out --task: it follows from the data",
    )


def _loaded(point: EntryPoint) -> object:
    """The object that a package registers. Raises ConfigError where it cannot be imported."""
    try:
        return point.load()
    except Exception as error:  # whatever the package raises while it is imported
        package = "an installed package" if point.dist is None else f"the package {point.dist.name}"
        raise ConfigError(
            "task.name",
            f"{point.name!r}, which {package} registers as {point.value}: {type(error).__name__}: {reason_of(error)}",
            "an entry point that can be imported",
            f"correct its entry point in the group {ENTRY_POINTS}, or update {package}",
        ) from error


@cache
def _built_in(name: str) -> type[Task]:
    module, _, which = TASKS[name].partition(":")
    found: type[Task] = getattr(importlib.import_module(module), which)
    return found


def _own(name: str) -> type[Task]:
    """The class of a user's task; the same for the same name and code."""
    code = trusted_code(name, "a task", "task")
    if name not in _LOADED or _LOADED[name][0] is not code:
        _LOADED[name] = code, as_task_class(code, name)
    return _LOADED[name][1]


_LOADED: dict[str, tuple[object, type[Task]]] = {}


def known_tasks() -> tuple[type[Task], ...]:
    """The built-in tasks, and the user's tasks that were loaded."""
    return (*map(_built_in, TASKS), *(found for _, found in _LOADED.values()))


def as_task_class(given: object, name: str) -> type[Task]:
    """A user's class as a task, which inherits from `Task` what it does not define. A checkpoint refers to it by
    `name`. Raises ConfigError unless `given` is a class that defines the loss and the outputs, and whose metrics and
    annotation, where it has any, are what they have to be."""
    if not isinstance(given, type):
        return _of_instance(given, name)
    for part in ("outputs", "loss_sum"):
        if getattr(given, part, None) is None or getattr(given, part) is getattr(Task, part):
            raise ConfigError(
                "task.name",
                f"{name}, whose class {given.__name__} does not define `{part}`",
                "a class with `outputs` (the number of outputs of the network) and `loss_sum(outputs, targets)`",
                "define both, or subclass a task that has them: from striate.tasks.classify.task import Classify",
            )
    # Tables of every later run read the metrics of all tasks that were loaded.
    metrics = getattr(given, "metrics", Task.metrics)
    if not isinstance(metrics, tuple | list) or not metrics or not all(isinstance(one, Metric) for one in metrics):
        got = f"{name}, whose class {given.__name__} has metrics = {reprlib.repr(metrics)}"
        remedy = 'metrics = (striate.Metric("error", higher_is_better=False),), with the comma that makes it a tuple'
        raise ConfigError("task.name", got, "a tuple of striate.Metric, the headline first", remedy)
    kind = getattr(given, "annotation", Task.annotation)
    if kind not in KINDS:
        near = get_close_matches(str(kind), KINDS, 1)
        got = f"{name}, whose class {given.__name__} has annotation = {reprlib.repr(kind)}"
        remedy = f'annotation = "{near[0] if near else Task.annotation}"'
        raise ConfigError("task.name", got, f"one of {', '.join(KINDS)}", remedy)
    bases = (given,) if issubclass(given, Task) else (given, Task)
    return type(given.__name__, bases, {"name": name, "__module__": given.__module__, "__doc__": given.__doc__})


def _of_instance(given: object, name: str) -> type[Task]:
    """The class of a task instance: `make` and `from_state` return a copy of the instance."""
    if isinstance(given, FunctionType | ModuleType | str | int):
        raise ConfigError("task.name", f"{name}, a {type(given).__name__}", "a class", "class MyTask(striate.Task): …")
    found = as_task_class(type(given), name)

    def copied(*_: object) -> Task:
        task = copy(given)
        object.__setattr__(task, "__class__", found)
        return cast(Task, task)

    return type(found.__name__, (found,), {"make": copied, "from_state": copied, "__module__": found.__module__})


def task_for(data: Dataset, config: TaskConfig) -> type[Task]:
    """The requested task, or the one that reads the annotations of the data. Raises ConfigError where the requested
    task cannot read them."""
    if config.name == "auto":
        return next(found for found in map(_built_in, TASKS) if found.annotation == data.annotation)
    found = task_class(config.name)
    if found.annotation != data.annotation:
        fitting = next(name for name in TASKS if _built_in(name).annotation == data.annotation)
        raise ConfigError(
            "task.name",
            f"{config.name!r} for {data.name}, whose targets are {annotation_kind(data.annotation).word}",
            f"{fitting!r}",
            f"leave the task out, or give --task {fitting}",
        )
    return found


def annotation_for(config: TaskConfig) -> str | None:
    """The kind of annotation that the requested task reads; None where the data decide the task."""
    return None if config.name == "auto" else task_class(config.name).annotation


def make_task(data: Dataset, config: TaskConfig) -> Task:
    """The requested task, or the one that reads the annotations of the data. Raises ConfigError for a loss of another
    task, DataError."""
    found = task_for(data, config)
    own = names_code(config.loss)
    loss = found.losses[0] if own or config.loss == "auto" else config.loss
    if loss not in found.losses:
        near = get_close_matches(loss, found.losses, 1)
        raise ConfigError(
            "task.loss",
            repr(loss),
            f"for {found.name}: {' or '.join(found.losses)}; or file.py:name",
            f"--task.loss {near[0]}" if near else "leave out --task.loss",
        )
    task = found.make(data, config, loss)
    return with_loss(task, resolve_name(config.loss)) if own else task


def task_to_state(task: Task) -> dict[str, Any]:
    """Plain values for a checkpoint, from which `task_from_state` restores the task."""
    own = {"own_loss": task.own_loss} if task.own_loss else {}
    return {"name": task.name, **own, **task.state()}


def task_of_run(name: str, where: str) -> type[Task]:
    """The task that a file of a run names. Raises RunError for an unknown task, and for code that the user has not
    named."""
    refuse_unnamed_code(name, "a task", where)
    if is_given(name):
        return task_class(name)
    try:
        return task_class(name)
    except StriateError as error:
        raise RunError(
            where,
            f"the task {name!r}: {error.got}",
            f"{', '.join(TASKS)}, or your own task, whose file exists",
            "use the version of striate that trained this run, or put the file back",
        ) from None


def task_from_state(state: Mapping[str, Any], where: str) -> Task:
    """The task from the state that `task_to_state` returned. Raises RunError for an unknown task, and for code that the
    user has not named."""
    found = task_of_run(str(state.get("name")), where)
    task = found.from_state({key: value for key, value in state.items() if key not in ("name", "own_loss")})
    loss = state.get("own_loss")
    return task if loss is None else with_loss(task, str(loss))


def known_metrics() -> tuple[Metric, ...]:
    """Every metric that a table may show, in its order."""
    found: dict[str, Metric] = {}
    for task in known_tasks():
        first, *others = task.metrics
        for metric in (first, one_view(first), *others):
            if metric.key not in (LOSS.key, one_view(LOSS).key):
                found.setdefault(metric.key, metric)
    return (*found.values(), RETURN, LOSS, SILENT_UNITS)


def metric_named(key: str, beside: Iterable[str] = ()) -> Metric:
    """The metric of this key; for a key that no task lists, one made from the key. Where several tasks list it, that of
    the task that lists most of the keys `beside` it."""
    return metric_of((*known_metrics(), *_metrics_among(beside)), key)


def is_known(key: str) -> bool:
    """Whether a task lists a metric of this key."""
    return any(metric.key == key for metric in known_metrics())


def metric_text(key: str, mean: float | None, std: float | None = None) -> str:
    """A value of the metric as text, with its standard deviation where there is one."""
    return metric_named(key).text(mean, std)


def split_line(metrics: Mapping[str, Any]) -> str:
    """The metrics of one split of metrics.json on one line."""
    if "return_interval" in metrics:
        return return_line(metrics)
    return summary_line(metrics, _metrics_among(metrics))


def network_note(metrics: Mapping[str, Any]) -> str:
    """Which network each split of metrics.json belongs to, where that differs between splits; else empty."""
    return network_line(metrics) if "return_interval" in metrics.get("test", {}) else ""


def _metrics_among(keys: Iterable[str]) -> tuple[Metric, ...]:
    """The metrics of the task whose keys these keys of metrics.json are; empty where no task has them."""
    keys = set(keys)
    fitting = [task for task in known_tasks() if task.metrics[0].key in keys]
    # The metrics of one task may be a subset of another's.
    most = max(fitting, key=lambda task: sum(metric.key in keys for metric in task.metrics), default=None)
    return () if most is None else most.metrics


def saved_predictions(run: RunDirectory, split: str) -> Predictions | None:
    """As `read_predictions`; also raises RunError for an unknown task, and for predictions that do not have the form of
    the task's."""
    saved = read_predictions(run, split)
    if saved is None or task_of_run(saved.task, str(run.path)).accepts_saved(saved):
        return saved
    raise RunError(
        str(run.predictions / f"{split}.npz"),
        f"damaged (a task {saved.task[:40]!r} with predictions of another task)",
        "the predictions as striate wrote them",
        f"remove it, then: striate eval {pasted(run.path)}",
    )
