"""What the processes after the first do: train their part, and leave files and screen to the first."""

from __future__ import annotations

from striate.runs.directory import RunDirectory
from striate.training.events import EpochDone
from striate.training.interruption import Interrupted, watch_signals
from striate.training.loop import training_events
from striate.training.prepare import Prepared
from striate.training.processes.group import Processes
from striate.training.processes.sharding import gathered


def follow_training(run: RunDirectory, prepared: Prepared, processes: Processes) -> None:
    """Take part in training to its end, or to the first signal. Raises Interrupted, NonFiniteLoss."""
    with watch_signals(quiet=True) as asked:
        for event in training_events(
            prepared.state, prepared.objective, prepared.splits, prepared.config, prepared.normalize, processes
        ):
            stop, due = processes.agreed(asked.signal_name)
            if processes.sharded and (stop or due or isinstance(event, EpochDone)):
                gathered(prepared.state)  # for the first one, which saves it
            if stop:
                raise Interrupted(run.path, stop)
