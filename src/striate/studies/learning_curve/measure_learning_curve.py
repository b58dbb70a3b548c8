"""The trainings of a learning curve, one after another, on parts of the training samples: each part is a subset of the
next larger one, with the same share of each class."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.dataset import Dataset, Split
from striate.data.loader import batch_bounds
from striate.errors import ConfigError, DataError, pasted
from striate.models.config import NONE
from striate.models.weights.weights_file import read_weights
from striate.studies.cross_validation.fold import train_fold
from striate.studies.learning_curve.learning_curve import (
    LearningCurve,
    PretrainingGain,
    SizePoint,
    gain_of_labels,
    share_text,
)
from striate.studies.learning_curve.power_law import gain_of_twice
from striate.studies.learning_curve.pretraining_gain import gain_at, gain_sentence
from striate.tasks.baseline import stratified_sample
from striate.tasks.headline import Headline, Rows
from striate.tasks.metric import Metric
from striate.tasks.registry import make_task, task_for
from striate.tasks.task import Task
from striate.training.config import Config
from striate.training.execution import memory_explained
from striate.training.prepare import prepare_data
from striate.wording import duration, several

SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)
_LEAST = 64
"""Fewest training samples: an eighth of fewer teaches nothing."""


def shares_of(counts: Sequence[int] | None, data: Dataset) -> tuple[float, ...]:
    """The parts of the training split with `counts` samples, by default 1/8, 1/4, 1/2 and all. A count above the
    training split, up to training and validation together, means all of it, since validation samples have labels too.
    Raises DataError for a larger count, ConfigError for one that is too small."""
    if counts is None:
        return SHARES
    train, labeled = len(data.splits["train"]), len(data.splits["train"]) + len(data.splits["val"])
    where = f"learning curve of {data.name}"
    for count in counts:
        least = max(2, len(data.classes))
        if count < least:
            got, expected = f"a count of {count:,}", f"at least {least:,}, so that each class has a sample"
            raise ConfigError("counts", got, expected, f"--counts {least},{train}")
        if count > labeled:
            expected = f"at most {labeled:,}: {train:,} to train on, {labeled - train:,} to validate"
            raise DataError(where, f"a count of {count:,}", expected, f"--counts {min(counts[0], train)},{labeled}")
    return tuple(sorted({min(count, train) / train for count in counts}))


def nested_rows(data: Dataset, seed: int, shares: Sequence[float] = SHARES) -> dict[float, torch.Tensor]:
    """The positions in the training split for each share, in ascending order of the shares. Raises DataError for fewer
    than 64 samples and the usual shares."""
    train = data.splits["train"]
    if len(train) < _LEAST and tuple(shares) == SHARES:
        got, expected = (
            several(len(train), "training sample"),
            f"{_LEAST} or more, since an eighth of them is trained on",
        )
        remedy = f"add samples, then train again; or choose the numbers: --counts {len(train) // 2},{len(train)}"
        raise DataError(f"learning curve of {data.name}", got, expected, remedy)
    rows, found = torch.arange(len(train)), {}
    for share in sorted(shares, reverse=True):
        count = max(1, round(share * len(train)))
        rows = rows[torch.from_numpy(stratified_sample(train.targets[rows].cpu(), count, seed))]
        found[share] = rows
    return found


def with_training_rows(data: Dataset, rows: torch.Tensor) -> Dataset:
    """The data set with only these training samples."""
    places = rows.tolist()

    def only(of: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        return of | {"train": tuple(of["train"][k] for k in places)} if "train" in of else of

    splits = data.splits | {"train": data.splits["train"].take(rows)}
    facts = {name: value for name, value in data.facts.items() if name != "train"}
    return replace(data, splits=splits, contents=only(data.contents), units=only(data.units), facts=facts)


CHEAP = 120.0
"""Seconds of training for three seeds together; above, there is one seed."""
_SEEDS = 3


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A run whose learning curve is measured."""

    config: Config
    """Its decided configuration."""
    steps: int
    """Optimizer steps of its training."""
    seconds: float
    """Seconds of its training."""
    ids: NDArray[np.int64] | None
    """Positions of its test samples in the listing of the source. None: no saved predictions."""
    predictions: NDArray[Any] | None
    """Its saved predictions for these samples: class numbers, or numbers. None: it saved none."""


LEAST_STEPS = 250
"""Fewest steps of a part, if the run has as many: a hundred of 60,000 samples would otherwise get too few."""


