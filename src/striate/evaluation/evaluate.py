"""Measures the predictions of a network for a split of a data set, and plans how to compute them fastest."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.data.dataset import Dataset, Split
from striate.data.loader import Batch, batches
from striate.data.store.stored import StoredInputs
from striate.errors import DataError, ModelError, UsageError
from striate.inference.plan import InferencePlan, PlanMode
from striate.inference.predictor import Predictor, batch_size, inference, plain_predictor
from striate.machine.memory import in_halves
from striate.machine.precision import Precision
from striate.tasks.accumulator import Accumulator
from striate.tasks.evaluation import Evaluation
from striate.tasks.outputs import as_arrays, joined, leaves, on_cpu
from striate.tasks.task import Task
from striate.tasks.views import VIEW_COUNTS, Views, outputs_of_views
from striate.training.trained import Trained
from striate.wording import several


def evaluate_trained(
    trained: Trained, data: Dataset, split: str, *, batch: int | None = None, predictor: Predictor | None = None
) -> Evaluation:
    """Measure a trained network on one split of a data set that was prepared like its training data.

    `batch`: samples at once (None: as many as make some megabytes). `predictor`: how predictions are computed (None:
    plainly).
    """
    return evaluate_split(
        trained.module,
        trained.task,
        data.splits[split],
        normalize=trained.normalization.on(trained.device, len(data.input_shape) + 1),
        device=trained.device,
        batch=batch_size(data.input_shape) if batch is None else batch,
        data_name=data.name,
        split_name=split,
        classes=data.classes,
        views=trained.views,
        predictor=predictor,
        groups=groups_of(data, split),
    )


def groups_of(data: Dataset, split: str) -> Sequence[str]:
    """The group of each sample of a split; empty where there are none."""
    facts = data.facts.get(split)
    return () if facts is None else facts.columns.get("group", ())


def evaluate_split(
    module: nn.Module,
    task: Task,
    split: Split,
    *,
    normalize: Callable[[torch.Tensor], torch.Tensor],
    device: torch.device | str,
    batch: int = 512,
    data_name: str,
    split_name: str,
    classes: tuple[str, ...],
    views: Views = "none",
    predictor: Predictor | None = None,
    progress: Callable[[int, int], None] | None = None,
    groups: Sequence[str] = (),
) -> Evaluation:
    """Measure `module`, which already is on `device`, on every sample of `split`; `module` does not change.

    `normalize` turns a batch of the split's inputs into inputs of the network. With test-time augmentation (`views`),
    the metrics also have the number of images, `views`, and the headline without augmentation, `accuracy_one_view`.
    `predictor`: how predictions are computed, plainly by default. `progress(done, total)` is called after every batch
    with numbers of samples. `groups`: the group of each sample, for intervals.
    Raises DataError for an empty split, ModelError for NaN or Inf in the predictions, UsageError for
    a batch below 1.
    """
    where = f"evaluation of the {split_name} split of {data_name}"
    if len(split) == 0:
        raise DataError(where, "no samples", "at least one", f"add samples to {split_name} or name another split")
    if batch < 1:
        raise UsageError(where, f"batch={batch}", "a batch of at least 1", "batch=512")
    predictor = predictor or plain_predictor(module)
    place, chosen = torch.device(device), predictor

    def run(samples: int) -> _SplitPredictions:
        return _run(chosen, task, split, normalize, place, samples, views, progress)

    measured, decoded, alone, brightness = in_halves(batch, run)
    loss = float(measured.compute()["loss"])
    _require_finite(where, decoded, loss, len(split))
    metrics: dict[str, Any] = {"n": len(split), "loss": loss, **task.measure(decoded, split.all_targets())}
    metrics |= task.metrics_of_loss(loss)
    if views != "none":
        metrics[f"{task.headline}_one_view"] = task.measure(alone, split.all_targets())[task.headline]
        metrics["views"] = VIEW_COUNTS[views]
    predictions, targets = as_arrays(decoded), as_arrays(split.all_targets())
    drawn_with = tuple(groups) if len(groups) == len(split) else ()
    confusion, per_class = task.table_of_classes(predictions, targets, drawn_with)
    metrics |= task.interval(predictions, targets, drawn_with)
    return Evaluation(
        data=data_name,
        split=split_name,
        task=task.name,
        classes=tuple(classes),
        n=len(split),
        metrics=metrics,
        decoded=predictions,
        targets=targets,
        ids=split.ids.cpu().numpy(),
        confusion=confusion,
        per_class=per_class,
        inference=predictor.plan,
        brightness=brightness,
        shown=task.metrics,
        sampled=task.remembered(measured),
        predicted=task.predicted(predictions),
        classes_here=task.classes_of_split(targets),
        counted=task.counted,
        groups=drawn_with,
    )


class _SplitPredictions(NamedTuple):
    """The predictions for all samples of a split."""

    measured: Accumulator
    """The metrics."""
    decoded: Any
    """The decoded predictions."""
    alone: Any
    """Those without test-time augmentation; None where `decoded` has none either."""
    brightness: NDArray[np.float32] | None
    """(N,) mean of each image's bytes; None where inputs are not images."""


