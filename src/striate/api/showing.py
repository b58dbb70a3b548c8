"""Pictures of what a network does: the record of each, and the figure that shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

from striate.api.announcing import Announce
from striate.api.keywords import known_keywords
from striate.api.subject import Subject, find_subject
from striate.data.dataset import Split
from striate.errors import UsageError
from striate.models.preserved_state import same_random_state
from striate.training.trained import Trained
from striate.visualize.canvas import save_figure
from striate.visualize.inside.passes import batches, choose_layer, choose_unit, layer_outputs
from striate.wording import several

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from striate.api.training import Run
    from striate.visualize.inside.features import Features
    from striate.visualize.inside.rectified import Rule

What = Literal[
    "filters", "maps", "patches", "deconvnet", "guided-backprop", "maximize", "invert", "embedding", "correlation",
    "tuning", "field", "landscape", "statistics",
]  # fmt: skip
WHATS: tuple[str, ...] = get_args(What)

_DPI, _PHOTO_DPI = 100, 80
_OF_RUNS = ("patches", "embedding", "correlation", "landscape", "statistics")
_LONG = (
    "correlation",
    "deconvnet",
    "embedding",
    "guided-backprop",
    "invert",
    "landscape",
    "maximize",
    "patches",
    "tuning",
)
_DRAWN = ("patches", "deconvnet", "guided-backprop", "field")
_PHOTOS = ("patches", "deconvnet", "guided-backprop")
_EMBEDDED, _CORRELATED, _SEARCHED = 1000, 256, 1000
_LANDSCAPE, _WORK = 512, 4e11
"""Largest number of samples, and of multiply–accumulates of all their forward passes: about a minute."""


@dataclass(frozen=True, eq=False)
class Shown:
    """One picture, and the numbers that it is drawn from."""

    what: str
    """What it shows, as an argument of `striate show`."""
    model: str
    """The network by name."""
    words: str
    """What the picture shows, in a line."""
    record: Any
    """The numbers."""
    figure: Figure
    """The figure, drawn from the record."""
    notes: tuple[str, ...] = ()
    """What was decided, such as random weights, a sentence each."""

    def save(self, path: str | Path) -> Path:
        """Write the picture as a PNG, or as an SVG if `path` has that suffix. Raises RunError where it cannot be
        written."""
        return save_figure(self.figure, path, _PHOTO_DPI if self.what in _PHOTOS else _DPI)

    def to_json(self) -> dict[str, Any]:
        """The record, with the picture's name, network, words and notes."""
        return {"what": self.what, "model": self.model, "words": self.words, "notes": list(self.notes),
                **self.record.to_json()}  # fmt: skip


@dataclass(frozen=True)
class _Request:
    subject: Subject
    image: str | Path | None
    layer: str | None
    unit: int | None
    position: tuple[int, ...] | None = None


@known_keywords
def show(
    model: str | Path | Run | Trained,
    what: What,
    image: str | Path | None = None,
    *,
    layer: str | None = None,
    unit: int | None = None,
    position: tuple[int, ...] | None = None,
    input_shape: tuple[int, ...] | None = None,
    outputs: int | None = None,
    announce: Announce | None = None,
) -> Shown:
    """Draw what a network does.

    `model`: a run, or, for pictures that need no data, anything that `build` takes, with random weights, which a note
    mentions. `what`: see `striate show --help`. `image`: a picture file or `mnist5k#17`; by default the first
    validation sample of the run. `layer`: a name as `striate summary` lists it; `unit`: its number, from 0; each has a
    default. `position`: (row, column) in the map of a unit, from 0, that is projected; by default the strongest of each
    image. `input_shape`, `outputs`: of a network without a run, as `build` takes them.
    Data of a run are those of its validation split. The network and all random states stay as they are.
    Raises StriateError.
    """
    if what not in _SHOWS:
        raise UsageError("WHAT", repr(what), f"one of: {', '.join(WHATS)}", "striate show RUN filters")
    say = announce or (lambda _: None)
    with same_random_state():
        subject = find_subject(model, input_shape, say, outputs=outputs)
        # Errors that no other option fixes come first.
        if what in _OF_RUNS or (what in ("deconvnet", "guided-backprop") and image is None):
            subject.require_run(what)
        if what in ("landscape", "statistics") and subject.player is not None:
            got = f"{what}, for a network that learned from rewards"
            raise UsageError("WHAT", got, "a run that learned from samples", "striate show RUN embedding")
        if what in _DRAWN:
            subject.require_drawn(what)
    options = (("image", image), ("layer", layer), ("unit", unit), ("position", position))
    for option, given in options:
        if given is not None and option not in _OPTIONS[what]:
            name = "IMAGE" if option == "image" else f"--{option}"
            given = ",".join(map(str, given)) if isinstance(given, tuple) else given
            typed = given if option == "image" else f"{name} {given}"
            raise UsageError(
                name, f"{given}, for {what}", "no such option: it has no effect there", f"leave out {typed}"
            )
    with same_random_state():
        request = _Request(subject, image, layer, unit, position)
        if what in ("maximize", "tuning"):
            _check_unit(request, what)
        if what in _LONG:
            say(f"{what}: this may take a minute or two")
        return _SHOWS[what](request)


