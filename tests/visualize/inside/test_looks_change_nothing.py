"""Whatever looks into a network leaves it as it was, also when it fails in the middle."""

from __future__ import annotations

import pytest
import torch
from looked_at import SHAPE, Computed, Failing, Functional, Look, inputs, left_as_it_was, network
from torch import nn

from striate.errors import ModelError
from striate.visualize.inside.correlation import correlate_maps
from striate.visualize.inside.embedding import embed
from striate.visualize.inside.feature_maps import feature_maps
from striate.visualize.inside.features import find_features
from striate.visualize.inside.fields import find_fields
from striate.visualize.inside.filters import find_filters
from striate.visualize.inside.landscape import loss_landscape
from striate.visualize.inside.patches import exciting_patches
from striate.visualize.inside.projections import project_units
from striate.visualize.inside.synthesis import invert_layers, maximize_units
from striate.visualize.inside.tuning import tune

LABELS = torch.arange(8) % 4
RANGE = ((-2.0,) * 3, (2.0,) * 3)

LOOKS: dict[str, Look] = {
    "filters": lambda module: find_filters(module, input_shape=SHAPE),
    "maps": lambda module: feature_maps(module, inputs()[0]),
    "features": lambda module: find_features(module, inputs()),
    "pca": lambda module: embed(module, inputs()),
    "tsne": lambda module: embed(module, inputs(), method="tsne"),
    "patches": lambda module: exciting_patches(module, inputs()),
    "deconvnet": lambda module: project_units(module, inputs(), "deconvnet"),
    "maximize": lambda module: maximize_units(module, SHAPE, RANGE, steps=3),
    "invert": lambda module: invert_layers(module, inputs()[0], RANGE, steps=3),
    "tuning": lambda module: tune(module, SHAPE, RANGE),
    "field": lambda module: find_fields(module, SHAPE),
    "landscape": lambda module: loss_landscape(module, inputs(), LABELS, nn.functional.cross_entropy, line=3, plane=3),
    "correlation": lambda module: correlate_maps(module, inputs()),
}


@pytest.mark.each_nth(5)
@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("make", [network, Functional, Computed])
def test_looking_changes_nothing(look: str, make: type) -> None:
    module = make()
    with left_as_it_was(module):
        LOOKS[look](module)
    with torch.inference_mode(), left_as_it_was(module):
        LOOKS[look](module)


@pytest.mark.parametrize("look", [name for name in LOOKS if name != "filters"])
@pytest.mark.parametrize("calls", [0, 1])
def test_neither_does_a_look_that_fails(look: str, calls: int) -> None:
    module = Failing(network(), calls)
    with left_as_it_was(module):
        try:
            LOOKS[look](module)
        except (KeyError, ModelError):
            return
    assert calls
