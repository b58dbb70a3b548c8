"""Finish a run that learned from rewards: play episodes of other seeds, write pictures, metrics.json and the report."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

from striate.account.summarize import observe
from striate.errors import StriateError, pasted
from striate.report.baselines import Compared
from striate.report.page import as_base64, page_environment
from striate.report.summary import short_layer_table
from striate.runs.checkpoint import load_checkpoint
from striate.runs.directory import RunDirectory
from striate.runs.environment import read_environment
from striate.runs.events import append_event, note_files, note_finished, read_notes
from striate.runs.files import write_json, write_text
from striate.runs.plain_files import make_folder
from striate.tasks.control.baseline import compare_with_random, random_actions
from striate.tasks.control.inside import states_figure
from striate.tasks.control.play import Played, growth_note, play_episodes, split_seed
from striate.tasks.control.show import actions_figure, filmed, returns_figure, returns_histogram
from striate.tasks.control.states import played_states
from striate.tasks.every import REWARDS
from striate.training.config_file import config_to_dict, config_to_yaml
from striate.training.rewards.decide import PreparedLearner
from striate.training.rewards.loop import RewardState
from striate.training.rewards.player import Player, map_player
from striate.visualize.canvas import evenly_chosen
from striate.visualize.film import film_strip, write_film
from striate.visualize.inside.filters import filter_words, filters_figure, find_filters
from striate.visualize.page_parts import Picture, Table
from striate.visualize.themed_svg import saved_picture
from striate.wording import duration, number, several

MILLISECONDS = 80
"""Time of a frame of a film."""
_SHOWN = 6
_STATES = 500
_LARGEST = 3_000_000  # bytes of a film inside the page


def finish_rewards(run: RunDirectory, prepared: PreparedLearner, state: RewardState) -> dict[str, Any]:
    """Play the final episodes with the best network; write plots, report.html and, last, metrics.json. Returns its
    content."""
    config, module = prepared.config, state.learner.module
    control, source = config.task.control, prepared.game.source
    best = load_checkpoint(run.best, config.execution.device or "cpu")
    module.load_state_dict(best["model"])
    played = {
        split: play_episodes(module, source, control, episodes, split_seed(config.seed, split))
        for split, episodes in (("val", control.val_episodes), ("test", control.test_episodes))
    }
    metrics = _metrics(prepared, state, played, best["step"])
    if config.baseline:
        baseline = random_actions(source, control, split_seed(config.seed, "test"))
        compared = Compared(baseline, compare_with_random(baseline, played["test"].returns, config.seed))
        metrics["baselines"] = [compared.to_json()]
    make_folder(run.plots)
    pictures = _pictures(run, prepared, state, played["test"], metrics["best_epoch"])
    strip, film = _film(run, prepared, module)
    inside = _inside(run, prepared, module)
    state.learner.write_data(run.path)
    write_text(run.report, _page(run, prepared, state, metrics, [*pictures, strip], inside, film, played["test"]))
    note_files(run, [run.best])
    write_json(run.metrics_json, metrics)
    append_event(run, "finished", test=metrics["test"])
    note_finished(run)
    return metrics


def _metrics(prepared: PreparedLearner, state: RewardState, played: dict[str, Played], best: int) -> dict[str, Any]:
    config, rows, learner = prepared.config, state.history, state.learner
    seconds = sum(row["seconds"] for row in rows)
    last = rows[-1]
    ledger = observe(learner.module, tuple(prepared.network["shape"]))
    interval = [last["train_return_low"], last["train_return_high"]]
    return {
        "task": REWARDS,
        "model": config.model.name,
        "data": prepared.game.source,
        "algorithm": config.task.control.algorithm,
        "params": sum(p.numel() for p in learner.module.parameters()),
        "macs": ledger.macs,
        "epochs": len(rows),
        "best_epoch": next(row["epoch"] for row in rows if row["step"] == best),
        "steps": learner.step,
        "updates": learner.updates,
        **learner.facts(),
        "train_seconds": round(seconds, 3),
        "steps_per_second": round(learner.step / seconds, 1) if seconds else None,
        "device": config.execution.device,
        "plan": config_to_dict(config)["execution"],
        "train": {
            "n": last["train_episodes"],
            "loss": last["train_loss"],
            "episodes": last["train_episodes"],
            "return": last["train_return"],
            "return_interval": interval,
            "steps": last["train_steps"],
        },
        "val": played["val"].metrics(),
        "test": played["test"].metrics(),
    }


def _pictures(
    run: RunDirectory, prepared: PreparedLearner, state: RewardState, test: Played, best: int
) -> list[Picture]:
    game, seed = prepared.game, prepared.config.seed
    of = f"{game.source}, test, n = {len(test.returns):,} episodes"
    short = f"{{}} of {len(test.returns):,} test episodes"
    curve = f"Returns of {game.source}, seed {seed}; bands: 95 % intervals over the episodes of each evaluation"
    return [
        saved_picture(
            "Return", curve, returns_figure(state.history, game.source, best), run.plots / "returns.png", "curves"
        ),
        saved_picture(
            "Distribution",
            f"Returns, {of}",
            returns_histogram(test, short.format("Returns")),
            run.plots / "histogram.png",
        ),
        saved_picture(
            "Actions",
            f"Actions, {of}",
            actions_figure(test, game.actions, short.format("Actions")),
            run.plots / "actions.png",
        ),
    ]


def _film(run: RunDirectory, prepared: PreparedLearner, module: Any) -> tuple[Picture, Path]:
    config, game = prepared.config, prepared.game
    seed = split_seed(config.seed, "play")
    played, frames = filmed(module, game.source, config.task.control, 1, seed)
    path = run.plots / "game.gif"
    write_film(path, frames, MILLISECONDS)
    shown = [frames[k] for k in evenly_chosen(len(frames), _SHOWN)]
    strip = run.plots / "frames.png"
    Image.fromarray(film_strip(shown)).save(strip)
    steps = several(int(played.steps[0]), "step")
    words = f"An episode of {steps}, return {number(float(played.returns[0]))}; the whole film is plots/game.gif"
    return Picture("Frames of an episode", words, strip, "samples"), path


def _inside(run: RunDirectory, prepared: PreparedLearner, module: Any) -> list[Picture]:
    """The filters of the first layer, and a map of states of games by the features of the last hidden layer."""
    game, config = prepared.game, prepared.config
    player = Player(module.eval(), config, game.source, game.actions)
    states = played_states(module, game.source, config.task.control, _STATES, split_seed(config.seed, "states"))
    pictures = []
    try:
        found = map_player(player, states)
        figure = states_figure(found, states.pictures, title=f"States of {game.source}")
        pictures.append(saved_picture("States", found.words, figure, run.plots / "states.png", "scatter"))
        bank = find_filters(module, None, input_shape=tuple(prepared.network["shape"]))
        figure = filters_figure(bank, title=f"Filters of {bank.layer}")
        path = run.plots / "filters.png"
        pictures.append(saved_picture("First filters", f"{bank.layer}: {filter_words(bank)}", figure, path, "filters"))
    except StriateError as error:  # a network without convolutions, or with the same features for all states
        append_event(run, "note", text=f"left out of the report: {error.where}: {error.got}")
    return pictures


def _page(
    run: RunDirectory,
    prepared: PreparedLearner,
    state: RewardState,
    metrics: dict[str, Any],
    pictures: list[Picture],
    inside: list[Picture],
    film: Path,
    test: Played,
) -> str:
    game, module = prepared.game, state.learner.module
    low, high = metrics["test"]["return_interval"]
    baselines = metrics.get("baselines", ())
    columns = ("epoch", "step", "explore", "train_loss", "train_return", "val_return", "value", "steps_per_second")
    history = Table(
        "One row for each evaluation", columns, tuple(tuple(row[name] for name in columns) for row in state.history)
    )
    keys = ("episodes", "return", "return_median", "return_std", "steps", "truncated")
    heads = ("episodes", "return", "median", "standard deviation", "steps", "truncated")
    figures = Table(
        "Episodes",
        ("split", *heads, "95 % interval"),
        tuple(
            (split, *(metrics[split].get(key) for key in keys), _interval(metrics[split]["return_interval"]))
            for split in ("train", "val", "test")
        )
        + tuple(
            (entry["name"], *(entry.get(key) for key in keys), _interval(entry["return_interval"]))
            for entry in baselines
        ),
    )
    page = page_environment().get_template("rewards.html")
    return page.render(
        title=f"{metrics['algorithm']} on {game.source}",
        created=f"{several(metrics['steps'], 'step')} in {duration(metrics['train_seconds'])}. "
        f"{datetime.now(UTC):%Y-%m-%d %H:%M UTC}",
        answer=f"return {number(metrics['test']['return'])}",
        sentence=f"The mean of {several(len(test.returns), 'episode')} with seeds that training does not use, always"
        f" with the best action; 95 % interval {number(low)} to {number(high)} over episodes. This is one training:"
        " another seed may give a lower or higher return. "
        + " ".join([growth_note(metrics["epochs"]), *(entry["comparison"]["sentence"] for entry in baselines)]),
        notes=read_notes(run),
        pictures=pictures,
        inside=inside,
        film=as_base64(Picture("", "", film, "samples")) if film.stat().st_size <= _LARGEST else None,
        figures_table=figures,
        history=history,
        network=f"{metrics['model']}: {number(metrics['params'])} parameters.",
        layers=short_layer_table(observe(module, tuple(prepared.network["shape"]))),
        config=config_to_yaml(prepared.config),
        environment=read_environment(run.environment),
        command=f"striate train --config {pasted(run.config)} --out {pasted(f'{run.path}-again')}",
        image=as_base64,
    )


def _interval(ends: list[float | None]) -> str:
    low, high = ends
    return "–" if low is None or high is None else f"{number(low)} to {number(high)}"
