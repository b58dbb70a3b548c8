"""The network of a diagnosis, built for its training data where it is named instead of given."""

from __future__ import annotations

from time import perf_counter

import torch
from torch import nn
from torch.utils.data import TensorDataset

from striate.doctor.evidence.read_batches import Batches, read_batches
from striate.doctor.setup.preserved_state import state_preserved
from striate.doctor.setup.training_setup import TrainingSetup, make_setup, usual_step
from striate.errors import UsageError
from striate.models.build import Model, build_model
from striate.models.from_file import call_factory
from striate.models.from_run import names_run
from striate.models.preserved_state import same_random_state
from striate.models.weights.saved import load_run
from striate.tasks.every import TASKS
from striate.tasks.registry import task_class
from striate.training.trained import trained_from_dict

_SECONDS = 2.0


def built_network(model: Model, train: object, task: str) -> nn.Module:
    """The network that `model` names or makes, for the input shape of the training data and its number of classes (or
    numbers a sample), where these are known. A module is returned unchanged, and so is the random state. Raises
    StriateError."""
    if isinstance(model, nn.Module):
        return model
    setup = make_setup(nn.Identity(), train, step=usual_step, task=task)
    with state_preserved(setup):
        batches = read_batches(setup.train, perf_counter() + _SECONDS, "train")
    shape = None if batches.x is None else tuple(batches.x.shape[1:])
    outputs = _outputs(setup, batches)
    dense = True if task in TASKS and task_class(task).needs == "map" else None
    with same_random_state():
        if callable(model):  # a network with another number of outputs is diagnosed, not refused
            return call_factory(model, getattr(model, "__name__", "model"), shape, outputs)
        if names_run(str(model)) and (whole := _with_head(str(model), task)) is not None:
            return whole
        return build_model(model, shape, outputs, dense=dense)


def _with_head(run: str, task: str) -> nn.Module | None:
    """The network of a run whose task has put a head on it, whole; None of other runs. Raises UsageError where `task`
    is another one."""
    file, saved = load_run(run)
    name = saved["task"]["name"] if isinstance(saved.get("task"), dict) else ""
    if name not in TASKS:
        return None
    trained = trained_from_dict(saved, str(file), torch.device("cpu"))
    if trained.task.bare(trained.module) is trained.module:
        return None
    if task != name:
        raise UsageError("task", f"{task!r} for {run}", f"the task of the run, {name}", f'task="{name}"')
    return trained.module.train()


def _outputs(setup: TrainingSetup, batches: Batches) -> int | None:
    """The number of outputs that the targets of all samples ask for; None where it is unknown."""
    data = getattr(setup.train, "dataset", None)
    y = data.tensors[-1] if isinstance(data, TensorDataset) else batches.y if batches.whole else None
    if y is None or not y.ndim or not y.numel() or y.is_complex():
        return None
    if y.is_floating_point() or not setup.classifies:
        return {1: 1, 2: y.shape[-1]}.get(y.ndim)
    known = y[(y >= 0) & (y != (-1 if setup.unlabeled is None else setup.unlabeled))]
    one_each = y.ndim != 2 or y.shape[1] == 1
    return int(known.max()) + 1 if known.numel() and one_each else None
