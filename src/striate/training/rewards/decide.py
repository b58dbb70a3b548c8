"""Parse and plan: decides what is open in the configuration of a training from rewards, and makes the learner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, cast

import torch
from torch import nn

from striate.data.environments.environment import Game
from striate.data.environments.open_environment import open_environment
from striate.data.environments.vectorized import Environments
from striate.errors import ConfigError, ModelError
from striate.models.build import build_model
from striate.tasks.control.config import ControlConfig
from striate.tasks.control.dqn import MOST, Dqn
from striate.tasks.control.learner import Learner
from striate.tasks.control.network import Dueling, default_network
from striate.tasks.control.planner import Planner
from striate.tasks.control.play import split_seed
from striate.tasks.control.pqn import Pqn
from striate.tasks.every import REWARDS
from striate.training.config import Config
from striate.training.config_file import field_names, get_field, option_of
from striate.training.execution import execution_settings, refuse_impossible_execution
from striate.training.request import decided_fields
from striate.wording import several

MINUTES = 10.0
_FINAL = 0.06
"""Share of the minutes that is left for the final episodes and the report."""
_ROWS = 40
_PLAYED = 32  # steps of each environment between two events of dqn
_MEASURED = 2.0  # seconds
_MEANT = (
    *("data.source", "model.name", "task.name", "task.control.", "optim.lr", "batch", "budget.minutes", "keep"),
    *("seed", "baseline", "save_seconds", "execution.device", "execution.threads", "decided", "recipe"),
    *("execution.precision", "execution.memory_format", "execution.compile", "code"),
)
_ALGORITHMS: dict[str, type[Learner]] = {"pqn": Pqn, "dqn": Dqn, "planner": Planner}
_OWN_PQN = ("rollout", "passes", "trace")
_OWN_DQN = ("double", "n_step", "replay_mb", "learn_after", "update_every", "target_every")
_OWN_PLANNER = ("trajectories", "depth", "search_bonus", "lesson", "pupil_updates", "pupil_plays")
_OF_VALUES = ("explore_start", "explore_end", "explore_until", "dueling")
_NEVER = {
    "pqn": (*_OWN_DQN, *_OWN_PLANNER),
    "dqn": (*_OWN_PQN, *_OWN_PLANNER),
    "planner": (*_OWN_PQN, *_OWN_DQN, *_OF_VALUES),
}
"""Fields of `task.control.*` that have no effect for an algorithm."""
_USUAL = {
    ("pqn", False): (128, 5e-4, 128), ("pqn", True): (32, 2.5e-4, 256),
    ("dqn", False): (8, 2.5e-4, 32), ("dqn", True): (8, 6.25e-5, 32),
    ("planner", False): (4, 1e-3, 64), ("planner", True): (4, 2.5e-4, 64),
}  # fmt: skip
"""Environments, learning rate and batch of an algorithm, for small frames and for large ones."""


@dataclass(frozen=True)
class PreparedLearner:
    """A training from rewards about to start."""

    config: Config
    """The decided configuration."""
    game: Game
    learner: Learner
    """The algorithm before its first step."""
    network: dict[str, Any]
    """Builds the network again: name, shape of its input (C, H, W), number of outputs, `dueling`."""
    notes: tuple[str, ...]
    """What was decided, a sentence each."""


def prepare_rewards(
    config: Config, module: nn.Module | None = None, *, spent: Callable[[], float] = lambda: 0.0
) -> PreparedLearner:
    """Decide what is open, build network and environments. Writes nothing. `spent`: seconds since the request.

    Raises DataError for an unknown environment, ConfigError for a field that has no effect here.
    """
    request = config
    if module is not None:
        got = "a network made in Python"
        raise ModelError("model", got, "a name, a layer string or file.py:function", "leave out model")
    _refuse_unused(config)
    environment = open_environment(str(config.data.source))
    config, notes = _decide(config, environment.game)
    with execution_settings(config):
        network = _network(config, environment.game)
        learner = _learner(config, network)
        config, more = _decide_length(config, network, learner, spent)
    config = replace(config, decided=decided_fields(request, config))
    return PreparedLearner(config, environment.game, learner, network, (*environment.game.notes, *notes, *more))


def build_network(network: dict[str, Any]) -> nn.Module:
    """The network that `PreparedLearner.network` describes, with weights from torch's random state."""
    outputs, shape = network["outputs"], tuple(network["shape"])
    body = build_model(network["name"], shape, outputs + 1 if network["dueling"] else outputs)
    return Dueling(body) if network["dueling"] else body


def _refuse_unused(config: Config) -> None:
    default, control = Config(), config.task.control
    names = [name for name in field_names() if not name.startswith(_MEANT)]
    algorithm = _algorithm(config)
    names += [f"task.control.{name}" for name in _NEVER[algorithm]]
    for name in names:
        value = get_field(config, name)
        if value != get_field(default, name):
            owner = f"{algorithm} on an environment"
            steps = "; the length is --minutes, or --task.control.steps" if name.startswith("budget.") else ""
            raise ConfigError(
                name, f"{value!r} with {owner}", f"the default, since it has no effect there{steps}",
                f"leave out {option_of(name)}",
            )  # fmt: skip
    if config.task.name not in ("auto", REWARDS):
        got = f"{config.task.name!r} for an environment, which gives rewards"
        raise ConfigError("task.name", got, f"{REWARDS!r}", f"leave out --task, or give --task {REWARDS}")
    if control.steps is not None and config.budget.minutes is not None:
        raise ConfigError("task.control.steps", "steps and --minutes", "either of them", "leave out --minutes")
    if config.execution.precision not in (None, "fp32"):
        raise ConfigError(
            "execution.precision", str(config.execution.precision), "fp32", "leave out --execution.precision"
        )


