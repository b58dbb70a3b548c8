"""The loss of the classes of pixels and of the centers of their objects."""

from __future__ import annotations

import torch
from torch.nn import functional

from striate.tasks.instances.grouping import objects_in, places

_OFFSET_WEIGHT = 1.0


def image_weights(maps: torch.Tensor, count: int) -> torch.Tensor:
    """(N,) weight of each image, from targets (N, H, W) with `count` classes: the square root of 1 + its objects.

    Metrics count objects, and some images have a hundred times as many as others; images with few objects, or none,
    teach the background.
    """
    values = maps.long()
    alone = (values > 0) & ((values - 1) % 2 == 0)  # the others are crowds
    number = torch.where(alone, (values - 1) // (2 * count) + 1, 0).flatten(1)
    most = int(number.max()) + 1
    seen = torch.zeros(len(maps), most, device=maps.device).scatter_(1, number, 1.0)
    return (1 + seen[:, 1:].sum(1)).sqrt()


def instance_loss(outputs: torch.Tensor, maps: torch.Tensor, count: int, typical: float) -> torch.Tensor:
    """The loss of outputs (N, K + 2, H, W) for `count` classes K and targets (N, H, W), a scalar sum over images times
    their `image_weights`.

    It is the mean binary cross-entropy of pixels, plus 1 − Dice (Milletari et al., "V-Net", 2016), plus the distance of
    the predicted centers from the true ones in radii of the object, the mean over its pixels and over objects. Pixels
    in crowds do not count.
    """
    logits, offset = outputs[:, :count].float(), outputs[:, count:].float() * typical
    objects = objects_in(maps, count)
    wanted = functional.one_hot(objects.kind, count).movedim(-1, 1).float() * objects.there[:, None]
    counted = (~objects.crowd)[:, None]
    each = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * counted
    predicted = logits.sigmoid() * counted
    both, either = (part.flatten(1).sum(1) for part in (predicted * wanted, predicted.square() + wanted))
    pixels = each.flatten(1).sum(1) / counted.flatten(1).sum(1).clamp(min=1) + 1 - (2 * both + 1) / (either + 1)
    here = places(maps.shape[1], maps.shape[2], maps.device)
    apart = (here + offset - objects.center).abs().sum(1)
    # Objects share the weight of the image equally, and pixels that of their object.
    share = objects.there / (objects.area.clamp(min=1).pow(1.5) / torch.pi**0.5)
    wrong = (apart * share).flatten(1).sum(1) / objects.each.clamp(min=1)
    total: torch.Tensor = ((pixels + _OFFSET_WEIGHT * wrong) * image_weights(maps, count)).sum()
    return total
