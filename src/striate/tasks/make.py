"""From a data set and a configuration to the task; from a checkpoint back to the same task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from striate.data.dataset import TASK_OF, Dataset
from striate.data.normalize import divisor
from striate.errors import ConfigError, DataError, RunError
from striate.tasks.classify import Classify
from striate.tasks.config import TaskConfig
from striate.tasks.protocol import Task
from striate.tasks.regress import Regress
from striate.tasks.segment import IGNORED, Segment

_LOSSES = {
    "classify": ("cross-entropy", "hinge"),
    "regress": ("squared", "absolute", "huber"),
    "segment": ("cross-entropy",),
}


def make_task(data: Dataset, config: TaskConfig) -> Task:
    """The task that the annotations ask for. Raises ConfigError for a loss of another task."""
    name = TASK_OF[data.annotation]
    if config.name not in ("auto", name):
        raise ConfigError(
            "task.name",
            f"{config.name!r} for {data.name}, whose targets are {_plural(data.annotation)}",
            f"{name!r}",
            f"leave the task out, or give --task {name}",
        )
    loss = _LOSSES[name][0] if config.loss == "auto" else config.loss
    if loss not in _LOSSES[name]:
        raise ConfigError("task.loss", repr(loss), f"for {name}: {' or '.join(_LOSSES[name])}", "leave out --task.loss")
    train = data.splits["train"]
    if name == "regress":
        mean, std = train.targets.double().mean(0), train.targets.double().std(0, correction=0)
        std = divisor(mean, std)
        return Regress(data.target_names, tuple(mean.tolist()), tuple(std.tolist()), loss)
    weights = _balanced(train.targets, data.classes) if config.class_weights == "balanced" else None
    if name == "segment":
        return Segment(data.classes, weights)
    return Classify(data.classes, loss, config.label_smoothing or 0.0, weights, config.margin)


def _plural(annotation: str) -> str:
    return {"class": "classes", "number": "numbers", "mask": "masks"}[annotation]


def _balanced(targets: torch.Tensor, classes: tuple[str, ...]) -> tuple[float, ...]:
    """n / (K · n_k), scikit-learn's "balanced" heuristic (King and Zeng 2001)."""
    labeled = targets[targets != IGNORED] if targets.dtype == torch.uint8 else targets
    counts = torch.bincount(labeled.reshape(-1).long(), minlength=len(classes)).double()
    if (counts == 0).any():
        missing = [c for c, n in zip(classes, counts.tolist(), strict=True) if n == 0]
        raise DataError(
            "task.class_weights",
            f"balanced, with no training sample of {', '.join(missing[:5])}",
            "at least one training sample of each class",
            "--task.class_weights none",
        )
    return tuple((counts.sum() / (len(classes) * counts)).tolist())


def task_from_state(state: dict[str, Any], where: str) -> Task:
    """The task whose `state()` this is. Raises RunError for an unknown one."""
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in state.items() if k != "name"}
    kinds: dict[str, Callable[..., Task]] = {"classify": Classify, "regress": Regress, "segment": Segment}
    if state.get("name") in kinds:
        return kinds[state["name"]](**values)
    raise RunError(
        where,
        f"a checkpoint of the task {state.get('name')!r}",
        "classify, regress or segment",
        "use the version of striate that trained this run",
    )
