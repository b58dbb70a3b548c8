"""Act: run the loop and keep the run directory true while it goes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from striate.account.signal.trace import signal_to_json
from striate.errors import NonFiniteLoss, RunError, pasted
from striate.runs.checkpoint import load_checkpoint, save_checkpoint
from striate.runs.directory import RunDirectory, csv_text, open_run, read_seen, write_splits
from striate.runs.environment import describe_environment
from striate.runs.files import append_text, finite, write_json, write_text
from striate.training.config_file import config_to_yaml
from striate.training.events import EpochDone, EpochRow, Event
from striate.training.forecast_file import write_forecast
from striate.training.interruption import Interrupted, watch_signals
from striate.training.loop import training_events
from striate.training.nonfinite import refuse_nonfinite_weights
from striate.training.patience import training_is_over
from striate.training.prepare import Prepared

_SAVE_EVERY = 2.0  # seconds at least between two checkpoints: a table's epoch takes milliseconds
_SAVE_SHARE = 0.02  # of the time at most: a large network on a slow disk takes seconds to save

Reader = Callable[[Event], None]


def write_beginning(run: RunDirectory, prepared: Prepared) -> None:
    """The files that are known before the first step, config.yaml first; those that are there stay as they are, so
    that a run killed among them can go on. Raises RunError."""
    if not run.config.exists():
        write_text(run.config, config_to_yaml(prepared.config))
    if not run.events.exists():
        for note in prepared.notes:
            append_event(run, "note", text=note)
        for finding in prepared.findings:
            append_event(run, "finding", **finding.to_json())
    if not run.classes.exists():
        write_text(run.classes, "".join(f"{name}\n" for name in prepared.data.classes))
    if not run.split.exists():
        write_splits(run, prepared.data.rows)
    if not run.seen.exists():
        write_text(run.seen, "".join(f"{digest}\n" for digest in _seen(prepared)))
    if not run.environment.exists():
        write_json(run.environment, describe_environment())
    write_forecast(run, prepared.forecast, prepared.pace)
    if prepared.plan is not None and not run.plan.exists():
        write_json(run.plan, prepared.plan.to_json())
    if prepared.signal and not run.signal.exists():
        write_json(run.signal, {"start": signal_to_json(prepared.signal)})


def _seen(prepared: Prepared) -> list[str]:
    """Digests of the samples that the network learns from or is chosen by, and of those that its weights have: what a
    run behind them has seen, with all before it."""
    contents, weights = prepared.data.contents, prepared.config.model.weights
    own = [digest for name in ("train", "val") for digest in contents[name]]
    try:
        earlier = frozenset() if weights is None else read_seen(open_run(Path(weights)))
    except RunError:  # a file of weights that is of no run
        earlier = frozenset()
    return own + sorted(earlier.difference(own))


def append_event(run: RunDirectory, event: str, **fields: Any) -> None:
    """Append one JSON line to events.jsonl, in one write."""
    record = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **finite(fields)}
    append_text(run.events, json.dumps(record, ensure_ascii=False) + "\n")


def restore(run: RunDirectory, prepared: Prepared) -> bool:
    """Take up the run's last checkpoint; False when there is none yet. Raises RunError when it does not fit."""
    if not run.last.exists():
        return False
    saved = load_checkpoint(run.last, prepared.device)
    try:
        prepared.state.restore(saved)
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise RunError(
            str(run.last),
            f"a checkpoint that does not fit: {reason}",
            "that of this run",
            f"train anew: --config {pasted(run.config)}",
        ) from None
    if training_is_over(prepared.state.history, prepared.task, prepared.config.budget):
        prepared.state.elapsed = saved.get("elapsed", 0.0)  # what comes now is no part of how long it took
    append_event(run, "resumed", step=prepared.state.step)
    return True


def run_training(run: RunDirectory, prepared: Prepared, readers: Iterable[Reader] = ()) -> None:
    """Train to the end of the budget, or to the first signal. Raises Interrupted, NonFiniteLoss, RunError."""
    readers, state = tuple(readers), prepared.state
    _write_history(run, state.history)
    next_save, best_unsaved, begun = monotonic() + _SAVE_EVERY, None, monotonic() - state.elapsed
    with watch_signals() as asked:
        events = training_events(state, prepared.objective, prepared.splits, prepared.config, prepared.normalize)
        try:
            for event in events:
                state.elapsed = monotonic() - begun
                for reader in readers:
                    reader(event)
                if isinstance(event, EpochDone):
                    _append_row(run, event.row)
                    append_event(run, "epoch", **event.row.flat(), elapsed=round(state.elapsed, 3))
                    if event.best:
                        best_unsaved = _best_checkpoint(prepared)
                finished = isinstance(event, EpochDone) and event.finished
                if finished or monotonic() > next_save:
                    started = monotonic()
                    save(run, prepared, best_unsaved)
                    cost = monotonic() - started
                    next_save, best_unsaved = monotonic() + max(_SAVE_EVERY, cost / _SAVE_SHARE), None
                if asked.signal_name:
                    save(run, prepared, best_unsaved)
                    append_event(run, "interrupted", step=state.step, signal=asked.signal_name)
                    raise Interrupted(run.path, asked.signal_name)
        except NonFiniteLoss as error:
            append_event(run, "non-finite", **error.to_json())
            raise


def save(run: RunDirectory, prepared: Prepared, best: dict[str, Any] | None) -> None:
    """Write the checkpoints; the best one first, so that last.pt never speaks of a best that is not on disk.

    Raises NonFiniteLoss instead of saving a network that is not finite.
    """
    state = prepared.state
    refuse_nonfinite_weights(state.module, state.step, state.optimizer.param_groups[-1]["lr"])
    if best is not None:
        save_checkpoint(run.best, best)
    save_checkpoint(run.last, prepared.checkpoint())


def _best_checkpoint(prepared: Prepared) -> dict[str, Any]:
    """A copy of the network as it is now, without what only training needs: training goes on in the original."""
    content = {key: value for key, value in prepared.checkpoint().items() if key not in ("optimizer", "auxiliary")}
    weights = {key: content[key] for key in ("model", "ema") if key in content}
    return content | {key: {name: t.clone() for name, t in tensors.items()} for key, tensors in weights.items()}


def _write_history(run: RunDirectory, history: list[EpochRow]) -> None:
    """metrics.csv as the state knows it: rows after the checkpoint that a resumed run took up are dropped."""
    rows = [row.flat() for row in history]
    write_text(run.metrics_csv, csv_text(list(rows[0]), [list(r.values()) for r in rows]) if rows else "")


def _append_row(run: RunDirectory, row: EpochRow) -> None:
    flat = row.flat()
    text = csv_text(list(flat), [list(flat.values())])
    if run.metrics_csv.stat().st_size:
        text = text.split("\n", 1)[1]
    append_text(run.metrics_csv, text)
