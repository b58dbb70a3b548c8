"""The training that a page requests, and its command."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from striate.account.observing.shapes_only import shapes_only
from striate.data.sources.named import catalogue, place
from striate.errors import NoInputShape, RunError, UsageError
from striate.lab.network_names import LONGEST, RUN, network_name
from striate.lab.problems import LABELS
from striate.lab.workbench import Lab
from striate.models.build import build_model
from striate.models.layer_strings.layer_string import parse_layers
from striate.runs.directory import open_run
from striate.training.config_file import config_from_yaml
from striate.wording import several

if TYPE_CHECKING:
    from striate.training.trained import Trained

RECIPES = ("standard", "quick", "speedrun")


@dataclass(frozen=True)
class Source:
    """Data that a page may name."""

    key: str
    """Name in addresses."""
    title: str
    """Name for readers."""
    source: str
    """The argument of the command line."""
    input: str = ""
    """Shape of an input (`1x28x28`); empty where it is not known."""
    outputs: int | None = None
    """Number of classes; None where there are none."""


@dataclass(frozen=True)
class TrainingRequest:
    """A training with the fields that are filled in; `striate train` decides those that are None."""

    source: Source
    """The data."""
    model: str | None = None
    """A name of the zoo or a layer string."""
    epochs: int | None = None
    """Not together with `minutes`."""
    minutes: float | None = None
    """Not together with `epochs`."""
    recipe: str | None = None
    """A recipe by name."""
    lr: float | None = None
    """Peak learning rate."""

    def arguments(self, out: Path) -> list[str]:
        """The arguments of `striate train`."""
        given: dict[str, object] = {"--model": self.model, "--epochs": self.epochs, "--minutes": self.minutes}
        given |= {"--recipe": self.recipe, "--lr": self.lr, "--out": out}
        return [self.source.source, *(f"{name}={value}" for name, value in given.items() if value is not None)]


def sources(run: Path | None, trained: Trained | None = None) -> tuple[Source, ...]:
    """The data that a page may name: those of the run that the lab was opened with, first, and named data on this
    machine. `trained` is the network of the run."""
    named = tuple(
        Source(info.name, info.name, info.name, _written(info.shape), len(info.classes) or None)
        for info in catalogue()
        if place(info.name) is not None
    )
    return _of_run(run, trained, named) + named


def _written(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _of_run(run: Path | None, trained: Trained | None, named: tuple[Source, ...]) -> tuple[Source, ...]:
    if run is None:
        return ()
    try:
        source = config_from_yaml(open_run(run).config).data.source
    except RunError:  # a lone checkpoint
        return ()
    if any(source == other.source for other in named):
        return ()
    title = f"{Path(source).name}, the data of {run.name}"
    if trained is None:
        return (Source("run", title, source),)
    return (Source("run", title, source, _written(trained.preparation.input_shape), len(trained.classes) or None),)


def read_request(fields: Mapping[str, Any], lab: Lab) -> TrainingRequest:
    """The training for the fields `data`, `model`, `epochs`, `minutes`, `recipe` and `lr` of a page; `striate train`
    decides empty ones. Raises UsageError; ModelError for a network that is named by a path."""
    key = _text(fields, "data") or "mnist5k"
    offered = sources(lab.run)
    source = next((one for one in offered if one.key == key), None)
    if source is None:
        expected = "data with a name that are on this machine, or those of the run that the lab was opened with"
        raise UsageError("data", repr(key[:80]), expected, f"one of: {', '.join(one.key for one in offered)}")
    epochs, minutes = _number(fields, "epochs", 100_000), _number(fields, "minutes", 10_000)
    if epochs is not None and minutes is not None:
        raise UsageError("budget", "both epochs and minutes", "one of them", "leave out minutes")
    if epochs is not None and epochs != int(epochs):
        raise UsageError("epochs", f"{epochs:g}", "a whole number", f"{math.ceil(epochs)}")
    recipe = _text(fields, "recipe") or None
    if recipe not in (None, *RECIPES):
        raise UsageError("recipe", repr(recipe[:80]), f"one of: {', '.join(RECIPES)}", "standard")
    model = _text(fields, "model")
    return TrainingRequest(
        source,
        None if model in ("", "auto") else _network(model, lab),
        None if epochs is None else int(epochs),
        minutes,
        recipe,
        _number(fields, "lr", 1000),
    )


def _network(text: str, lab: Lab) -> str:
    """The network that a page names, parsed as far as possible without data. Raises ModelError, LayerStringError."""
    name = network_name(lab, text)
    if text == RUN:
        return name
    try:
        with torch.device("meta"), shapes_only():
            build_model(name)
    except NoInputShape:
        parse_layers(name)
    return name


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise UsageError(name, f"{type(value).__name__}", "text", f'"{name}": "…"')
    if len(value or "") > LONGEST:
        got = several(len(value or ""), "character")
        raise UsageError(name, got, f"at most {LONGEST:,}", "repeat layers: 3*[conv(16,3) relu]")
    return (value or "").strip()


def _number(fields: Mapping[str, Any], name: str, most: int) -> float | None:
    value = fields.get(name)
    if value is None or value == "":
        return None
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 < number <= most:
        field = LABELS.get(name, name)
        raise UsageError(field, repr(value)[:80], f"a number above 0, at most {most:,}", f"leave {field} empty")
    return number
