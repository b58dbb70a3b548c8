"""The further processes of a training: they follow what the first process decides, and end when it ends."""

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


def send_start(coordinator: Coordinator, run: RunDirectory, prepared: Prepared, checkpoint: Path | None = None) -> None:
    """Send the other processes what was decided; `checkpoint` is the one that the run continues from."""
    message = {
        "run": str(run.path.absolute()),
        "config": config_to_dict(prepared.config),
        "begun": None if checkpoint is None else str(checkpoint.absolute()),
    }
    coordinator.publish(_BEGUN, json.dumps(message))


def send_end(coordinator: Coordinator, path: Path, metrics: dict[str, Any]) -> None:
    """Send the other processes the metrics of the run at `path`, which is complete."""
    coordinator.publish(_ENDED, json.dumps({"run": str(path.absolute()), "metrics": metrics}))


def follow_run(
    coordinator: Coordinator, module: nn.Module | Callable[..., nn.Module] | None
) -> tuple[Path, dict[str, Any]]:
    """Take part in the run of the first process, if it trains one; the run's path and metrics.json once it is complete.
    Raises StriateError, Interrupted."""
    message = json.loads(coordinator.wait_for(_BEGUN, _ENDED))
    if "config" in message:
        config = config_from_dict(message["config"], "the first process")
        checkpoint = None if message["begun"] is None else Path(message["begun"])
        with memory_explained(config):
            prepared = prepare(config, module_of_run(config.model.name, module), checkpoint=checkpoint)
            run = RunDirectory(Path(message["run"]))
            with (
                execution_settings(prepared.config),
                coordinator.process_group(prepared.state, prepared.config, run.path) as processes,
            ):
                _follow_training(run, prepared, processes)
    ended = json.loads(coordinator.wait_for(_ENDED))
    return Path(ended["run"]), ended["metrics"]


def _follow_training(run: RunDirectory, prepared: Prepared, processes: Processes) -> None:
    """Train this process's part to the end, or to the first signal; the first process alone writes files and progress.
    Raises Interrupted, NonFiniteLoss."""
    with watch_signals(quiet=True) as interruption:
        for event in training_events(
            prepared.state, prepared.objective, prepared.splits, prepared.config, prepared.normalize, processes
        ):
            stop, due = processes.agreed(interruption.signal_name)
            if processes.sharded and (stop or due or isinstance(event, EpochDone)):
                gathered(prepared.state)  # for the first process, which saves it
            if stop:
                raise Interrupted(run.path, prepared.config, stop)
