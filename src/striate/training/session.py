"""Act: run the loop, and keep the run directory up to date meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

from striate.errors import DataError, NonFiniteLoss, RunError
from striate.runs.checkpoint import check_archive, fitting, load_checkpoint
from striate.runs.directory import RunDirectory, append_row, csv_of
from striate.runs.events import append_event
from striate.runs.files import write_text
from striate.training.code_fields import how_to_resume
from striate.training.config import Config
from striate.training.config_file import config_from_yaml, config_to_dict
from striate.training.early_stop import training_is_over
from striate.training.events import ConfigChanged, EpochDone, EpochRow, Event, StepDone, StepsChanged
from striate.training.first_files import change_config
from striate.training.interruption import Interrupted, Interruption, watch_signals
from striate.training.loop import training_events
from striate.training.nonfinite.detect import refuse_nonfinite_state
from striate.training.prepare import Prepared
from striate.training.processes.group import ALONE, Processes
from striate.training.processes.sharding import gathered
from striate.training.saving import Saver, Trace
from striate.training.step_losses import StepLosses

Reader = Callable[[Event], None]


def restore(run: RunDirectory, prepared: Prepared, checkpoint: Path | None) -> bool:
    """Load a checkpoint; False where there is none yet. Raises RunError where it does not fit, or where its best
    network is missing."""
    if checkpoint is None:
        return False
    saved = load_checkpoint(checkpoint, prepared.device)
    with fitting(checkpoint):
        prepared.state.restore(saved)
    if prepared.state.history:
        _refuse_lost_best(run)
    if training_is_over(prepared.state.history, prepared.task, prepared.config.budget):
        prepared.state.elapsed = saved["elapsed"]  # the rest of this command is not training time
    append_event(run, "resumed", step=prepared.state.step)
    return True


def _refuse_lost_best(run: RunDirectory) -> None:
    """Raise RunError where best.pt is damaged or missing: the result would be lost, so the user should know now."""
    try:
        check_archive(run.best)
    except RunError as error:
        error.expected = "the intact network of the best epoch so far"
        raise


def run_training(
    run: RunDirectory, prepared: Prepared, readers: Iterable[Reader] = (), processes: Processes = ALONE
) -> Prepared:
    """Train to the end of the budget, or to the first signal; the last state is saved. The caller owns the run
    (`striate.runs.lock`). Returns `prepared` with the final configuration, which changes where memory runs out. Raises
    Interrupted, NonFiniteLoss, RunError, DataError."""
    state, saver = prepared.state, Saver(run, prepared.config.save_seconds)
    _write_history(run, state.history)
    with saved_at_the_end(run, prepared.config, saver) as interruption:
        config = _follow(run, prepared, tuple(readers), saver, interruption, processes)
    return replace(prepared, config=config)


@contextmanager
def saved_at_the_end(run: RunDirectory, config: Config, saver: Saver) -> Iterator[Interruption]:
    """Watches for signals while a loop runs, and waits until its checkpoints are on disk, however it ends. A second
    signal gives up the checkpoint that is being written. NaN and Inf are noted in events.jsonl. Raises Interrupted."""
    with watch_signals() as interruption:
        try:
            yield interruption
            saver.wait()
        except Interrupted:
            raise
        except KeyboardInterrupt:
            saver.give_up()
            raise Interrupted(run.path, config, interruption.signal_name or "interrupted", at_once=True) from None
        except NonFiniteLoss as error:
            append_event(run, "non-finite", **error.to_json())
            raise
        finally:
            saver.wait()


def _follow(
    run: RunDirectory,
    prepared: Prepared,
    readers: tuple[Reader, ...],
    saver: Saver,
    interruption: Interruption,
    processes: Processes,
) -> Config:
    """Write down the events of the loop, and save in time. Returns the final configuration."""
    state, config, best, trace = prepared.state, prepared.config, None, Trace(prepared.state.step)
    written = config_from_yaml(run.config)  # a resumed run keeps it, also with other processes
    begun, losses = monotonic() - state.elapsed, StepLosses()
    events = training_events(
        state, prepared.objective, prepared.splits, config, prepared.normalize, processes, prepared.deadline
    )
    with _data_lost(run, config, lambda: None if processes.sharded else save(saver, prepared, written, best, trace)):
        for event in events:
            state.elapsed = monotonic() - begun
            over = isinstance(event, EpochDone)
            stop, due = processes.agreed(interruption.signal_name, saver.due(epoch_over=over))
            if processes.sharded:
                state.gathered = gathered(state) if stop or due or over else None
            for reader in readers:
                reader(event)
            if isinstance(event, EpochDone):
                append_row(run.metrics_csv, event.row.flat(), lambda: [row.flat() for row in state.history])
                append_event(run, "epoch", **event.row.flat(), elapsed=round(state.elapsed, 3), **losses.taken(event))
                best = _best_checkpoint(prepared) if event.best else best
            elif isinstance(event, ConfigChanged):
                config = written = event.config  # written before any checkpoint of what it changes
                change_config(run, config)
                _note_change(run, event)
            elif not processes.sharded:
                trace.add(event.step, event.loss, state.module)
            if isinstance(event, StepDone):
                losses.add(event)
            finished = isinstance(event, EpochDone) and event.finished
            if finished or stop or due:
                save(saver, prepared, written, best, trace)
                best, trace = None, Trace(state.step)
            if stop:
                saver.wait()
                append_event(run, "interrupted", step=state.step, signal=stop)
                raise Interrupted(run.path, prepared.config, stop)
    return config


def _note_change(run: RunDirectory, changed: ConfigChanged) -> None:
    if isinstance(changed, StepsChanged):
        append_event(run, "steps-changed", step=changed.step, before=changed.before, steps=changed.steps)
    else:
        append_event(run, "note", text=str(changed))


@contextmanager
def _data_lost(run: RunDirectory, config: Config, save_now: Callable[[], None]) -> Iterator[None]:
    """Save the state where a file of the data cannot be read any more: between two steps the state is complete."""
    try:
        yield
    except DataError as error:
        save_now()
        append_event(run, "data-lost", **error.to_json())
        error.remedy = f"restore the file; everything up to here is saved: {how_to_resume(run.path, config)}"
        raise


def save(saver: Saver, prepared: Prepared, written: Config, best: dict[str, Any] | None, trace: Trace) -> None:
    """Begin to write the checkpoints; `written` is the configuration in config.yaml. Raises NonFiniteLoss rather than
    saving a network with NaN or Inf; RunError where the last checkpoints could not be written."""
    state = prepared.state
    if state.gathered is None:
        refuse_nonfinite_state(state)
    saver.save(prepared.checkpoint() | {"config": config_to_dict(written), "trace": trace.to_dict()}, best)


def _best_checkpoint(prepared: Prepared) -> dict[str, Any]:
    """A copy of the network as it is now, without what only training needs."""
    content = {key: value for key, value in prepared.checkpoint().items() if key not in ("optimizer", "auxiliary")}
    weights = {key: content[key] for key in ("model", "ema") if key in content}
    return content | {key: {name: t.clone() for name, t in tensors.items()} for key, tensors in weights.items()}


def _write_history(run: RunDirectory, history: list[EpochRow]) -> None:
    """Write metrics.csv from the state: rows after the checkpoint that a run is resumed from are dropped."""
    write_text(run.metrics_csv, csv_of([row.flat() for row in history]))
