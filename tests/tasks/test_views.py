"""The mean over views of an image, against the formula written out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from striate.tasks.classify.task import Classify
from striate.tasks.views import VIEW_COUNTS, Views, mean_over_views, outputs_of_views

UNMOVED = Classify(("a", "b", "c")).move_back
ALL: tuple[Views, ...] = ("none", "mirror", "mirrors", "mirror-shift")


def network(channels: int, height: int, width: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, 3))


def moved(images: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """Pixel by pixel; what is beyond an edge is what lies as far on this side of it."""
    height, width = images.shape[-2:]

    def source(place: int, side: int) -> int:
        place = -place if place < 0 else place
        return 2 * (side - 1) - place if place >= side else place

    rows = [source(r - down, height) for r in range(height)]
    columns = [source(c - right, width) for c in range(width)]
    return images[..., rows, :][..., columns]


def by_the_formula(module: nn.Module, x: torch.Tensor, views: Views) -> torch.Tensor:
    def both(y: torch.Tensor) -> torch.Tensor:
        return (module(y) + module(y.flip(-1))) / 2

    if views == "none":
        return module(x)
    if views == "mirror":
        return both(x)
    if views == "mirrors":
        return (both(x) + both(x.flip(-2))) / 2
    return both(x) / 2 + both(moved(x, -1, -1)) / 4 + both(moved(x, 1, 1)) / 4


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(ALL), st.integers(1, 3), st.integers(2, 7), st.integers(2, 7))
def test_answers_are_the_stated_mean(views, channels, height, width) -> None:
    module = network(channels, height, width)
    images = torch.randn(4, channels, height, width, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(mean_over_views(module, images, views, UNMOVED), by_the_formula(module, images, views))


@pytest.mark.parametrize("views", ALL)
def test_the_network_looks_as_often_as_is_stated_and_one_answer_is_that_of_the_image_alone(views) -> None:
    module, calls = network(1, 4, 5), []
    hook = module.register_forward_pre_hook(lambda _, inputs: calls.append(inputs[0].clone()))
    images = torch.randn(2, 1, 4, 5)
    outputs, alone = outputs_of_views(module, images, views, UNMOVED)
    hook.remove()
    assert len(calls) == VIEW_COUNTS[views]
    assert torch.equal(alone, module(images))
    assert (outputs is alone) == (views == "none")


@pytest.mark.parametrize("views", ALL[1:])
def test_a_mirrored_image_has_the_same_answer(views) -> None:
    module, images = network(3, 6, 6), torch.randn(5, 3, 6, 6)
    if views != "mirror-shift":
        torch.testing.assert_close(
            mean_over_views(module, images, views, UNMOVED), mean_over_views(module, images.flip(-1), views, UNMOVED)
        )
    else:  # the diagonals are not mirrored into each other: only an image that does not change when shifted
        flat = torch.randn(5, 3, 1, 1).expand(5, 3, 6, 6)
        torch.testing.assert_close(mean_over_views(module, flat, views, UNMOVED), module(flat))


def test_an_image_of_one_pixel_has_views_too() -> None:
    module, images = network(1, 1, 1), torch.randn(3, 1, 1, 1)
    torch.testing.assert_close(mean_over_views(module, images, "mirror-shift", UNMOVED), module(images))


def test_answers_at_low_precision_are_added_up_in_float32() -> None:
    module, images = network(1, 4, 4).bfloat16(), torch.randn(3, 1, 4, 4).bfloat16()
    assert mean_over_views(module, images, "mirror", UNMOVED).dtype == torch.float32
