"""Compares networks that learned from rewards by their returns in the same episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from striate.errors import DataError, pasted
from striate.evaluation.compare_runs import compared_run, pairs_of, short_names
from striate.evaluation.comparison import Comparison
from striate.statistics.paired import difference_of_rows
from striate.tasks.control.baseline import HEADLINE
from striate.tasks.control.play import play_episodes, split_seed
from striate.tasks.every import REWARDS
from striate.training.execution import execution_settings
from striate.training.rewards.player import Player


@dataclass(frozen=True, eq=False)
class ComparedPlayer:
    """A network that learned from rewards, of the run at `path`; `costs`: the content of its metrics.json, which may be
    empty."""

    path: str
    player: Player
    costs: Mapping[str, Any]


def compare_players(
    runs: Sequence[ComparedPlayer], split: Literal["test", "val"], *, notes: Sequence[str] = ()
) -> Comparison:
    """The comparison of two or more runs by the returns of the episodes of the first run's split, which all play.
    Raises DataError for runs of different environments."""
    first = runs[0].player
    for run in runs:
        if run.player.source != first.source:
            one, other = runs[0].path, run.path
            got = f"{first.source} in {one}, {run.player.source} in {other}"
            apart = f"evaluate each by itself: striate eval {pasted(one)}; striate eval {pasted(other)}"
            raise DataError(f"compare {one} {other}", got, "runs on the same environment", apart)
    control = first.config.task.control
    count = control.test_episodes if split == "test" else control.val_episodes
    rows = []
    for run in runs:
        with execution_settings(run.player.config):
            own, chosen = run.player.config.task.control, split_seed(first.config.seed, split)
            rows.append(play_episodes(run.player.module, first.source, own, count, chosen).returns[:, None])
    names = short_names([run.path for run in runs])
    compared = tuple(
        compared_run(
            name,
            run.path,
            run.player.config.model.name,
            HEADLINE.value(found),
            HEADLINE.estimate(found).interval,
            run.costs,
        )
        for name, run, found in zip(names, runs, rows, strict=True)
    )
    differences = [difference_of_rows(theirs, ours, HEADLINE.lead) for ours, theirs in combinations(rows, 2)]
    key, things = HEADLINE.metric.key, "episodes"
    pairs = pairs_of(names, differences, key, things)
    return Comparison(first.source, split, count, things, REWARDS, key, compared, pairs, tuple(notes))
