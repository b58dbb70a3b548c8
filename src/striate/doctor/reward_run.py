"""Diagnosis of trainings on an environment: of the environment, the settings, and the records of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from time import perf_counter
from typing import Any

import numpy as np
from torch import nn

from striate.data.environments.open_environment import open_environment
from striate.doctor.causes import sort_out
from striate.doctor.diagnosis import Diagnosis, Learning
from striate.records import Finding
from striate.runs.checkpoint import load_checkpoint
from striate.runs.directory import RunDirectory, read_metrics
from striate.runs.plain_files import is_there
from striate.tasks.control.config import ControlConfig
from striate.tasks.control.doctor import (
    Recorded,
    endless_findings,
    environment_findings,
    never_seen,
    play_randomly,
    replayed_findings,
    setting_findings,
    value_finding,
    value_findings,
)
from striate.tasks.control.play import split_seed
from striate.tasks.control.replay import Replay
from striate.training.config import Config
from striate.training.rewards.decide import build_network

_RANDOM_STEPS = 3000
CODES = ("never-seen", "scale", "terminal-lost", "truncated-terminal", "off-by-one", "target-stale", "no-exploration",
         "endless", "diverges")  # fmt: skip


def examine_environment(config: Config) -> Diagnosis:
    """Diagnose an environment and the settings of a training on it, before it begins."""
    began = perf_counter()
    found = [*_of_environment(config), *setting_findings(config.task.control, 0)]
    return _diagnosis(found, began, None, {})


def examine_reward_run(run: RunDirectory, config: Config) -> Diagnosis:
    """Diagnose a run on an environment, finished or not. Raises RunError where its files cannot be read."""
    began, control = perf_counter(), config.task.control
    saved = load_checkpoint(run.last) if is_there(run.last) else None
    history: list[dict[str, Any]] = [] if saved is None else saved["history"]
    found = [*_of_environment(config)]
    skipped: dict[str, str] = {}
    if saved is None:
        skipped["reward.diverges"] = "the run has no checkpoint yet"
    else:
        learner = saved["learner"]
        found += setting_findings(control, int(learner["updates"]))
        found += never_seen(history)
        module = build_network(saved["network"])
        module.load_state_dict(saved["model"])
        found += _of_replay(config, learner, module.eval(), history) if control.algorithm != "planner" else ()
    if is_there(run.metrics_json):
        test = read_metrics(run).get("test", {})
        found += endless_findings(control, test.get("truncated", 0) / max(test.get("episodes", 1), 1), "test episodes")
    return _diagnosis(found, began, _learned(history), skipped)


def _of_environment(config: Config) -> Iterator[Finding]:
    source = str(config.data.source)
    limit = config.task.control.limit or open_environment(source).game.limit
    played = play_randomly(source, _RANDOM_STEPS, limit)
    for finding in environment_findings(played, limit, source):
        if finding.code != "reward.scale" or not config.task.control.clip_rewards:
            yield finding


def _of_replay(
    config: Config, learner: Mapping[str, Any], module: nn.Module, history: list[dict[str, Any]]
) -> Iterator[Finding]:
    control = config.task.control
    if "replay" in learner:
        replay = restored(learner["replay"], control)
        played = learner["environments"]
        seed = split_seed(config.seed, "train")
        yield from replayed_findings(Recorded(str(config.data.source), replay, played["begun"].numpy(), seed, control))
        yield from value_findings(module, replay, control)
    elif history:
        returns = [abs(row[name] or 0.0) for row in history for name in ("train_return", "val_return")]
        rewards = 1.0 if control.clip_rewards else max(returns)
        yield from value_finding(np.array([history[-1]["value"]], np.float32), max(returns), rewards, control)


def restored(state: Mapping[str, Any], control: ControlConfig) -> Replay:
    """The replay buffer of a checkpoint, with exactly the filled size."""
    frames = state["frames"]
    assert control.stack is not None, "decided before"
    rows, count = frames.shape[:2]
    bytes_each = int(np.prod(frames.shape[2:])) + 9
    replay = Replay(
        tuple(frames.shape[2:]),
        count,
        control.stack,
        control.n_step,
        rows * count * bytes_each / 1e6 + 1e-3,
        rows * count,
    )
    replay.load_state_dict(dict(state))
    return replay


def _learned(history: list[dict[str, Any]]) -> Learning | None:
    if len(history) < 2:
        return None
    first, best = history[0], max(history, key=lambda row: float(row["val_return"]))
    text = f"the validation return went from {_return(first)} to {_return(best)} at its best"
    low, high = best["val_return_low"], first["val_return_high"]
    return Learning(low is not None and high is not None and low > high, text)


def _return(row: Mapping[str, Any]) -> str:
    """The validation return of a row."""
    return f"{row['val_return']:.3g}"


def _diagnosis(
    found: Iterable[Finding], began: float, learning: Learning | None, skipped: Mapping[str, str]
) -> Diagnosis:
    by_code: dict[str, Finding] = {}
    for finding in found:
        by_code.setdefault(finding.code, finding)
    findings, follows = sort_out(list(by_code.values()))
    looked = tuple(f"reward.{code}" for code in CODES if f"reward.{code}" not in skipped)
    return Diagnosis(findings, follows, skipped, looked, perf_counter() - began, {}, learning)
