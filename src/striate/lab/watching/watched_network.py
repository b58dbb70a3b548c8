"""Networks at work on an image: the module with its preprocessing, and its forward passes, computed once and cached."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from striate.account.observing.shapes_only import shapes_only
from striate.data.dataset import Preparation
from striate.data.media.every_medium import PICTURE, medium_of
from striate.data.media.image.pictures import prepare_image
from striate.data.normalize import Normalization
from striate.errors import ModelError, UsageError
from striate.lab.network_names import RUN, input_shape, network_name
from striate.lab.page_images import as_image
from striate.lab.watching.pass_recorder import LARGEST_PASS, run_pass
from striate.lab.watching.step import Step, softmax_step, steps_of
from striate.models.build import build_model
from striate.models.preserved_state import same_random_state
from striate.models.registry import MODELS
from striate.tasks.marks import PositionMap
from striate.tasks.task import Task
from striate.tasks.views import VIEW_COUNTS
from striate.visualize.picture import Picture
from striate.wording import several, show_shape

if TYPE_CHECKING:
    from striate.lab.page_images import NamedImage
    from striate.lab.workbench import Lab

MOST_PARAMETERS = 160_000_000
"""Largest number of parameters of a network that is built for a page: VGG-19 has 144 million."""


@dataclass(frozen=True, eq=False)
class WatchedNetwork:
    """A network, how a picture becomes its input, and what its outputs mean."""

    name: str
    """The network by name."""
    module: nn.Module
    """Takes normalized inputs."""
    preparation: Preparation
    """How a file becomes an input."""
    normalization: Normalization
    """Mean and standard deviation of each channel."""
    classes: tuple[str, ...] = ()
    """Names of its outputs; () where they have none."""
    probable: bool = False
    """Whether the softmax of the outputs is a probability."""
    notes: tuple[str, ...] = ()
    """What a reader has to know of it, a sentence each."""
    parameters: int = 0
    """Number of parameters."""
    task: Task | None = None
    """What it was trained for; None where it was not trained."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, rows, columns) of its input."""
        channels, rows, columns = self.preparation.input_shape
        return channels, rows, columns

    def prepare(self, picture: Picture, title: str) -> np.ndarray:
        """The picture as bytes (channels, rows, columns), cut and resized as in training."""
        return prepare_image(as_image(picture), title, self.preparation)

    def normalize(self, raw: np.ndarray) -> torch.Tensor:
        """The network's input: (1, channels, rows, columns), (byte − mean) / standard deviation by channel."""
        like = next((p for p in self.module.parameters() if p.is_floating_point()), torch.empty(0))
        return self.normalization.on("cpu", 4)(torch.from_numpy(raw[None])).to(like.dtype)


def find_network(lab: Lab, model: str, shape: str, picture: Picture) -> WatchedNetwork:
    """The network that a page names (see `network_names.network_name`), for inputs of `shape` (`3x64x64`).

    Without a shape: that of the run, else the published one, else that of the run that the lab was opened with, else
    one that fits the picture. Raises ModelError.
    """
    if model.strip() == RUN and lab.run is not None and not shape.strip():
        return _of_run(lab)
    name, size = network_name(lab, model), input_shape(shape)
    if size is None:
        size = _usual_shape(lab, name, picture)
    _check_images(size)
    return _by_name(name, size)


def _of_run(lab: Lab) -> WatchedNetwork:
    trained = lab.trained
    assert trained is not None
    medium = medium_of(trained.preparation.kind)
    if not medium.shows_itself:
        got = f"a run on {medium.describe(trained.preparation.input_shape)}"
        remedy = "write a layer string or a name of the zoo instead of `run`"
        raise ModelError("the network", got, "one that takes images", remedy)
    _check_images(trained.preparation.input_shape)
    notes: tuple[str, ...] = ()
    if trained.views != "none":
        count = VIEW_COUNTS[trained.views]
        notes = (f"This run predicts with test-time augmentation, the mean of {count} versions; one is shown.",)
    targets = trained.task.diagnosed_as
    probable = targets is not None and targets.targets == "labels"
    one = probable and trained.task.needs == "vector"
    return WatchedNetwork(
        *(RUN, trained.module, trained.preparation, trained.normalization, trained.classes if one else ()),
        probable=probable,
        notes=notes,
        parameters=sum(p.numel() for p in trained.module.parameters()),
        task=trained.task,
    )


def _by_name(name: str, shape: tuple[int, ...]) -> WatchedNetwork:
    with torch.device("meta"), shapes_only():
        bare = build_model(name, shape)
    parameters = sum(p.numel() for p in bare.parameters())
    if parameters > MOST_PARAMETERS:
        got, expected = (
            several(parameters, "parameter"),
            f"at most {MOST_PARAMETERS:,}, since a page shares the machine",
        )
        raise ModelError("the network", got, expected, "a narrower one: resnet18")
    with same_random_state():
        torch.default_generator.manual_seed(0)
        module = build_model(name, shape).eval()
    count = shape[0]
    half = Normalization((127.5,) * count, (127.5,) * count)
    notes = ("Its weights are a random initialization (seed 0): it has not been trained.",)
    return WatchedNetwork(name, module, Preparation(PICTURE, shape), half, notes=notes, parameters=parameters)