def _check_unit(request: _Request, what: str) -> None:
    """Raise UsageError for an unknown layer, or a unit that it does not have, before minutes are spent."""
    if request.layer is None and request.unit is None:
        return
    outputs = layer_outputs(request.subject.module, torch.zeros(1, *request.subject.input_shape))
    if request.layer is not None:
        could_be = [choose_layer(outputs, request.layer)]
    else:
        could_be = [outputs[-1]] if what == "maximize" else [out for out in outputs if out.activation] or [*outputs]
    counts = [out.values.shape[1] for out in could_be]
    if request.unit is not None and not 0 <= request.unit < max(counts):
        choose_unit(request.unit, counts[0], could_be[0].name)


def _shown(request: _Request, what: str, words: str, record: Any, figure: Figure) -> Shown:
    subject = request.subject
    return Shown(what, subject.name, words, record, figure, (subject.note,) if subject.note else ())


def _filters(request: _Request) -> Shown:
    from striate.visualize.inside.filters import filter_words, filters_figure, find_filters, noise_words

    subject = request.subject
    bank = find_filters(subject.module, request.layer, unit=request.unit, input_shape=subject.input_shape)
    figure = filters_figure(bank, title=_title(subject, f"filters of {bank.layer}"))
    noise = "" if subject.note else noise_words(bank)  # noisy filters are normal in an untrained network
    return _shown(request, "filters", f"{bank.layer}: {filter_words(bank)} {noise}".rstrip(), bank, figure)


def _maps(request: _Request) -> Shown:
    from striate.visualize.inside.feature_maps import ACROSS, MOST, feature_maps, feature_maps_figure

    subject = request.subject
    raw, name = subject.input(request.image)
    most = MOST if request.layer else ACROSS
    found = feature_maps(subject.module, subject.normalized(raw[None])[0], request.layer, most=most)
    of = request.layer or "every layer"
    figure = feature_maps_figure(found, title=_title(subject, f"feature maps of {of}"), image=subject.picture(raw))
    return _shown(request, "maps", f"feature maps of {of} for {name}", found, figure)


def _patches(request: _Request) -> Shown:
    from striate.visualize.inside.patches import EACH, OF_ONE, exciting_patches, patches_figure, patches_words

    subject = request.subject
    split, x, of = subject.samples(_SEARCHED)
    units = None if request.unit is None else [request.unit]
    found = exciting_patches(subject.module, x, request.layer, units=units, each=EACH if units is None else OF_ONE)
    labels = _labels(subject, split)
    title = _title(subject, of)
    figure = patches_figure(found, split.inputs[:].numpy(), title=title, labels=labels)
    return _shown(request, "patches", f"{patches_words(found)} {of}", found, figure)


