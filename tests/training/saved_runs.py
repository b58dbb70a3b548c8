"""Small runs that are interrupted on purpose, and what must be the same when they have gone on."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console

from striate.api import train_config
from striate.runs.checkpoint import load_checkpoint
from striate.training import session
from striate.training.config import Config
from striate.training.events import StepDone
from striate.training.request import merge_request, read_config
from striate.training.saving import Saver

NETWORK = "conv(4,3) bn relu dropout(0.3) pool(2) fc(3)"
TIMES = {"seconds", "images_per_second", "data_wait", "augment_share"}


def config_for(data: Path, epochs: int = 4, **fields: object) -> Config:
    """27 training images in batches of 8: four steps an epoch."""
    base = {"model.name": NETWORK, "batch": 8, "augment.shift": 2, "execution.plan": "plain"}
    return merge_request(read_config(None), data=str(data), epochs=epochs, fields=base | fields)


def train_quietly(config: Config, out: Path) -> None:
    """Train without a word."""
    train_config(config, out=out, console=Console(stderr=True), quiet=True)


def at_step(patch: pytest.MonkeyPatch, step: int, act: Callable[[], None]) -> None:
    """Let something happen right after a step."""
    original = session.training_events

    def events(*arguments: object, **options: object):
        for event in original(*arguments, **options):
            if isinstance(event, StepDone) and event.step == step:
                act()
            yield event

    patch.setattr(session, "training_events", events)


def save_always(patch: pytest.MonkeyPatch) -> None:
    """Let every event be a reason to save."""
    patch.setattr(Saver, "due", lambda *_, **__: True)


def assert_same_run(one: Path, two: Path) -> None:
    """The same weights, bit for bit, and the same figures of all epochs."""
    for name in ("last", "best"):
        a, b = (load_checkpoint(run / "checkpoints" / f"{name}.pt")["model"] for run in (one, two))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[k], b[k]) for k in a), name
    tables = [list(csv.DictReader((run / "metrics.csv").read_text().splitlines())) for run in (one, two)]
    rows = [[{k: v for k, v in row.items() if k not in TIMES} for row in table] for table in tables]
    assert rows[0] == rows[1]