def steps_for(share: float, steps: int) -> int:
    """Steps of a training on a part of the samples: those of the run times √share, but at least `LEAST_STEPS`. An
    eighth of the samples is thus seen in 2.8 times as many epochs. With the same epochs small parts would train too
    shortly, with the same steps too long."""
    return max(1, min(steps, LEAST_STEPS), math.ceil(steps * math.sqrt(share)))


def seeds_for(run: FinishedRun, shares: Sequence[float] = SHARES, trainings: int = 1) -> tuple[int, ...]:
    """Three seeds, from that of the run on, if all their trainings are cheap; else the run's own. `trainings`:
    trainings per size and seed; where several are compared always three seeds, since one does not show the variation
    between trainings."""
    once = trainings * _seconds(run, shares)
    count = _SEEDS if trainings > 1 or _SEEDS * once <= CHEAP else 1
    return tuple((run.config.seed + k) % 2**32 for k in range(count))


def refuse_unmeasurable(
    data: Dataset, config: Config, counts: Sequence[int] | None, weights: str | None, run: Path | None = None
) -> None:
    """Raise DataError, ConfigError or ModelError for data, task, sizes or pretrained weights that allow no learning
    curve. `run`: where the network of `config` was trained."""
    data.require_test("learning curve")
    task_for(data, config.task).headline_metric()
    if not config.auxiliary.task:
        begun = "" if run is None else f" --weights {pasted(run)}"
        raise ConfigError(
            "auxiliary.task",
            "0: the network is trained without labels",
            "a training with labels, which may start from these weights",
            f"striate learning-curve {pasted(config.data.source)} --model {pasted(config.model.name)}{begun}",
        )
    nested_rows(data, 0, shares_of(counts, data))
    if weights is not None:
        read_weights(weights)


def measure_learning_curve(
    run: FinishedRun,
    data: Dataset,
    *,
    path: Path | None = None,
    weights: str | None = None,
    counts: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
    announce: Callable[[str], None],
) -> LearningCurve:
    """Train the run's network anew on parts of its training samples, by default 1/8, 1/4, 1/2 and all, and measure each
    on the test split.

    The configuration is the run's, with other steps (`steps_for`) and without a target. The run itself, at `path`, is
    the training on all samples with its own seed, if its predictions are saved.

    `counts`: the sizes of the parts instead. `weights`: pretrained ones, in any form that `model.weights` takes; each
    training is then done twice, from random weights and from these, otherwise alike. `announce` gets a line for each
    training. Raises ConfigError for a task without a learning curve, DataError for too few samples, ModelError for
    missing weights, and what training raises.
    """
    refuse_unmeasurable(data, run.config, counts, weights, path)
    task = task_for(data, run.config.task)
    headline = task.headline_metric()
    metric = headline.metric
    shares = shares_of(counts, data)
    arms: tuple[str | None, ...] = (None,) if weights is None else (weights, "")
    runs = [run if arm is None else _from_weights(run, arm) for arm in arms]
    chosen = tuple(seeds or seeds_for(run, shares, len(arms)))
    announce(_plan_text(runs, chosen, shares))
    found: list[list[tuple[SizePoint, Rows]]] = [[] for _ in arms]
    test, announced = data.splits["test"], set[str]()

    def leaked(text: str) -> None:
        if text not in announced:
            announced.add(text)
            announce(text)

    for seed in chosen:
        for share, chosen_rows in sorted(nested_rows(data, seed, shares).items()):
            part = with_training_rows(data, chosen_rows)
            for arm, of_arm, trained in zip(arms, runs, found, strict=True):
                point, rows = _train(of_arm, part, share, seed, task, leaked)
                trained.append((point, rows))
                announce(
                    _progress_line(point, metric) + (f", from {arm or 'random weights'}" if arm is not None else "")
                )
    random = found[-1]
    points = sorted((point for point, _ in random), key=lambda point: (point.n, point.seed))
    losses = [(point.n, rows) for point, rows in random]

    def error(rows: Rows) -> float:
        return 1 - headline.value(rows) if metric.higher_is_better else headline.value(rows)

    # Shares resolve no less than half a sample.
    least = 0.5 / len(test) if metric.higher_is_better else 0.0
    gain = gain_of_twice(losses, error, least=least or 1e-300, resolution=least)
    curve = LearningCurve(data.name, metric.key, len(test), chosen, tuple(points), gain, "")
    pretrained = None if weights is None else _gain(weights, headline, random, found[0])
    return replace(curve, sentence=gain_of_labels(curve), pretrained=pretrained)


