"""Experiment loggers, to which trial steps write nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any

_WRITE = (
    ("torch.utils.tensorboard.writer", "FileWriter.add_event"),
    ("tensorboardX.writer", "FileWriter.add_event"),
    ("wandb", "log"),
    ("wandb.sdk.wandb_run", "Run.log"),
    ("mlflow", "log_metric"),
    ("mlflow", "log_metrics"),
    ("comet_ml.experiment", "CometExperiment.log_metric"),
    ("comet_ml.experiment", "CometExperiment.log_metrics"),
    ("neptune.handler", "Handler.log"),
    ("neptune.handler", "Handler.append"),
    ("neptune.handler", "Handler.extend"),
    ("aim.sdk.run", "BasicRun.track"),
    ("clearml.logger", "Logger.report_scalar"),
)
"""Functions and methods that log metrics, by module."""


@contextmanager
def logs_unwritten() -> Iterator[None]:
    """While the body runs, TensorBoard, Weights & Biases, MLflow, Comet, Neptune, Aim and ClearML discard what they are
    to log."""
    put_back: list[tuple[Any, str, Any]] = []
    for module, path in _WRITE:
        *owners, name = path.split(".")
        owner: Any = reduce(lambda found, part: getattr(found, part, None), owners, sys.modules.get(module))
        if hasattr(owner, name):
            put_back.append((owner, name, getattr(owner, name)))
            setattr(owner, name, lambda *_, **__: None)
    try:
        yield
    finally:
        for owner, name, original in put_back:
            setattr(owner, name, original)