def _projections(rule: Rule, request: _Request) -> Shown:
    from striate.visualize.inside.projections import project_units, projections_figure

    subject = request.subject
    if request.image is None:
        split, x, of = subject.samples(_SEARCHED)
        raw, labels = split.inputs[:], _labels(subject, split)
    else:
        one, of = subject.input(request.image)
        raw, labels = one[None], []
        x = subject.normalized(raw)
    units = None if request.unit is None else [request.unit]
    found = project_units(subject.module, x, rule, request.layer, units=units, position=request.position)
    figure = projections_figure(found, raw.numpy(), title=_title(subject, of), labels=labels)
    of_units = several(len(found.patches.units), "unit")
    words = f"{found.patches.layer}: projections of {of_units} by {rule}, beside the patches that activate them. {of}"
    return _shown(request, rule, words, found, figure)


def _maximize(request: _Request) -> Shown:
    from striate.visualize.inside.synthesis import maximize_units, maximized_figure

    subject = request.subject
    units = None if request.unit is None else [request.unit]
    found = maximize_units(subject.module, subject.input_shape, subject.value_range(), request.layer, units=units)
    title = _title(subject, f"images that maximize units of {found.layer}")
    figure = maximized_figure(found, title=title, names=_unit_names(request))
    words = f"{found.layer}: images that maximize {several(len(found.units), 'unit')}"
    return _shown(request, "maximize", words, found, figure)


def _unit_names(request: _Request) -> tuple[str, ...]:
    """The names of the units of the last layer, where they are scores of classes or values of actions; else none."""
    subject = request.subject
    task = None if subject.trained is None else subject.trained.task
    if request.layer is not None or (task is not None and (task.gives_vector or task.needs == "pyramid")):
        return ()
    last = layer_outputs(subject.module, torch.zeros(1, *subject.input_shape))[-1]
    return subject.classes if last.values.shape[1] == len(subject.classes) else ()


def _invert(request: _Request) -> Shown:
    from striate.visualize.inside.synthesis import invert_layers, inverted_figure

    subject = request.subject
    raw, name = subject.input(request.image)
    x = subject.normalized(raw[None])[0]
    found = invert_layers(subject.module, x, subject.value_range(), request.layer)
    low, high = (np.array(end).reshape(-1, *[1] * (x.ndim - 1)) for end in subject.value_range())
    image = ((x.numpy() - low) / (high - low)).astype(np.float32)
    figure = inverted_figure(found, image, title=_title(subject, "images with the same features in each layer"))
    return _shown(
        request,
        "invert",
        f"images with the same features as {name}, for {several(len(found.layers), 'layer')}",
        found,
        figure,
    )


def _embedding(request: _Request) -> Shown:
    from striate.visualize.inside.embedding import BothEmbeddings, embed_features, embedding_figure

    subject = request.subject
    if subject.player is not None:
        return _states(request)
    split, x, of = subject.samples(_EMBEDDED)
    features = _features(subject, split, x, request.layer)
    both = BothEmbeddings(
        embed_features(features.values, features.source, method="pca"),
        embed_features(features.values, features.source, method="tsne"),
        tuple(split.ids.tolist()),
        tuple(split.targets.tolist()) if _has_classes(subject, split) else (),
    )
    figure = embedding_figure(
        (both.pca, both.tsne),
        title=_title(subject, of),
        labels=split.targets.numpy() if both.labels else None,
        classes=subject.classes if both.labels else (),
        images=split.inputs[:].numpy() if subject.picture(split.inputs[0]) is not None else None,
    )
    words = f"{of}, by {features.source}"
    return _shown(request, "embedding", words, both, figure)


def _features(subject: Subject, split: Split, x: torch.Tensor, layer: str | None) -> Features:
    """The features of a layer; without a layer, the embeddings of a network that gives embeddings."""
    from striate.evaluation.similarity.vectors import sample_features
    from striate.visualize.inside.features import Features, find_features

    trained = subject.trained
    if trained is None or not trained.task.gives_vector:
        return find_features(subject.module, x, layer)
    if layer is None:
        parts = [sample_features(trained, part) for part in batches(split.inputs[:])]
        return Features(np.concatenate([part.values for part in parts]), parts[0].source)
    try:
        return find_features(subject.module, x, layer)
    except UsageError as error:
        error.remedy = "leave out --layer to show the embeddings themselves"
        raise