def _algorithm(config: Config) -> str:
    """The requested algorithm, by its name or by the recipe. Raises ConfigError where these disagree."""
    requested, recipe = config.task.control.algorithm, config.recipe
    if recipe == "planner" and requested not in (None, "planner"):
        raise ConfigError(
            "task.control.algorithm", str(requested), "planner, the algorithm of the recipe", "leave out one of them"
        )
    return requested or ("planner" if recipe == "planner" else "pqn")


def _decide(config: Config, game: Game) -> tuple[Config, list[str]]:
    """Everything but the length."""
    control, large = config.task.control, game.shape[0] > 24
    algorithm = _algorithm(config)
    environments, lr, batch = _USUAL[algorithm, large]
    control = replace(
        control,
        algorithm=cast(Any, algorithm),
        environments=control.environments or environments,
        clip_rewards=game.clips if control.clip_rewards is None else control.clip_rewards,
        stack=control.stack or game.stack,
        limit=control.limit or game.limit,
    )
    if algorithm == "dqn" and (control.limit or 0) <= control.n_step:
        got = f"{control.limit} with returns of {several(control.n_step, 'step')}"
        raise ConfigError(
            "task.control.limit", got, "a limit above the steps of a return", "leave out --task.control.limit"
        )
    device = config.execution.device or ("cuda" if torch.cuda.is_available() else "cpu")
    # Batches of small frames are done before a second thread wakes up: two threads take half as long again.
    threads = config.execution.threads or (torch.get_num_threads() if large else 1)
    execution = replace(
        config.execution, device=device, threads=threads, precision="fp32", memory_format="contiguous", compile="off"
    )
    refuse_impossible_execution(execution)
    name = config.model.name
    if name == "auto":
        height, width, _ = game.shape
        name = default_network(height, width, len(game.actions) + control.dueling)
    config = replace(
        config,
        task=replace(config.task, name=REWARDS, control=control),
        optim=replace(config.optim, lr=config.optim.lr or lr),
        model=replace(config.model, name=name),
        execution=execution,
        batch=config.batch or batch,
        keep=config.keep or "best",
    )
    return config, [f"{algorithm}: {several(control.environments or 0, 'environment')} in parallel, network {name}."]


def _network(config: Config, game: Game) -> dict[str, Any]:
    height, width, channels = game.shape
    control = config.task.control
    return {
        "name": config.model.name,
        "shape": [channels * (control.stack or 1), height, width],
        "outputs": len(game.actions),
        "dueling": control.dueling,
    }


def _learner(config: Config, network: dict[str, Any], control: ControlConfig | None = None) -> Learner:
    """The algorithm before its first step; a function of the configuration."""
    control = control or config.task.control
    assert control.environments is not None and config.batch is not None and config.optim.lr is not None
    torch.manual_seed(config.seed)
    module = build_network(network).to(config.execution.device or "cpu").train()
    source, seed = str(config.data.source), split_seed(config.seed, "train")
    environments = Environments(source, control.environments, seed, control.stack, control.limit)
    total = control.steps or MOST
    return _ALGORITHMS[control.algorithm or "pqn"](
        module, environments, control, config.optim.lr, config.batch, config.seed, total
    )


def _decide_length(
    config: Config, network: dict[str, Any], learner: Learner, spent: Callable[[], float]
) -> tuple[Config, list[str]]:
    """How many steps, and after how many a row is written: as requested, or by the speed, measured on a copy that
    learns from its first step on."""
    control, notes, together = config.task.control, list[str](), len(learner.environments)
    if control.steps is not None and control.steps % together:
        rounded = -(-control.steps // together) * together
        notes.append(f"{several(rounded, 'step')}, not {control.steps:,}: all {together} environments step together.")
    least = together * (control.rollout if control.algorithm == "pqn" else _PLAYED)
    if control.steps is None:
        minutes = config.budget.minutes or MINUTES
        config = replace(config, budget=replace(config.budget, minutes=minutes))
        if control.epoch_steps is None:
            speed = _speed(config, network)
            learner.total = max(int(speed * (60 * minutes * (1 - _FINAL) - spent())), least)
            control = replace(control, epoch_steps=max(learner.total // _ROWS, least))
            notes.append(f"{speed:,.0f} steps a second were measured: about {learner.total:,} in {minutes:g} minutes.")
        else:
            learner.total = control.epoch_steps * _ROWS
    elif control.epoch_steps is None:
        control = replace(control, epoch_steps=max(control.steps // _ROWS, least))
    return replace(config, task=replace(config.task, control=control)), notes


def _speed(config: Config, network: dict[str, Any]) -> float:
    learner = _learner(config, network, replace(config.task.control, learn_after=1, replay_mb=32.0))
    learner.advance()
    began, first = monotonic(), learner.step
    while monotonic() - began < _MEASURED:
        learner.advance()
    return (learner.step - first) / (monotonic() - began)


def seconds_for_training(config: Config) -> float | None:
    """Seconds of the whole command until its final episodes; None where the number of steps is given."""
    return None if config.budget.minutes is None else 60 * config.budget.minutes * (1 - _FINAL)
