"""Exciting patches and made images: planted marks are found, and a unit answers as is said."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from looked_at import SHAPE, inputs, network
from torch import nn

from striate.errors import DataError, UsageError
from striate.visualize.inside.fields import find_geometries
from striate.visualize.inside.patches import cut, exciting_patches, patches_figure
from striate.visualize.inside.synthesis import invert_layers, inverted_figure, maximize_units, maximized_figure

RANGE = ((-2.0,) * 3, (2.0,) * 3)


def corner_finder() -> nn.Sequential:
    """Its first unit answers to a bright dot: of 3 × 3 pixels, moved on by 2, through two layers."""
    module = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2), nn.ReLU(), nn.Conv2d(2, 2, 1), nn.ReLU())
    with torch.no_grad():
        for part in (module[0], module[2]):
            part.weight.zero_()
            part.bias.zero_()
        module[0].weight[0, 0, 1, 1] = 1
        module[2].weight[0, 0] = 1
    return module


def test_patches_are_where_the_mark_is() -> None:
    x = torch.zeros(5, 1, 15, 15)
    for k, (row, column) in enumerate([(1, 1), (7, 3), (13, 13), (5, 9)]):
        x[k, 0, row, column] = k + 1.0
    found = exciting_patches(corner_finder(), x, each=4)
    (unit,) = found.units  # the other one never answers
    assert (found.layer, found.silent, found.sight.size) == ("3", 1, (3, 3))
    assert (unit.unit, unit.samples, unit.values) == (0, (3, 2, 1, 0), (4.0, 3.0, 2.0, 1.0))
    assert unit.boxes == (((4, 3), (8, 3)), ((12, 3), (12, 3)), ((6, 3), (2, 3)), ((0, 3), (0, 3)))
    images = (x * 60).to(torch.uint8).numpy()
    for sample, box in zip(unit.samples, unit.boxes, strict=True):
        part = cut(images[sample], box)
        assert part[0, 1, 1] == 60 * (sample + 1)
        assert (part > 0).sum() == 1
    alone = patches_figure(found, images, title="t", labels=["a"] * 5)
    alone.canvas.draw()
    words = " ".join(alone.get_supxlabel().split())
    assert "a unit; highest activations of unit 0 on 5 samples." in words
    assert words.endswith("Unit 0: class a in 4 of 4.")
    two = exciting_patches(corner_finder(), x, units=[0, 1], each=4)
    figure = patches_figure(two, images, title="t", labels=["a long class name"] * len(images))
    figure.canvas.draw()
    assert figure.axes[0].get_ylabel().endswith("\nclass a long clas…\nin 4 of 4")
    assert figure.axes[0].yaxis.label.get_window_extent().x0 >= 0, "not cut off"


def test_what_lies_beyond_the_border_is_gray() -> None:
    part = cut(np.zeros((1, 4, 4), np.uint8), ((-1, 3), (2, 3)))
    np.testing.assert_array_equal(part[0], [[160] * 3, [0, 0, 160], [0, 0, 160]])


@pytest.mark.parametrize("layer", [None, "0", "8"])
def test_only_what_a_unit_sees_changes_it(layer: str | None) -> None:
    module, x = network().eval(), inputs(20)
    found = exciting_patches(module, x, layer, each=3)
    with torch.no_grad():
        for unit in found.units:
            for sample, value, position, box in zip(unit.samples, unit.values, unit.positions, unit.boxes, strict=True):
                hidden = torch.randn(SHAPE)
                (top, high), (left, wide) = box
                seen = (slice(None), slice(max(top, 0), top + high), slice(max(left, 0), left + wide))
                hidden[seen] = x[sample][seen]
                last = int(found.layer)
                answer = module[: last + 1](hidden[None])[(0, unit.unit, *position)]
                torch.testing.assert_close(float(answer), value, rtol=1e-4, atol=1e-4)


def test_sights_have_the_names_of_layers() -> None:
    geometries = find_geometries(network(), SHAPE)
    assert geometries["0"].box((2, 3)) == ((2, 3), (3, 3))
    assert geometries["3"].box((1, 1)) == ((2, 4), (2, 4))
    assert geometries["8"].whole


def test_units_answer_more_to_their_images() -> None:
    module = network()
    for layer in (None, "6"):
        found = maximize_units(module, SHAPE, RANGE, layer, steps=30)
        # One whose activation is silent has no gradient to follow.
        alive = [k for k, before in enumerate(found.before) if layer is None or before > 0]
        assert alive
        assert all(found.after[k] > found.before[k] for k in alive)
        assert (found.images.min() >= 0, found.images.max() <= 1) == (True, True)
    again = maximize_units(module, SHAPE, RANGE, "6", steps=30)
    np.testing.assert_array_equal(again.images, found.images)
    maximized_figure(found, title="t").canvas.draw()


@pytest.mark.slow
def test_the_first_layer_knows_the_image() -> None:
    module = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.Flatten(), nn.Linear(12 * 144, 2))
    x = 0.5 * inputs()[0].clamp(-3, 3)
    found = invert_layers(module, x, RANGE, steps=300)
    assert found.layers == ("0", "2")
    assert found.errors[0] < 0.02
    image = ((x.numpy() + 2) / 4).astype(np.float32)
    assert np.corrcoef(image.ravel(), found.images[0].ravel())[0, 1] > 0.9
    inverted_figure(found, image, title="t").canvas.draw()


def test_wrong_requests() -> None:
    with pytest.raises(UsageError, match="0 to 3"):
        maximize_units(network(), SHAPE, RANGE, units=[4])
    with pytest.raises(DataError, match="5 features"):
        maximize_units(nn.Linear(5, 2), (5,), RANGE)
    with pytest.raises(DataError, match=r"5 features(.|\n)*striate show mnist-cnn invert mnist5k#17"):
        invert_layers(nn.Linear(5, 2), torch.zeros(5), RANGE)
    module = nn.Conv2d(3, 2, 3)
    one, batch = (invert_layers(module, x, RANGE, steps=2) for x in (torch.ones(3, 6, 6), torch.ones(1, 3, 6, 6)))
    np.testing.assert_array_equal(batch.images, one.images)
    with pytest.raises(DataError, match="images"):
        exciting_patches(nn.Linear(5, 2), torch.zeros(3, 5))


def test_signals_and_volumes_are_drawn() -> None:
    for shape, conv in (((2, 20), nn.Conv1d(2, 3, 3)), ((1, 5, 6, 7), nn.Conv3d(1, 3, 3))):
        ends = ((0.0,) * shape[0], (1.0,) * shape[0])
        maximized_figure(maximize_units(conv, shape, ends, steps=2), title="t").canvas.draw()
