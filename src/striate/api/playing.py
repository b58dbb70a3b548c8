"""Networks that learn from rewards: train them, resume their training, evaluate them, and record episodes as a film."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from rich.console import Console
from torch import nn

from striate.api.announcing import Announce, announcer
from striate.errors import RunError, UsageError, pasted
from striate.exporting.exported_file import is_exported
from striate.report.rewards import MILLISECONDS, finish_rewards
from striate.runs.directory import (
    RunDirectory,
    RunPath,
    create_run,
    open_run,
    path_of_run,
    read_metrics,
    refuse_occupied,
)
from striate.runs.events import already_finished, append_event
from striate.runs.lock import owned
from striate.runs.plain_files import is_there
from striate.tasks.control.play import Played, play_episodes, split_seed
from striate.tasks.control.show import MOST_FRAMES, filmed
from striate.training.config import Config
from striate.training.config_file import config_from_yaml
from striate.training.execution import execution_settings
from striate.training.first_files import recover_unchanged_run
from striate.training.interruption import terminating_interrupts
from striate.training.processes.launch import launched
from striate.training.rewards.decide import PreparedLearner, prepare_rewards
from striate.training.rewards.loop import RewardEpochDone, RewardEvent, RewardState
from striate.training.rewards.player import Player, load_player
from striate.training.rewards.session import restore_rewards, run_rewards, write_beginning
from striate.visualize.film import write_film
from striate.wording import number, percent, short_number

_PLAIN_EVERY = 2.0  # seconds


def train_on_rewards(
    config: Config, module: nn.Module | None, out: Path | None, console: Console, quiet: bool, started: float
) -> tuple[Path, dict[str, Any]]:
    """Train on an environment; the run and its metrics.json. `started`: the time of the user's request, by
    `monotonic`."""
    if launched().several:
        remedy = f"without torchrun: striate train {pasted(config.data.source)}"
        raise UsageError("torchrun", "several processes", "one process, which plays all environments", remedy)
    if out is not None:
        refuse_occupied(out)
    prepared = prepare_rewards(config, module, spent=lambda: monotonic() - started)
    announce = announcer(console, quiet)
    run = create_run(out, f"{prepared.game.source.rpartition('/')[2]}-{prepared.config.task.control.algorithm}")
    with owned(run.path, announce):
        refuse_occupied(run.path)
        write_beginning(run, prepared)
        for note in prepared.notes:
            announce(note)
        state = RewardState(prepared.learner, elapsed=monotonic() - started)
        return _to_the_end(run, prepared, state, console, quiet)


def resume_on_rewards(path: Path, console: Console, quiet: bool) -> tuple[Path, dict[str, Any]]:
    """Resume an interrupted run, bit for bit; of a finished one, check that its networks can be loaded."""
    started, run, announce = monotonic(), open_run(path), announcer(console, quiet)
    if is_there(run.metrics_json):
        for file in (run.last, run.best):
            load_player(file)
        announce(already_finished(run))
        return run.path, read_metrics(run)
    with owned(run.path, announce):
        checkpoint = recover_unchanged_run(run, announce)
        prepared = prepare_rewards(config_from_yaml(run.config))
        write_beginning(run, prepared)
        if checkpoint is None:
            announce(f"{run.path} has no checkpoint yet: starting over")
            run.last.parent.mkdir(exist_ok=True)
            append_event(run, "resumed", step=0)
        state = RewardState(prepared.learner, elapsed=monotonic() - started)
        return _to_the_end(run, prepared, state, console, quiet, checkpoint)


def _to_the_end(
    run: RunDirectory,
    prepared: PreparedLearner,
    state: RewardState,
    console: Console,
    quiet: bool,
    checkpoint: Path | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Train from the beginning, or from `checkpoint`, whose random state torch then has, and finish the
    run."""
    announce = announcer(console, quiet)
    with execution_settings(prepared.config):
        if checkpoint is not None:
            restore_rewards(state, checkpoint)
            announce(f"continuing {run.path} after step {state.learner.step:,}")
            append_event(run, "resumed", step=state.learner.step)
        if not state.over:
            run_rewards(run, prepared, state, [_reader(announce)])
        with terminating_interrupts():
            return run.path, finish_rewards(run, prepared, state)


def _reader(announce: Announce) -> Callable[[RewardEvent], None]:
    shown = 0.0

    def read(event: RewardEvent) -> None:
        nonlocal shown
        if isinstance(event, RewardEpochDone) and (event.finished or monotonic() - shown > _PLAIN_EVERY):
            shown, row = monotonic(), event.row
            trained = "–" if row["train_return"] is None else number(row["train_return"])
            announce(
                f"step {short_number(row['step'])}  return {trained}  val return {number(row['val_return'])} "
                f"({number(row['val_return_low'])} to {number(row['val_return_high'])})  "
                f"explore {percent(row['explore'], 0)}  {row['steps_per_second'] or 0:,.0f} steps/s"
            )

    return read


@dataclass(frozen=True)
class RecordedEpisodes:
    """Episodes that a network played, and their film."""

    path: Path
    """The GIF."""
    played: Played
    """Returns, steps and actions of the episodes."""
    actions: tuple[str, ...]
    """Names of the actions."""
    frames: int
    """Number of frames of the film."""
    cut: bool
    """Whether the film ends before the episodes do."""

    def to_json(self) -> dict[str, Any]:
        """The document of `striate play --json`."""
        pairs = zip(self.played.returns.tolist(), self.played.steps.tolist(), strict=True)
        counts = dict(zip(self.actions, self.played.actions.tolist(), strict=True))
        episodes = [{"return": total, "steps": steps} for total, steps in pairs]
        return {"path": str(self.path), "episodes": episodes, "actions": counts, "film_is_cut": self.cut}


def play(run: RunPath, out: str | Path, *, episodes: int = 1, seed: int = 0) -> RecordedEpisodes:
    """Let the network of a run play whole episodes, always the best action, and write them as a GIF.

    The episodes occur neither in training nor in validation or test; `seed` chooses them. Raises RunError for a run
    that did not learn from rewards, UsageError for a file that is not a GIF.
    """
    path = Path(out)
    if path.suffix.lower() != ".gif":
        raise UsageError("out", str(out), "a .gif", f"--out {pasted(path.with_suffix('.gif'))}")
    if not 1 <= episodes <= 1000:
        raise UsageError("episodes", str(episodes), "1 to 1,000", "--episodes 1")
    if is_exported(given := path_of_run(run)):
        remedy = (
            "striate play RUN, with the run that it was exported from; or run it in its own runtime (docs/control.md)"
        )
        raise RunError(str(given), "an exported file", "a run of striate train gym:ID", remedy)
    player = load_player(run)
    chosen = split_seed(player.config.seed + seed, "play")
    with execution_settings(player.config):
        played, frames = filmed(player.module, player.source, player.config.task.control, episodes, chosen)
    write_film(path, frames, MILLISECONDS)
    return RecordedEpisodes(path, played, player.actions, len(frames), len(frames) >= MOST_FRAMES)


def evaluate_player(run: RunPath, *, episodes: int | None = None) -> Played:
    """Play the run's test episodes again, or as many `episodes`, with the same sequence of seeds. Raises RunError."""
    player: Player = load_player(run)
    control = player.config.task.control
    with execution_settings(player.config):
        seed = split_seed(player.config.seed, "test")
        return play_episodes(player.module, player.source, control, episodes or control.test_episodes, seed)
