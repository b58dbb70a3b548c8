"""Test-time augmentation: the mean of the outputs for several views of an image.

Krizhevsky et al., "ImageNet classification with deep convolutional neural networks", 2012, section 4.1 (mirrored
crops); the six views of `mirror-shift` are those of Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch.nn import functional

Views = Literal["none", "mirror", "mirrors", "mirror-shift"]

VIEW_COUNTS: dict[Views, int] = {"none": 1, "mirror": 2, "mirrors": 4, "mirror-shift": 6}
"""How many versions of each image the network predicts."""

Network = Callable[[torch.Tensor], torch.Tensor]
Mirror = Callable[[bool, bool], Network]
"""The network for views that are mirrored from left to right, and upside down."""


class MoveBack(Protocol):
    """Computes outputs for the original images from those for moved images: `Task.move_back`."""

    def __call__(self, outputs: Any, *, mirrored: bool, shift: tuple[int, int], upside_down: bool = False) -> Any: ...


class View(NamedTuple):
    """One version of an image in test-time augmentation: first shifted, then mirrored."""

    weight: float
    """Weight of its outputs in the mean."""
    images: torch.Tensor
    """(N, C, H, W) the images after shift and mirroring."""
    mirrored: bool = False
    """Whether they are mirrored from left to right."""
    upside_down: bool = False
    """Whether they are mirrored from top to bottom."""
    shift: tuple[int, int] = (0, 0)
    """Pixels that they are moved down and right."""


def mean_over_views(
    network: Network, images: torch.Tensor, views: Views, move_back: MoveBack, mirror: Mirror | None = None
) -> torch.Tensor:
    """Outputs (N, K) for images (N, C, H, W): the weighted mean over the views, in float32.

    `none`: f(x). `mirror`: m(x) = (f(x) + f(mirrored x)) / 2. `mirrors`: the mean over x, x mirrored from left to
    right, upside down, and both. `mirror-shift`: m(x) / 2 + m(x moved up and left by a pixel) / 4 + m(x moved down and
    right) / 4, padded by reflection at the edge. `mirror` returns the network for mirrored views, if it is not
    `network`. Up to a constant, the mean of logits is that of log-probabilities: the normalized geometric mean.
    """
    return outputs_of_views(network, images, views, move_back, mirror)[0]


def outputs_of_views(
    network: Network, images: torch.Tensor, views: Views, move_back: MoveBack, mirror: Mirror | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The outputs of `mean_over_views`, and those for the original image alone; for `none`, both are the same
    tensor."""
    alone = network(images)
    if views == "none":
        return alone, alone
    total: torch.Tensor | None = None
    for view in _other_views(images, views):
        network_of_view = network if mirror is None else mirror(view.mirrored, view.upside_down)
        turned = move_back(
            network_of_view(view.images), mirrored=view.mirrored, shift=view.shift, upside_down=view.upside_down
        )
        outputs = view.weight * turned.float()
        total = outputs if total is None else total + outputs
    assert total is not None
    return total + _own_weight(views) * alone.float(), alone


def _own_weight(views: Views) -> float:
    return 0.5 if views == "mirror" else 0.25


def _other_views(images: torch.Tensor, views: Views) -> Iterator[View]:
    """All views but the original image, one at a time."""
    weight = _own_weight(views)
    yield View(weight, images.flip(-1), mirrored=True)
    if views == "mirror":
        return
    if views == "mirrors":
        yield View(weight, images.flip(-2), upside_down=True)
        yield View(weight, images.flip(-1, -2), mirrored=True, upside_down=True)
        return
    height, width = images.shape[-2:]
    mode = "reflect" if min(height, width) > 1 else "replicate"  # a side of one pixel has nothing to reflect
    padded = functional.pad(images, (1, 1, 1, 1), mode=mode)
    for offset in (2, 0):
        moved = padded[..., offset : offset + height, offset : offset + width]
        shift = (1 - offset, 1 - offset)
        yield View(0.125, moved, shift=shift)
        yield View(0.125, moved.flip(-1), mirrored=True, shift=shift)


def maps_moved_back(
    maps: torch.Tensor, *, mirrored: bool, shift: tuple[int, int], upside_down: bool = False
) -> torch.Tensor:
    """Maps (N, C, H, W) for the original images, from maps for moved images; pixels that were moved out repeat the
    edge."""
    axes = [axis for axis, flipped in ((-1, mirrored), (-2, upside_down)) if flipped]
    maps = maps.flip(axes) if axes else maps
    down, right = shift
    if not (down or right):
        return maps
    height, width = maps.shape[-2:]
    rows = (torch.arange(height, device=maps.device) + down).clamp(0, height - 1)
    columns = (torch.arange(width, device=maps.device) + right).clamp(0, width - 1)
    return maps[..., rows, :][..., columns]