def _run(
    predictor: Predictor,
    task: Task,
    split: Split,
    normalize: Callable[[torch.Tensor], torch.Tensor],
    device: torch.device,
    batch: int,
    views: Views,
    progress: Callable[[int, int], None] | None,
) -> _SplitPredictions:
    measured = task.collector(len(split))
    predictions, single, brightness = [], [], []
    done = 0
    with inference(predictor) as network, closing(_read(split, batch, device)) as parts:
        for part in parts:
            targets = part.targets.to(device)
            with_targets = partial(task.outputs_for, network, targets=targets)
            inputs = normalize(part.inputs.to(device))
            outputs, alone = outputs_of_views(with_targets, inputs, views, task.move_back)
            measured.update(outputs, targets)
            if views != "none":
                single.append(on_cpu(task.decode(alone)))
            predictions.append(on_cpu(task.decode(outputs)))
            if part.inputs.dtype == torch.uint8 and part.inputs.ndim == 4:
                brightness.append(_mean_bytes(part.inputs))
            done += len(targets)
            if progress is not None:
                progress(done, len(split))
    # Outside of inference mode, so that the results are ordinary tensors.
    bright = torch.cat(brightness).numpy() if brightness else None
    return _SplitPredictions(measured, joined(predictions), joined(single) if single else None, bright)


def _mean_bytes(images: torch.Tensor) -> torch.Tensor:
    """(N,) float32 of (N, C, H, W) uint8; integer sums need no copy of the batch in another type."""
    return (images.sum((1, 2, 3)) / images[0].numel()).float().cpu()


def _read(split: Split, batch: int, device: torch.device) -> Generator[Batch, None, None]:
    """The batches of the split in order; those that are not in memory are read, and sent to the device, while the
    network computes."""
    if isinstance(split.inputs, StoredInputs):
        inputs = split.inputs.to(device)
        split = replace(split, inputs=inputs, targets=inputs if split.of_inputs else split.targets)
    yield from batches(split, batch)


def _require_finite(where: str, decoded: Any, loss: float, samples: int) -> None:
    floating = [part for part in leaves(decoded) if part.is_floating_point()]
    bad = max((int((~part.reshape(len(part), -1).isfinite()).any(1).sum()) for part in floating), default=0)
    if bad or not np.isfinite(loss):
        raise ModelError(
            where,
            f"NaN or Inf in the predictions for {bad} of {several(samples, 'sample')}, loss {loss}",
            "finite predictions",
            "train again with a tenth of the learning rate, or load the best checkpoint instead of the last",
        )


def plan_evaluation(
    trained: Trained,
    data: Dataset,
    splits: Sequence[str],
    *,
    batch: int | None = None,
    mode: PlanMode = "auto",
    recorded: InferencePlan | None = None,
    trained_in: Precision | None = None,
) -> Predictor:
    """The fastest way to compute the predictions for all samples of `splits` together.

    Its predictions are compared with those of plain fp32 on evenly spaced samples of validation, so that test data
    choose nothing; without validation, on samples of the largest split that the network was not trained on. `batch` as
    in `evaluate_trained`. `recorded`: how the run computed its metrics for these data; they are computed again in the
    same way. `trained_in`: the precision of the training that has just ended.
    """
    splits = splits if recorded is None else tuple(data.splits)  # those that `recorded` was chosen for
    compared = [name for name in splits if name == "val"] or [name for name in splits if name != "train"] or ["train"]
    largest = max((data.splits[name] for name in compared), key=len)

    def spaced(count: int) -> torch.Tensor:
        count = min(count, len(largest))
        return largest.inputs[torch.arange(count) * len(largest) // max(1, count)]

    total = sum(len(data.splits[name]) for name in splits)
    precision, own = trained_in or "fp32", recorded is not None
    return trained.planned(spaced, total, batch=batch, mode=mode, recorded=recorded, own=own, trained_in=precision)