Trainings = list[tuple[SizePoint, Rows]]


def _gain(weights: str, headline: Headline, random: Trainings, pretrained: Trainings) -> PretrainingGain:
    """What the weights bring: the two trainings of each size and seed are a pair."""
    pairs: dict[int, list[tuple[Rows, Rows]]] = {}
    for (point, from_random), (_, from_weights) in zip(random, pretrained, strict=True):
        pairs.setdefault(point.n, []).append((from_random, from_weights))
    gains = tuple(gain_at(n, headline, pairs[n]) for n in sorted(pairs))
    points = tuple(sorted((point for point, _ in pretrained), key=lambda point: (point.n, point.seed)))
    made = PretrainingGain(weights, points, gains)
    return replace(made, sentence=gain_sentence(made, headline.metric.key))


def _from_weights(run: FinishedRun, weights: str) -> FinishedRun:
    """The run with these initial weights, "" for random ones; unchanged where it has them already."""
    if (run.config.model.pretrained or "") == weights:
        return run
    model = replace(run.config.model, weights=weights or NONE, weights_digest=None, weights_license=None)
    if weights:  # they take the place of an initialization
        model = replace(model, init="auto", whiten=None)
    return replace(run, config=replace(run.config, model=model), ids=None, predictions=None)


def _train(
    run: FinishedRun, data: Dataset, share: float, seed: int, task: type[Task], leaked: Callable[[str], None]
) -> tuple[SizePoint, Rows]:
    """One point of the curve, and what each test sample adds to the headline metric. `leaked` gets findings about
    pretrained weights that were trained on measured samples."""
    n, steps = len(data.splits["train"]), steps_for(share, run.steps)
    test = data.splits["test"]
    targets = test.targets.cpu().numpy()
    figure = task.headline_metric()
    if share == 1 and seed == run.config.seed and (predictions := _saved_predictions(run, test)) is not None:
        rows = make_task(data, run.config.task).rows_for(predictions, targets)
        return SizePoint(share, n, seed, run.steps, figure.value(rows), run.seconds, of_run=True), rows
    config = _config_for(run.config, steps, n, seed)
    with memory_explained(config):
        prepared = prepare_data(config, data, request=config)
        for finding in prepared.findings:
            if finding.code == "data.leak":
                leaked(str(finding))
        found = train_fold(prepared, repeat=1, fold=1, read=lambda _: None)
    rows = prepared.task.rows_for(found.decoded, targets)
    return SizePoint(share, n, seed, steps, figure.value(rows), found.seconds, of_run=False), rows


def _saved_predictions(run: FinishedRun, test: Split) -> NDArray[Any] | None:
    """The run's own predictions, if they were saved for these samples."""
    if run.predictions is None or run.ids is None or not np.array_equal(run.ids, test.ids.cpu().numpy()):
        return None
    return run.predictions


def _config_for(config: Config, steps: int, samples: int, seed: int) -> Config:
    """The run's configuration with other steps and another seed, without a target, which would end larger parts
    earlier."""
    assert config.batch is not None, "a run has decided it"
    epochs = -(-steps // len(batch_bounds(samples, config.batch)))
    budget = replace(config.budget.of(steps), epochs=epochs, minutes=None, target=None)
    return replace(config, budget=budget, seed=seed)


def _plan_text(runs: Sequence[FinishedRun], seeds: Sequence[int], shares: Sequence[float]) -> str:
    whole = sum(run.predictions is not None for run in runs) if max(shares) == 1 and runs[0].config.seed in seeds else 0
    seconds = len(runs) * len(seeds) * _seconds(runs[0], shares) - whole * runs[0].seconds
    count = len(runs) * len(seeds) * len(shares) - whole
    return f"{count} trainings on parts of the training samples, about {duration(seconds)} of training in all"


def _seconds(run: FinishedRun, shares: Sequence[float]) -> float:
    """Seconds of a training on each of these parts, by their steps."""
    return run.seconds * sum(steps_for(share, run.steps) for share in shares) / max(1, run.steps)


def _progress_line(point: SizePoint, metric: Metric) -> str:
    own = " (the run itself)" if point.of_run else ""
    return (
        f"{share_text(point.share)} = {several(point.n, 'sample')}, seed {point.seed}, {several(point.steps, 'step')}:"
        f" {metric.text(point.value)}{own}"
    )
