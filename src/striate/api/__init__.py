"""The public functions: each a short composition of rooms."""

from __future__ import annotations

from striate.api.measuring import baselines, evaluate
from striate.api.networks import build, load
from striate.api.news import announcer
from striate.api.searching import find_learning_rate, sweep
from striate.api.training import Run, resume, train, train_config

__all__ = [
    "Run",
    "announcer",
    "baselines",
    "build",
    "evaluate",
    "find_learning_rate",
    "load",
    "resume",
    "sweep",
    "train",
    "train_config",
]
