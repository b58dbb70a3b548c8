"""The network of a finished or interrupted run, ready to play."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from striate.data.environments.open_environment import is_environment
from striate.errors import RunError, pasted
from striate.models.preserved_state import same_random_state
from striate.runs.checkpoint import load_checkpoint, without_checkpoint
from striate.runs.directory import RunPath, open_run, path_of_run
from striate.runs.plain_files import is_there, typed
from striate.tasks.control.inside import StateMap, map_states
from striate.tasks.control.network import as_input
from striate.tasks.control.states import States
from striate.training.config import Config
from striate.training.config_file import config_from_dict, config_from_yaml
from striate.training.rewards.decide import build_network
from striate.visualize.inside.embedding import embed_features
from striate.visualize.inside.features import find_features


@dataclass(frozen=True)
class Player:
    """A network that plays."""

    module: nn.Module
    """From frames (B, C·stack, H, W), 0 to 1, to values of actions."""
    config: Config
    """The decided configuration of its run."""
    source: str
    actions: tuple[str, ...]
    """Names of the actions."""


def load_player(path: RunPath) -> Player:
    """The network of a run (of its best epoch) or of one checkpoint, in eval mode. Raises RunError, also for a run
    that learned from samples."""
    path = path_of_run(path)
    file = typed(path) if is_there(path) and not path.is_dir() else open_run(path).best
    if not is_there(file):
        run = open_run(path)
        if not is_environment(config_from_yaml(run.config).data.source):
            raise _no_player(path)
        raise without_checkpoint(run, file)
    with same_random_state():
        saved = load_checkpoint(file)
        if not learned_from_rewards(saved):
            raise _no_player(path)
        module = build_network(saved["network"])
        module.load_state_dict(saved["model"])
    config = config_from_dict(saved["config"], str(file))
    game = saved["game"]
    return Player(module.eval(), config, str(game["source"]), tuple(map(str, game["actions"])))


def map_player(player: Player, states: States, layer: str | None = None) -> StateMap:
    """The map of states by the outputs of `layer`, by default the last hidden one (t-SNE)."""
    features = find_features(player.module, as_input(states.stacks), layer)
    embedding = embed_features(features.values, features.source, method="tsne", seed=player.config.seed)
    control = player.config.task.control
    scores = control.algorithm == "planner" and control.lesson != "values"
    return map_states(embedding, states, player.actions, scores=scores)


def learned_from_rewards(saved: Mapping[str, Any]) -> bool:
    """Whether a checkpoint is of a network that plays."""
    return isinstance(saved.get("game"), dict)


def plays(path: str | Path) -> bool:
    """Whether a run, or a checkpoint in one, learned from rewards; False where there is no run."""
    try:
        run = open_run(Path(path))
    except RunError:
        return False
    return is_environment(config_from_yaml(run.config).data.source)


def player_refused(path: Path) -> RunError:
    """The error where a network that plays is asked to predict for samples."""
    got = "a network that learned from rewards: it outputs values of actions for frames of its game"
    remedy = f"striate play {pasted(path)} --out game.gif, or striate eval {pasted(path)}"
    error = RunError(str(path), got, "a network that predicts for samples", remedy)
    error.in_python = f"striate.api.evaluate_player({str(path)!r})"
    return error


def _no_player(path: Path) -> RunError:
    got, remedy = "a run that learned from samples, not from rewards", f"striate eval {pasted(path)}"
    return RunError(str(path), got, "a run of striate train gym:ID", remedy)
