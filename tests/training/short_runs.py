"""Trainings of a second, without the files and pictures of a run."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from striate.training.config import Config
from striate.training.events import Event
from striate.training.execution import execution_settings
from striate.training.loop import training_events
from striate.training.prepare import Prepared, prepare
from striate.training.request import merge_request

SMALL = "conv(6,3) relu pool(2) conv(8,3) relu fc(10)"


def asked_for(data: str = "digits", epochs: int | None = 1, **fields: object) -> Config:
    """A configuration; dots in the names of fields are written as two underscores."""
    named = {name.replace("__", "."): value for name, value in fields.items()}
    usual = {"model.name": SMALL, "augment.shift": 0} if data == "digits" else {}
    return merge_request(Config(), data=data, epochs=epochs, fields=usual | named)


def events_of(prepared: Prepared) -> Iterator[Event]:
    """The events of training, with the run's own random state."""
    with execution_settings(prepared.config):
        yield from training_events(
            prepared.state, prepared.objective, prepared.splits, prepared.config, prepared.normalize
        )


def trained(config: Config) -> Prepared:
    """Prepared and trained to its end."""
    prepared = prepare(config)
    for _ in events_of(prepared):
        pass
    return prepared


def parameters(prepared: Prepared) -> dict[str, torch.Tensor]:
    """A copy of the weights."""
    return {name: p.detach().clone() for name, p in prepared.state.module.named_parameters()}
