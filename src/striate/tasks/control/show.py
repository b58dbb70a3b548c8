"""Pictures of a network that plays: curves of returns and values, actions, frames of an episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from striate.data.environments.environment import Environment
from striate.tasks.control.config import ControlConfig
from striate.tasks.control.play import Played, play_episodes
from striate.visualize.canvas import (
    BLUE,
    VERMILION,
    figure_of,
    legend,
    legend_below,
    limit_ticks,
    main_title,
    name_axes,
    new_figure,
    quiet_frame,
)
from striate.visualize.film import FilmFrame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
_FEW = 8
"""Largest number of different returns that have a bar each."""
MOST_FRAMES = 3000
"""Largest number of frames of a film, which has only the beginning of longer episodes."""


def returns_figure(rows: Sequence[Row], title: str, best: int) -> Figure:
    """The return against the steps: for training episodes, with exploration, and validation episodes, without, each
    with the 95 % interval of its mean; `best` is the epoch whose network was saved. Below, the network's values of a
    fixed set of states, and the loss."""
    figure = new_figure(5.8, 7.4)
    returns, value, loss = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1.6, 1.6))
    _draw_returns(returns, rows, best)
    steps, marker = [row["step"] for row in rows], _marker(rows)
    value.plot(steps, [row["value"] for row in rows], marker=marker, color=BLUE, linewidth=1.8)
    loss.plot(steps, [_or_gap(row["train_loss"]) for row in rows], marker=marker, color=BLUE, linewidth=1.8)
    name_axes(value, "", "expected value")
    name_axes(loss, "steps of environments", "loss")
    for axes in (value, loss):
        quiet_frame(axes)
    loss.set_xlim(0, steps[-1] * (1.04 if len(rows) > 1 else 2))  # a single value is in the middle, beside the legend
    limit_ticks(loss.xaxis, 6)
    loss.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    main_title(figure, title)
    return figure


def _marker(rows: Sequence[Row]) -> str:
    """Of a single evaluation, a line would be invisible."""
    return "o" if len(rows) == 1 else ""


def _draw_returns(axes: Axes, rows: Sequence[Row], best: int) -> None:
    steps = [row["step"] for row in rows]
    styles = (("train", BLUE, "-", "training, with exploration"), ("val", VERMILION, "--", "validation, greedy"))
    for split, color, line, label in styles:
        low, high, mean = ([_or_gap(row[f"{split}_return{end}"]) for row in rows] for end in ("_low", "_high", ""))
        axes.plot(steps, mean, marker=_marker(rows), color=color, linestyle=line, linewidth=1.8, label=label)
        if len(rows) > 1:
            axes.fill_between(steps, low, high, color=color, alpha=0.18, linewidth=0)
        else:
            axes.vlines(steps, low, high, color=color, alpha=0.4, linewidth=3)
    saved = axes.plot(steps[best - 1], rows[best - 1]["val_return"], "o", color=VERMILION, label="saved network")
    saved[0].set(markersize=9, fillstyle="none")  # a ring around the point
    name_axes(axes, "", "return of an episode")
    quiet_frame(axes)
    legend(axes)


def actions_figure(played: Played, actions: Sequence[str], title: str) -> Figure:
    """How often each action was taken, as a share of all."""
    shares = played.actions / max(int(played.actions.sum()), 1)

    def draw(axes: Axes) -> None:
        axes.barh(range(len(actions)), shares, color=BLUE)
        axes.set_yticks(range(len(actions)), actions)
        axes.invert_yaxis()
        name_axes(axes, "share of all steps")
        quiet_frame(axes, "x")

    return figure_of(draw, 5.8, 0.9 + 0.32 * len(actions), title)


def returns_histogram(played: Played, title: str) -> Figure:
    """The histogram of the returns of episodes; a bar for each return where few are possible, such as won and lost."""

    def draw(axes: Axes) -> None:
        values, counts = np.unique(played.returns, return_counts=True)
        if len(values) <= _FEW:
            apart = float(np.diff(values).min()) if len(values) > 1 else 1.0
            axes.bar(values, counts, 0.6 * apart, color=BLUE)
            axes.set_xticks(values)
        else:
            axes.hist(played.returns, bins=min(30, len(values)), color=BLUE)
        axes.axvline(float(played.returns.mean()), color=VERMILION, linestyle="--", label="mean")
        name_axes(axes, "return", "episodes")
        quiet_frame(axes)
        legend_below(axes)

    return figure_of(draw, 5.8, 2.8, title)


def _or_gap(value: float | None) -> float:
    return float("nan") if value is None else value


def filmed(
    module: nn.Module, source: str, config: ControlConfig, episodes: int, seed: int
) -> tuple[Played, list[FilmFrame]]:
    """Episodes played one after another, and their frames, at most `MOST_FRAMES`."""
    frames: list[FilmFrame] = []

    def watch(number: int, environment: Environment, total: float) -> None:
        if len(frames) < MOST_FRAMES:
            frames.append(FilmFrame(environment.picture(), f"episode {number + 1}  return {total:g}"))

    return play_episodes(module, source, config, episodes, seed, watch=watch, at_once=1), frames
