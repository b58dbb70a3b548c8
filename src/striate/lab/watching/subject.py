"""A network to watch, ready for images: the run's with its own preparation, or one by its name, with first weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import nn

from striate.account.observing.shapes_only import shapes_only
from striate.data.dataset import Preparation
from striate.data.media.image.pictures import prepare_image
from striate.data.normalize import Normalization
from striate.errors import ModelError
from striate.lab.networks import RUN, input_shape, network_name
from striate.models.build import build_model
from striate.models.registry import MODELS
from striate.models.untouched import same_random_state
from striate.tasks.views import VIEW_COUNTS
from striate.visualize.picture import Picture
from striate.wording import several, show_shape

if TYPE_CHECKING:
    from striate.lab.workbench import Lab

MOST_PARAMETERS = 160_000_000
"""Of a network that is built for a page: VGG-19 has 144 million."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A network, how a picture becomes its input, and what its answers mean.

    `classes` name its outputs; () where they have no names. `probable`: whether softmax of the outputs are
    probabilities. `notes` say in a sentence each what a reader has to know of it.
    """

    name: str
    module: nn.Module
    preparation: Preparation
    normalization: Normalization
    classes: tuple[str, ...] = ()
    probable: bool = False
    notes: tuple[str, ...] = ()
    parameters: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, rows, columns) of its input."""
        channels, rows, columns = self.preparation.input_shape
        return channels, rows, columns

    def prepare(self, picture: Picture, title: str) -> np.ndarray:
        """The picture as bytes (channels, rows, columns), cut and resized as in training."""
        planes = picture.values if picture.alpha is None else np.dstack([picture.values, picture.alpha])
        image = Image.fromarray(planes[..., 0] if planes.shape[2] == 1 else planes)
        return prepare_image(image, title, self.preparation)

    def normalize(self, raw: np.ndarray) -> torch.Tensor:
        """What the network gets: (1, channels, rows, columns), (byte − mean) / spread by channel."""
        like = next((p for p in self.module.parameters() if p.is_floating_point()), torch.empty(0))
        return self.normalization.on("cpu", 4)(torch.from_numpy(raw[None])).to(like.dtype)


def find_subject(lab: Lab, model: str, shape: str, picture: Picture) -> Subject:
    """The network that a page names (see `networks.network_name`), for inputs of `shape` (`3x64x64`).

    Without a shape: the run's, the published one, that of the run the lab was opened with, or one that fits the
    picture. Raises ModelError.
    """
    if model.strip() == RUN and lab.run is not None and not shape.strip():
        return _of_run(lab)
    name, asked = network_name(lab, model), input_shape(shape)
    if asked is None:
        asked = _usual_shape(lab, name, picture)
    _check_images(asked)
    return _by_name(name, asked)


def _of_run(lab: Lab) -> Subject:
    trained = lab.trained
    assert trained is not None
    if trained.preparation.kind != "image":
        got = f"a run on a {trained.preparation.kind} of {show_shape(trained.preparation.input_shape)}"
        remedy = "write a layer string or a name of the zoo instead of `run`"
        raise ModelError("the network", got, "one that takes images", remedy)
    _check_images(trained.preparation.input_shape)
    notes: tuple[str, ...] = ()
    if trained.views != "none":
        count = VIEW_COUNTS[trained.views]
        notes = (f"This run answers with the mean over {several(count, 'view')} of an image; one of them is watched.",)
    targets = trained.task.diagnosed_as
    probable = targets is not None and targets.targets == "labels"
    one = probable and trained.task.needs == "vector"
    return Subject(
        *(RUN, trained.module, trained.preparation, trained.normalization, trained.classes if one else ()),
        probable=probable,
        notes=notes,
        parameters=sum(p.numel() for p in trained.module.parameters()),
    )


def _by_name(name: str, shape: tuple[int, ...]) -> Subject:
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
    notes = ("Its weights are first ones, drawn by chance (seed 0): it has not learned anything.",)
    return Subject(name, module, Preparation("image", shape), half, notes=notes, parameters=parameters)


def _usual_shape(lab: Lab, name: str, picture: Picture) -> tuple[int, ...]:
    info = MODELS.get(name.partition("(")[0].strip())
    if info is not None:
        return info.input_shape
    if lab.run is not None and lab.trained is not None and lab.trained.preparation.kind == "image":
        return lab.trained.preparation.input_shape
    return (1, 28, 28) if len(picture.channels) == 1 else (3, 64, 64)


def _check_images(shape: tuple[int, ...]) -> None:
    if len(shape) != 3 or shape[0] not in (1, 3) or math.prod(shape) > 3 * 1024 * 1024:
        expected = "1 channel (gray) or 3 (color), rows and columns, at most 1024 of each"
        raise ModelError("the input", show_shape(shape), expected, "write 3x64x64")
