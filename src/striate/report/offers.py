"""Offers to improve a trained network without training it again, if validation data show that they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from striate.data.dataset import Dataset
from striate.errors import pasted
from striate.evaluation.evaluate import evaluate_trained
from striate.inference.predictor import Predictor
from striate.statistics.calibration import Temperature
from striate.tasks.evaluation import Evaluation
from striate.tasks.task import Task
from striate.training.trained import Trained
from striate.wording import several

CERTAIN = 2.0
"""Standard errors by which a mean has to differ from 0."""


def views_offer(
    run: Path, trained: Trained, data: Dataset, val: Evaluation, predictor: Predictor, batch: int | None
) -> Sequence[str]:
    """A sentence if the mean over each image and its mirror image predicts validation better than the image alone
    (`val`), by more than noise: the losses of the same samples are compared. Takes twice as long as `val`."""
    before = trained.task.sample_losses(val)
    if before is None:
        return ()
    mirrored = evaluate_trained(replace(trained, views="mirror"), data, "val", batch=batch, predictor=predictor)
    after = trained.task.sample_losses(mirrored)
    metric = trained.task.metrics[0]
    old, new = val.metrics[metric.key], mirrored.metrics[metric.key]
    if after is None or (new < old if metric.higher_is_better else new > old):
        return ()
    lead = before - after
    error = float(lead.std(ddof=1)) / np.sqrt(len(lead)) if len(lead) > 1 else np.inf
    if not lead.mean() > CERTAIN * error:
        return ()
    changed = f"{metric.name} {metric.text(new)} instead of {metric.text(old)}, "
    if metric.text(new) == metric.text(old):
        changed = ""
    return (
        f"Averaging over each image and its mirror image improves the {'predictions' if changed else 'probabilities'}:"
        f" {changed}log loss {after.mean():.3f} instead of {before.mean():.3f}, on "
        f"{several(val.n, 'validation sample')}. To use it: striate predict {pasted(run)} FILES --views mirror",
    )


def temperature_offer(run: Path, task: Task, val: Evaluation, temperature: Temperature | None) -> Sequence[str]:
    """A sentence if validation shows that the probabilities are too high or too low."""
    if (
        temperature is None
        or temperature.few  # mostly chance
        or task.sample_losses(val) is None
        or temperature.interval.low <= 1 <= temperature.interval.high
    ):
        return ()
    much = "too high" if temperature.value > 1 else "too low"
    low, high = temperature.interval.low, temperature.interval.high
    return (
        f"The probabilities are {much}: a temperature of {temperature.value:.3g} corrects them (95 % interval "
        f"{low:.3g} to {high:.3g}, on {several(temperature.n, 'validation sample')}) and leaves the predicted classes "
        f"as they are. To use it: striate predict {pasted(run)} FILES --calibrated",
    )
