"""Augmentation that permutes the color channels: a flip along the wrong axis, or a permutation although targets depend
on colors."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import torch
from torch.nn.functional import one_hot

from striate.doctor.checks.data.augmentation.finding import augmentation_finding
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.draws import ALIKE, MOVES, Pair, drawn_twice, images, likeness
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.pairs import inputs_embedded
from striate.doctor.setup.batch import main_tensor, parts
from striate.records import Finding
from striate.wording import percent, several

_COLORS, _CLEARER, _OFTEN = 3, 0.05, 0.1
"""The number of channels; by how much the correlation of two draws has to rise with permuted channels; a share of
draws."""
_ORIGINAL, _REVERSED = (0, 1, 2), (2, 1, 0)
_OF_A_BATCH, _LEVELS, _FEWEST, _MOST_TARGETS = 4, 4, 100, 64
"""Samples of a batch; levels of a channel; the fewest validation samples; the most columns of a target."""
_NUMBERS, _STRENGTHS = 100_000, (1.0, 10.0, 100.0)
_EXPLAINED, _LOST = 0.2, 0.4
"""The share of a target's variance that the color histogram explains; the share of that which is lost without the order
of the channels."""


def colors_exchanged(evidence: Evidence) -> Finding | None:
    """Color images whose channels the loader or the step permutes in some draws."""
    place, orders = "loader", Counter(_order(pair) for pair in _color_images(evidence))
    if orders.total() == orders[_ORIGINAL] and evidence.first.shown is not None:
        place, orders = "step", Counter(_order(pair) for pair in _changed_in_step(evidence))
    turned, count = orders.total() - orders[_ORIGINAL], orders.total()
    if turned <= _OFTEN * count or len(orders) == 1:
        return None
    if set(orders) <= {_ORIGINAL, _REVERSED} and place == "loader":
        return augmentation_finding(
            place,
            f"{turned} of {several(count, 'training image')} that were drawn twice have their first and last color "
            "exchanged in one of the two draws",
            why="Axis 0 of an image (C, H, W) is its channels: a flip along it reverses the colors, not the positions.",
            remedy="`image.flip(-1)` flips left and right, `image.flip(-2)` flips top and bottom",
            threshold=f"first and last color are exchanged in {percent(_OFTEN, 0)} of the draws",
            severity="warning",
        )
    known = _explained_by_colors(evidence)
    if known is None:
        return None
    return augmentation_finding(
        place,
        f"the color channels of {turned} of {several(count, 'image')} are permuted, {len(orders)} orders in all; "
        f"the frequencies of colors explain {percent(known[0], 0)} of a validation target, and {percent(known[1], 0)} "
        "if the order is unknown",
        why="The targets depend on color, and augmentation turns one color into another: the input no longer shows "
        "the target.",
        remedy="remove what permutes the channels, such as `x[:, torch.randperm(3)]`, or vary only the brightness",
        threshold=f"color channels in several orders; the frequencies of colors explain {percent(_EXPLAINED, 0)} of a "
        f"validation target, and {percent(_LOST, 0)} less if the order is unknown",
    )


def _color_images(evidence: Evidence) -> list[Pair]:
    try:
        return [pair for pair in drawn_twice(evidence) if len(pair[0]) == _COLORS]
    except NoEvidence:
        return []


def _changed_in_step(evidence: Evidence) -> list[Pair]:
    """Pairs of an image of the loader and the input of the network in a few steps; none if the first step passes images
    unchanged."""
    raw = evidence.train.raw
    own, shown = main_tensor(parts(raw[0])[0]), evidence.first.shown
    if own is None or shown is None or own.shape != shown.shape or own.ndim != 4 or torch.equal(own, shown.to(own)):
        return []
    found = list[Pair]()
    for number, given in enumerate(inputs_embedded(evidence)):
        own = main_tensor(parts(raw[number % len(raw)])[0])
        if own is not None and given and given[0].shape == own.shape and own.shape[1] == _COLORS:
            found += images(list(zip(own.cpu(), given[0], strict=True))[:_OF_A_BATCH])
    return found


def _order(pair: Pair) -> tuple[int, ...]:
    """The order of channels in which the second image is most similar to the first, whatever the shift and flip; the
    original order unless another one is clearly better."""
    one, other = pair
    moved = [image for move in (_as_it_is, *MOVES.values()) if (image := move(other)).shape == one.shape]
    found = {order: max(likeness(one, image[list(order)]) for image in moved) for order in permutations(range(_COLORS))}
    best = max(found, key=lambda order: found[order])
    return best if found[best] > ALIKE and found[best] > found[_ORIGINAL] + _CLEARER else _ORIGINAL


def _as_it_is(image: torch.Tensor) -> torch.Tensor:
    return image


def _explained_by_colors(evidence: Evidence) -> tuple[float, float] | None:
    """The share of variance that the color histogram of validation images explains of the target that it explains best,
    and the share without the order of the channels; None if the first is small, or the second about as large."""
    x, y = evidence.val_samples.x, evidence.val_samples.y
    if x is None or y is None or x.ndim != 4 or x.shape[1] != _COLORS or len(x) < _FEWEST or y.ndim > 2:
        return None
    if not y.is_floating_point() and y.numel() == len(y):
        y = one_hot((y.flatten().long() - y.min()).clamp(max=_MOST_TARGETS))
    y = y.reshape(len(y), -1).double()
    if y.shape[1] > _MOST_TARGETS:
        return None
    known = _explained(_shares(x), y)
    unordered = torch.stack([_shares(x[:, list(order)]) for order in permutations(range(_COLORS))]).mean(0)
    best = int(known.argmax())
    explained, without = float(known[best]), float(_explained(unordered, y)[best])
    return (explained, without) if explained >= _EXPLAINED and without <= (1 - _LOST) * explained else None


def _shares(x: torch.Tensor) -> torch.Tensor:
    """(N, colors) the square roots of a color histogram, as shares of pixels."""
    values = x.float().flatten()
    low, high = values[:: -(-len(values) // _NUMBERS)].quantile(torch.tensor([0.005, 0.995])).tolist()
    levels = ((x.float() - low) / max(high - low, 1e-12) * _LEVELS).long().clamp(0, _LEVELS - 1)
    colors = ((levels[:, 0] * _LEVELS + levels[:, 1]) * _LEVELS + levels[:, 2]).flatten(1)
    counts = torch.zeros(len(x), _LEVELS**_COLORS).scatter_add(1, colors, torch.ones(colors.shape))
    roots: torch.Tensor = (counts / colors.shape[1]).sqrt().double()
    return roots


def _explained(known: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """(targets,) the share of variance that a ridge regression explains, by cross-validation."""
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), RidgeCV(_STRENGTHS))
    predicted = torch.as_tensor(cross_val_predict(model, known.numpy(), y.numpy())).reshape(y.shape)
    missed = (predicted - y).square().mean(0) / y.var(0, correction=0).clamp_min(1e-12)
    return torch.clamp_min(1 - missed, 0)
