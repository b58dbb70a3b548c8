"""The processes of one training after the first: they do what it has decided, and their training ends as its does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from striate.models.build import module_of_run
from striate.runs.directory import RunDirectory
from striate.training.config_file import config_from_dict, config_to_dict
from striate.training.events import EpochDone
from striate.training.execution import execution_settings, memory_explained
from striate.training.interruption import Interrupted, watch_signals
from striate.training.loop import training_events
from striate.training.prepare import Prepared, prepare
from striate.training.processes.coordination import Coordinator
from striate.training.processes.group import Processes
from striate.training.processes.sharding import gathered

_BEGUN, _ENDED = "begun", "ended"


def tell_beginning(coordinator: Coordinator, run: RunDirectory, prepared: Prepared, begun: Path | None = None) -> None:
    """Tell the others what was decided; `begun` is the checkpoint that the run goes on from."""
    told = {
        "run": str(run.path.absolute()),
        "config": config_to_dict(prepared.config),
        "begun": None if begun is None else str(begun.absolute()),
    }
    coordinator.publish(_BEGUN, json.dumps(told))


def tell_end(coordinator: Coordinator, path: Path, metrics: dict[str, Any]) -> None:
    """Tell the others that the run at `path` is complete."""
    coordinator.publish(_ENDED, json.dumps({"run": str(path.absolute()), "metrics": metrics}))


def follow_run(
    coordinator: Coordinator, module: nn.Module | Callable[..., nn.Module] | None
) -> tuple[Path, dict[str, Any]]:
    """Take part in the run that the first process begins, if it begins one; its path and metrics.json once it is
    complete. Raises StriateError, Interrupted."""
    told = json.loads(coordinator.wait_for(_BEGUN, _ENDED))
    if "config" in told:
        config = config_from_dict(told["config"], "the first process")
        checkpoint = None if told["begun"] is None else Path(told["begun"])
        with memory_explained(config):
            prepared = prepare(config, module_of_run(config.model.name, module), checkpoint=checkpoint)
            run = RunDirectory(Path(told["run"]))
            with (
                execution_settings(prepared.config),
                coordinator.process_group(prepared.state, prepared.config, run.path) as processes,
            ):
                _follow_training(run, prepared, processes)
    ended = json.loads(coordinator.wait_for(_ENDED))
    return Path(ended["run"]), ended["metrics"]


def _follow_training(run: RunDirectory, prepared: Prepared, processes: Processes) -> None:
    """Train this process's part to the end, or to the first signal; files and screen are left to the first process.
    Raises Interrupted, NonFiniteLoss."""
    with watch_signals(quiet=True) as asked:
        for event in training_events(
            prepared.state, prepared.objective, prepared.splits, prepared.config, prepared.normalize, processes
        ):
            stop, due = processes.agreed(asked.signal_name)
            if processes.sharded and (stop or due or isinstance(event, EpochDone)):
                gathered(prepared.state)  # for the first one, which saves it
            if stop:
                raise Interrupted(run.path, prepared.config, stop)