def _states(request: _Request) -> Shown:
    from striate.tasks.control.inside import states_figure
    from striate.training.rewards.player import map_player

    assert request.subject.player is not None
    states = request.subject.states(_EMBEDDED)
    found = map_player(request.subject.player, states, request.layer)
    figure = states_figure(found, states.pictures, title=_title(request.subject, "states of games"))
    return _shown(request, "embedding", found.words, found, figure)


def _correlation(request: _Request) -> Shown:
    from striate.visualize.inside.correlation import correlate_maps, correlation_figure

    subject = request.subject
    _, x, of = subject.samples(_CORRELATED)
    found = correlate_maps(subject.module, x, request.layer)
    figure = correlation_figure(found, title=_title(subject, of))
    words = f"{found.verdict} {found.chosen.verdict}. {of}"
    return _shown(request, "correlation", words, found, figure)


def _tuning(request: _Request) -> Shown:
    from striate.visualize.inside.tuning import tune, tuning_figure, tuning_words

    subject = request.subject
    units = None if request.unit is None else [request.unit]
    found = tune(subject.module, subject.input_shape, subject.value_range(), request.layer, units=units)
    figure = tuning_figure(found, title=_title(subject, f"orientation tuning, {found.layer}"))
    return _shown(request, "tuning", tuning_words(found), found, figure)


def _field(request: _Request) -> Shown:
    from striate.visualize.inside.fields import fields_figure, find_fields

    subject = request.subject
    raw, name = subject.input(request.image)
    image = subject.picture(raw)
    assert image is not None, "required before"
    found = find_fields(subject.module, subject.input_shape, request.layer)
    figure = fields_figure(found, image, title=_title(subject, "receptive fields"))
    return _shown(request, "field", f"{found.words}; drawn on {name}", found, figure)


def _landscape(request: _Request) -> Shown:
    from striate.account.summarize import observe
    from striate.visualize.inside.landscape import LINE, PLANE, landscape_figure, landscape_words, loss_landscape

    subject = request.subject
    macs = observe(subject.module, subject.input_shape).macs
    most = int(_WORK / (max(1, macs) * (2 * LINE + PLANE**2)))
    x, targets, of = subject.training_samples(max(32, min(_LANDSCAPE, most)))
    found = loss_landscape(subject.module, x, targets, subject.task.loss)
    figure = landscape_figure(found, title=_title(subject, of))
    return _shown(request, "landscape", f"{landscape_words(found)} {of}", found, figure)


def _statistics(request: _Request) -> Shown:
    from striate.visualize.signal_figure import read_statistics, signal_figure

    subject = request.subject
    found = read_statistics(subject.require_run("statistics"))
    figure = signal_figure(found.start, found.end, title=_title(subject, "signal and gradient by layer"))
    return _shown(request, "statistics", found.words, found, figure)


def _labels(subject: Subject, split: Split) -> list[str]:
    return [subject.classes[k] for k in split.targets.tolist()] if _has_classes(subject, split) else []


def _has_classes(subject: Subject, split: Split) -> bool:
    return bool(subject.classes) and split.targets.ndim == 1


def _title(subject: Subject, text: str) -> str:
    return f"{subject.name}: {text}"


_SHOWS: dict[str, Callable[[_Request], Shown]] = {
    "filters": _filters,
    "maps": _maps,
    "patches": _patches,
    "deconvnet": partial(_projections, "deconvnet"),
    "guided-backprop": partial(_projections, "guided-backprop"),
    "maximize": _maximize,
    "invert": _invert,
    "embedding": _embedding,
    "correlation": _correlation,
    "tuning": _tuning,
    "field": _field,
    "landscape": _landscape,
    "statistics": _statistics,
}
_OPTIONS: dict[str, tuple[str, ...]] = {
    "filters": ("layer", "unit"),
    "maps": ("image", "layer"),
    "patches": ("layer", "unit"),
    "deconvnet": ("image", "layer", "unit", "position"),
    "guided-backprop": ("image", "layer", "unit", "position"),
    "maximize": ("layer", "unit"),
    "invert": ("image", "layer"),
    "embedding": ("layer",),
    "correlation": ("layer",),
    "tuning": ("layer", "unit"),
    "field": ("image", "layer"),
    "landscape": (),
    "statistics": (),
}
