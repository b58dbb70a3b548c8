"""striate as a contender: a run as `striate train` makes it, its epochs (or parts of them) one turn each."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from common.contender import Contender
from common.gate import Gate, wait_for_gpu


class Turns:
    """A reader of a run's events that ends a turn after each epoch, or after `per_turn` samples, and waits for the
    next. Time counts up to the last step: validation is left out, as with all contenders, and what is done between
    two epochs otherwise (a checkpoint, a row in a file) counts."""

    state: Any = None
    """The training's, once there is one: it knows how long the epoch's steps have waited for data."""

    def __init__(self, gate: Gate, per_turn: int | None) -> None:
        self._gate, self._per_turn = gate, per_turn
        self._waited = 0.0
        self._samples, self._left_out = 0, 0.0
        self._began = self._last = perf_counter()

    def begin(self) -> None:
        """Wait for the next turn."""
        self._gate.begin()
        self._samples, self._left_out = 0, 0.0
        self._began = self._last = perf_counter()

    def __call__(self, event: Any) -> None:
        """Read one event: StepDone or EpochDone."""
        over = hasattr(event, "row") or (self._per_turn is not None and self._samples + event.samples >= self._per_turn)
        on_gpu = over and wait_for_gpu()
        now = perf_counter()
        if hasattr(event, "row"):
            if not on_gpu:  # there steps end in the middle of it
                self._left_out += now - self._last  # validation
            self._last = now
            if self._per_turn is None:
                row = event.row
                self._end(loss=row.train.get("loss"), data_wait=row.data_wait, augment_share=row.augment_share)
            self._waited = 0.0  # the state begins a new epoch
            return
        self._samples += event.samples
        self._last = now
        if self._per_turn is not None and self._samples >= self._per_turn:
            waited, self._waited = self.state.epoch_wait - self._waited, self.state.epoch_wait
            self._end(data_wait=max(0.0, waited) / (now - self._began))

    def _end(self, **facts: Any) -> None:
        self._gate.end(self._samples, self._last - self._began - self._left_out, **facts)
        self.begin()


def striate_training(
    gate: Gate,
    *,
    data: str,
    fields: dict[str, Any],
    epochs: int,
    size: int | None = None,
    per_turn: int | None = None,
    everything: bool = False,
) -> None:
    """Train on `data` for `epochs` with the configuration `fields`, in the settings of the program, with nothing
    kept from earlier runs.

    `everything`: the first turn begins before the data are read, so that it holds reading, planning and preparing too;
    otherwise it begins with the first step.
    """
    from striate.machine.allocator import keep_by_default
    from striate.machine.waiting import share_the_cores
    from striate.runs.directory import create_run
    from striate.runs.lock import owned
    from striate.training.execution import execution_settings
    from striate.training.first_files import write_first_files
    from striate.training.prepare import prepare
    from striate.training.request import merge_request, read_config
    from striate.training.session import run_training

    keep_by_default()
    share_the_cores()
    turns = Turns(gate, per_turn)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        # A plan of an earlier run may have been made while the machine was busy.
        os.environ.setdefault("STRIATE_CACHE", folder + "/cache")
        if everything:
            turns.begin()
        prepared = prepare(merge_request(read_config(None), data=data, epochs=epochs, size=size, fields=fields))
        execution = asdict(prepared.config.execution)
        notes = [note for note in prepared.notes if "plain fp32" in note or "plan" in note]
        gate.say(precision=execution["precision"] or "fp32", execution=execution, notes=notes)
        turns.state = prepared.state
        gate.say(train_samples=len(prepared.data.splits["train"]))
        run = create_run(Path(folder) / "run", "run")
        write_first_files(run, prepared)
        stack.enter_context(owned(run.path))
        stack.enter_context(execution_settings(prepared.config))
        if not everything:
            turns.begin()
        run_training(run, prepared, [turns])


def striate_contender(name: str, **options: Any) -> Contender:
    """The contender; a workload that uses it imports `striate_training`."""
    return Contender(name, "striate_training", options, ours=True)
