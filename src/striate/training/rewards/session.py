"""Act: run the loop that learns from rewards, and keep the run directory up to date meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic
from typing import Any

from striate.errors import NonFiniteLoss, pasted
from striate.runs.checkpoint import fitting, load_checkpoint
from striate.runs.directory import RunDirectory, append_row, csv_of
from striate.runs.environment import describe_environment
from striate.runs.events import append_event, event_line, note_files, noted_files
from striate.runs.files import append_text, write_json, write_text
from striate.runs.plain_files import is_there
from striate.training.config_file import config_to_dict, config_to_yaml
from striate.training.interruption import Interrupted
from striate.training.rewards.decide import PreparedLearner
from striate.training.rewards.loop import RewardEpochDone, RewardEvent, RewardState, reward_events
from striate.training.saving import Saver
from striate.training.session import saved_at_the_end

RewardReader = Callable[[RewardEvent], None]


def write_beginning(run: RunDirectory, prepared: PreparedLearner) -> None:
    """The files that are known before the first step, config.yaml first; classes.txt names the actions."""
    if not is_there(run.config):
        write_text(run.config, config_to_yaml(prepared.config))
    if not is_there(run.events) or not run.events.stat().st_size:
        append_text(run.events, "".join(event_line("note", text=note) for note in prepared.notes))
    if not is_there(run.classes):
        write_text(run.classes, "".join(f"{action}\n" for action in prepared.game.actions))
    if not is_there(run.environment):
        write_json(run.environment, _environment())
    noted = noted_files(run)
    note_files(run, [file for file in (run.config, run.classes, run.environment) if file.name not in noted])


def _environment() -> dict[str, Any]:
    """Machine and versions, also those of the packages of games: another version may play differently."""
    known = describe_environment()
    for name in ("gymnasium", "minatar", "ale-py"):
        with suppress(PackageNotFoundError):
            known["packages"][name] = version(name)
    return known


def restore_rewards(state: RewardState, checkpoint: Path) -> None:
    """Load the checkpoint. Raises RunError where it does not fit."""
    saved = load_checkpoint(checkpoint)
    with fitting(checkpoint):
        state.restore(saved)


def run_rewards(
    run: RunDirectory, prepared: PreparedLearner, state: RewardState, readers: Iterable[RewardReader] = ()
) -> None:
    """Train to the end, or to the first signal, with the last state saved. Raises Interrupted, NonFiniteLoss,
    RunError."""
    saver, readers = Saver(run, prepared.config.save_seconds), tuple(readers)
    write_text(run.metrics_csv, csv_of(state.history))
    with saved_at_the_end(run, prepared.config, saver) as interruption:
        try:
            begun, best = monotonic() - state.elapsed, None
            for event in reward_events(state, prepared.config):
                state.elapsed = monotonic() - begun
                for reader in readers:
                    reader(event)
                over = isinstance(event, RewardEpochDone)
                if isinstance(event, RewardEpochDone):
                    append_row(run.metrics_csv, event.row, lambda: state.history)
                    append_event(run, "epoch", **event.row, elapsed=round(state.elapsed, 3))
                    best = network_content(prepared, state) if event.best else best
                stop = interruption.signal_name
                if stop or saver.due(epoch_over=over) or (isinstance(event, RewardEpochDone) and event.finished):
                    saver.save(checkpoint_content(prepared, state), best)
                    best = None
                if stop:
                    saver.wait()
                    append_event(run, "interrupted", step=state.learner.step, signal=stop)
                    raise Interrupted(run.path, prepared.config, stop)
        except NonFiniteLoss as error:
            error.remedy = f"{error.remedy} {(prepared.config.optim.lr or 0) / 4:g}, from {pasted(run.config)}"
            raise


def checkpoint_content(prepared: PreparedLearner, state: RewardState) -> dict[str, Any]:
    """Everything that resuming and playing need."""
    return state.to_dict() | _described(prepared)


def network_content(prepared: PreparedLearner, state: RewardState) -> dict[str, Any]:
    """A copy of the network as it is now: what playing needs."""
    weights = {name: tensor.detach().cpu().clone() for name, tensor in state.learner.module.state_dict().items()}
    return {"model": weights, "step": state.learner.step} | _described(prepared)


def _described(prepared: PreparedLearner) -> dict[str, Any]:
    game = {"source": prepared.game.source, "actions": list(prepared.game.actions)}
    return {"config": config_to_dict(prepared.config), "network": prepared.network, "game": game}