def _usual_shape(lab: Lab, name: str, picture: Picture) -> tuple[int, ...]:
    info = MODELS.get(name.partition("(")[0].strip())
    if info is not None:
        return info.input_shape
    own = None if lab.run is None or lab.trained is None else lab.trained.preparation
    if own is not None and medium_of(own.kind).shows_itself:
        return own.input_shape
    return (1, 28, 28) if len(picture.channels) == 1 else (3, 64, 64)


def _check_images(shape: tuple[int, ...]) -> None:
    if len(shape) != 3 or shape[0] not in (1, 3) or math.prod(shape) > 3 * 1024 * 1024:
        expected = "1 channel (gray) or 3 (color), rows and columns, at most 1024 of each"
        raise ModelError("the input", show_shape(shape), expected, "write 3x64x64")


_MOST_NETWORKS = 3


@dataclass(frozen=True, eq=False)
class WatchedPass:
    """The forward pass of one network on one image."""

    network: WatchedNetwork
    """The network."""
    image: NamedImage
    """The image."""
    raw: np.ndarray
    """The prepared picture, (channels, rows, columns) bytes."""
    x: torch.Tensor
    """The normalized input, (1, channels, rows, columns)."""
    steps: tuple[Step, ...]
    """Its layers and the operations between them."""
    bytes: int
    """The memory that the steps hold."""
    maps: tuple[PositionMap, ...] = ()
    """What the positions of its outputs mean, where its task knows; else empty."""

    def step(self, layer: int) -> Step:
        """The step at this position. Raises UsageError."""
        if not 0 <= layer < len(self.steps):
            expected = f"0 to {len(self.steps) - 1}"
            raise UsageError("layer", str(layer), expected, "choose a layer of the list")
        return self.steps[layer]

    @property
    def probabilities(self) -> Step | None:
        """The last step if its outputs are probabilities of classes; else None."""
        last = self.steps[-1]
        return last if last.kind == "softmax" and last.maps.shape[1:] == (1, 1) else None


class CachedPasses:
    """Caches the latest networks and forward passes of one lab."""

    def __init__(self, lab: Lab) -> None:
        self._lab, self._lock = lab, threading.Lock()
        self._networks: OrderedDict[tuple[str, str, bool], WatchedNetwork] = OrderedDict()
        self._passes: OrderedDict[tuple[str, str, str], WatchedPass] = OrderedDict()

    def watched(self, model: str, shape: str, image: str) -> WatchedPass:
        """The pass of the network `model` for inputs of `shape` on the image of that name. Raises StriateError."""
        key = model.strip(), shape.strip(), image
        found = self._cached(key)
        if found is not None:  # without waiting for other computations
            return found
        named = self._lab.images.find(image)
        with self._lab.computing:
            found = self._cached(key)  # several pages may have waited for the same pass
            if found is None:
                found = _watch(self._network(key[0], key[1], named), named)
                self._add(key, found)
            return found

    def _cached(self, key: tuple[str, str, str]) -> WatchedPass | None:
        with self._lock:
            if key in self._passes:
                self._passes.move_to_end(key)
            return self._passes.get(key)

    def _network(self, model: str, shape: str, image: NamedImage) -> WatchedNetwork:
        key = (model, shape, len(image.picture.channels) == 1)
        if key not in self._networks:
            self._networks[key] = find_network(self._lab, model, shape, image.picture)
            while len(self._networks) > _MOST_NETWORKS:
                _, evicted = self._networks.popitem(last=False)
                with self._lock:  # cached passes keep the weights of their network in memory
                    for old in [key for key, cached in self._passes.items() if cached.network is evicted]:
                        del self._passes[old]
        self._networks.move_to_end(key)
        return self._networks[key]

    def _add(self, key: tuple[str, str, str], found: WatchedPass) -> None:
        with self._lock:
            self._passes[key] = found
            while len(self._passes) > 1 and sum(cached.bytes for cached in self._passes.values()) > LARGEST_PASS:
                self._passes.popitem(last=False)


def _watch(network: WatchedNetwork, image: NamedImage) -> WatchedPass:
    raw = network.prepare(image.picture, image.title)
    x = network.normalize(raw)
    recorder, output = run_pass(network.module, x)
    maps = () if network.task is None else network.task.position_maps(output)
    steps = steps_of(recorder, network.classes)
    recorder.forget()
    last = steps[-1]
    # A network that ends with a softmax needs no further step.
    several = last.maps.shape[0] > 1
    if several and last.kind not in ("softmax", "log_softmax") and (network.probable or last.output.ndim == 2):
        steps = (*steps, softmax_step(steps, network.classes))
    return WatchedPass(network, image, raw, x, steps, recorder.saved.bytes, maps)


def input_step(watched: WatchedPass) -> Step:
    """The input as a step: the channels of the image after normalization."""
    shape = tuple(watched.x.shape[1:])
    words = "The image as the network gets it: each channel minus its mean, divided by its standard deviation."
    return Step(-1, "input", "input", words, shape, shape, (), watched.x)


def step_at(watched: WatchedPass, layer: int) -> Step:
    """The step at this position; −1 is the input. Raises UsageError."""
    return input_step(watched) if layer < 0 else watched.step(layer)
