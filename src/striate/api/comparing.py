"""Compare trained runs on the same samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from striate.api.announcing import Announce
from striate.api.networks import how_to_finish, load
from striate.api.training import Run
from striate.data.dataset import Dataset
from striate.errors import UsageError, pasted
from striate.evaluation.assessment import sample_paths
from striate.evaluation.compare_players import ComparedPlayer, compare_players
from striate.evaluation.compare_runs import RunPredictions, compare_predictions
from striate.evaluation.comparison import Comparison
from striate.evaluation.evaluate import evaluate_trained, groups_of, plan_evaluation
from striate.machine.allocator import allocator_policy, usual_policy
from striate.runs.directory import RunDirectory, open_run, path_of_run
from striate.runs.verified_files import read_verified_json
from striate.tasks.evaluation import Evaluation
from striate.tasks.registry import saved_predictions, task_of_run
from striate.training.config import Config
from striate.training.config_file import config_from_yaml
from striate.training.execution import measured_at_once
from striate.training.prepare import read_data
from striate.training.rewards.player import load_player, plays

COMPARED = ("test", "val")
Compared = Literal["test", "val"]


def compare(
    runs: Sequence[str | Path | Run], *, split: Compared = "test", announce: Announce | None = None
) -> Comparison:
    """Test whether the difference between trained runs is more than noise, on the same samples of their test split or
    `val`, and list what each network costs.

    Classes: McNemar's exact test, and a paired bootstrap of the difference of the accuracies. Numbers, masks and
    samples in groups: a paired permutation test and a paired bootstrap, which resample groups where there are any.
    Networks that learned from rewards: the same for the returns of episodes that all of them play now. With more than
    two runs, p-values are corrected by Holm's procedure.
    Raises UsageError for fewer than two different runs; DataError where they were not measured on the same samples with
    the same labels; RunError where there is no run.
    """
    if split not in COMPARED:
        raise UsageError("--split", repr(split), " or ".join(COMPARED), "--split test")
    runs = runs if isinstance(runs, Iterable) and not isinstance(runs, str) else [runs]
    opened = [open_run(path_of_run(run)) for run in runs]
    _refuse_too_few(opened)
    say = announce or (lambda _: None)
    if any(plays(run.path) for run in opened):
        return compare_players([_player(run) for run in opened], split, notes=_notes(opened, split))
    read = _reader(announce)
    predictions = []
    for number, run in enumerate(opened, 1):
        say(f"getting the predictions of {run.path} for its {split} split ({number} of {len(opened)})")
        predictions.append(_predictions(run, split, read))
    return compare_predictions(predictions, split, notes=_notes(opened, split))


def _refuse_too_few(runs: Sequence[RunDirectory]) -> None:
    places = [run.path.resolve() for run in runs]
    twice = [run.path for run, place in zip(runs, places, strict=True) if places.count(place) > 1]
    if twice:
        raise UsageError("compare", f"{twice[0]} twice", "different runs", f"striate eval {pasted(twice[0])}")
    if len(runs) < 2:
        got = f"only {runs[0].path}" if runs else "no run"
        first = pasted(runs[0].path) if runs else "RUN"
        raise UsageError("compare", got, "two runs or more", f"striate compare {first} OTHER_RUN")


def _player(run: RunDirectory) -> ComparedPlayer:
    """Raises RunError for a run that learned from samples."""
    costs = read_verified_json(run.metrics_json)
    return ComparedPlayer(str(run.path), load_player(run.path), costs if isinstance(costs, dict) else {})


ReadData = Callable[[Config, RunDirectory], Dataset]


def _reader(announce: Announce | None) -> ReadData:
    """Reads the data of a configuration, and caches the latest, which compared runs share."""
    cached: dict[tuple[object, str], Dataset] = {}

    def read(config: Config, run: RunDirectory) -> Dataset:
        key = (config.data, config.task.name)
        if key not in cached:
            cached.clear()
            cached[key] = read_data(config, announce, run=run)[1]
        return cached[key]

    return read


def _predictions(run: RunDirectory, split: Compared, read: ReadData) -> RunPredictions:
    """The predictions of the run's network for each sample of the split: those that the run saved, or, without any, new
    ones."""
    config, metrics = config_from_yaml(run.config), read_verified_json(run.metrics_json)
    costs = metrics if isinstance(metrics, dict) else {}
    saved = saved_predictions(run, split) if split in costs else None  # else the run is not complete
    if saved is not None and len(saved.ids):
        data, predictions = costs.get("data"), saved.predictions if saved.predicted is None else saved.predicted
        task = task_of_run(saved.task, str(run.path))
        made = None if task.has_rows() else load(run.path).task
        rows = (
            task.rows(predictions, saved.targets, len(saved.classes))
            if made is None
            else made.rows_for(predictions, saved.targets)
        )
        return RunPredictions(
            path=str(run.path),
            model=config.model.name,
            source=config.data.source,
            data_fields=_data_fields(config),
            data=data if isinstance(data, str) else config.data.source,
            task=task,
            classes=saved.classes,
            samples=_names(saved.paths, saved.ids),
            targets=saved.targets,
            predictions=predictions,
            value=task.headline_metric().value(rows),
            costs=costs,
            images=config.data.channels is not None,
            made=made,
            groups=saved.groups,
        )
    found, paths, images, groups = _predict_now(run, config, split, read)
    task = task_of_run(found.task, str(run.path))
    made = None if task.has_rows() else load(run.path).task
    return RunPredictions(
        path=str(run.path),
        model=config.model.name,
        source=config.data.source,
        data_fields=_data_fields(config),
        data=found.data,
        task=task,
        classes=found.classes,
        samples=paths,
        targets=found.targets,
        predictions=found.decoded,
        value=float(found.metrics[found.shown[0].key]),
        costs=costs,
        images=images,
        made=made,
        groups=groups,
    )


def _data_fields(config: Config) -> dict[str, object]:
    """The fields that decide which samples there are, their labels and their splits."""
    columns = ("names", "layout", "targets", "class_level", "group", "labels", "ignore")
    splits = ("splits", "val_fraction", "test_fraction", "split_seed")
    return {f"data.{name}": getattr(config.data, name) for name in (*columns, *splits)}


def _predict_now(
    run: RunDirectory, config: Config, split: Compared, read: ReadData
) -> tuple[Evaluation, NDArray[Any], bool, Sequence[str]]:
    """The network's predictions, and of the samples: paths, whether they are images, and groups."""
    trained, data = load(run.path), read(config, run)
    if split == "test":
        data.require_test(f"compare {run.path}")
    batch = measured_at_once(config)
    with allocator_policy(usual_policy()):
        predictor = plan_evaluation(trained, data, (split,), batch=batch)
        found = evaluate_trained(trained, data, split, batch=batch, predictor=predictor)
    return found, _names(sample_paths(found, data), found.ids), data.medium.pictures, groups_of(data, split)


def _names(paths: Sequence[str], ids: NDArray[np.int64]) -> NDArray[Any]:
    """Names that are the same in all runs: the samples' paths, or their ids where several are of one file."""
    return np.array(paths) if len(set(paths)) == len(paths) else ids


def _notes(runs: Sequence[RunDirectory], split: str) -> tuple[str, ...]:
    """What a reader of the metrics should know."""
    notes = ["This compares these trained networks only; the same training with another seed gives other metrics."]
    notes += [
        f"{run.path} is not finished: its latest saved network is used; to finish it: {remedy}"
        for run in runs
        if (remedy := how_to_finish(run)) is not None
    ]
    if split == "val":
        notes.append(
            "Each run chose its epoch by the validation split: its validation metrics are slightly optimistic."
        )
    machines = [read_verified_json(run.environment) for run in runs]
    if len({str(machine.get("processor")) for machine in machines if isinstance(machine, dict)}) > 1:
        notes.append(
            "The runs were trained on different machines, so their training times say little about the networks."
        )
    return tuple(notes)
