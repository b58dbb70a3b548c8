"""Rotated boxes (…, 5): left, top, right and bottom before they are turned about their center, and an angle in degrees,
counterclockwise. How far two overlap, and how a network predicts one without a jump at any angle.

A network gives an `ellipse` (…, 5): center x and y, and m, p, q of its logarithm m I + [[p, q], [q, −p]], the symmetric
matrix whose eigenvalues are the logarithms of the half sides. It changes as smoothly as the box does: a box that is
turned by half a turn is the same matrix, and of a square, whose angle says nothing, p and q are 0 (Arsigny et al.,
"Log-Euclidean metrics for fast and simple calculus on diffusion tensors", 2006).
"""

from __future__ import annotations

import math

import torch

from striate.data.annotations.boxes import ANGLE

COUNT = 5
"""Numbers of an ellipse, and of a rotated box."""
_TINY, _SMALLEST = 1e-12, 0.05  # half a side in pixels
_TOUCHING = 1e-9
"""Of the larger side: edges that are nearer than this are the same."""


def with_angle(rows: torch.Tensor) -> torch.Tensor:
    """(…, 5) boxes of rows under the columns of targets, or of predictions; 0 where they have no angle."""
    angle = rows[..., ANGLE] if rows.shape[-1] > ANGLE else torch.zeros_like(rows[..., 0])
    return torch.cat([rows[..., :4], angle[..., None]], -1)


def corners(boxes: torch.Tensor) -> torch.Tensor:
    """(…, 4, 2) x and y, from the top left one on, in the order in which x turns to y."""
    center, half = (boxes[..., :2] + boxes[..., 2:4]) / 2, (boxes[..., 2:4] - boxes[..., :2]) / 2
    turn = torch.deg2rad(boxes[..., 4])
    cos, sin = turn.cos(), turn.sin()
    along = torch.stack([cos, -sin], -1) * half[..., :1]
    down = torch.stack([sin, cos], -1) * half[..., 1:]
    places = [across * along + below * down for across, below in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    return center[..., None, :] + torch.stack(places, -2)


def common_area(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(K,) float64 area that boxes (K, 5) have in common in pairs.

    By Green's theorem: half the sum, over the parts of the edges of each that lie in the other, of the cross products
    of their ends. Where edges of both fall together, those of the first count if both run the same way, else none.
    """
    first, second = corners(a.double()), corners(b.double())
    middle = first.mean(1, keepdim=True)
    side = (torch.cat([first, second], 1) - middle).abs().amax((1, 2)).clamp(min=_TINY)
    first, second = (first - middle) / side[:, None, None], (second - middle) / side[:, None, None]
    return (_within(first, second, _TOUCHING) + _within(second, first, -_TOUCHING)) * side * side


def _within(polygon: torch.Tensor, other: torch.Tensor, slack: float) -> torch.Tensor:
    """(K,) what the edges of the polygons (K, 4, 2) that lie in the others (K, 4, 2) add; `slack`: so far outside of an
    edge that runs the same way they may be."""
    follows, along = polygon.roll(-1, 1), other.roll(-1, 1) - other
    along = along / along.norm(dim=2, keepdim=True).clamp(min=_TINY)
    same = torch.einsum("kic,kjc->kij", follows - polygon, along) > 0
    shift = torch.where(same, slack, -abs(slack))
    apart = polygon[:, :, None] - other[:, None]  # (K, edges, edges of the other, 2)
    here = along[:, None, :, 0] * apart[..., 1] - along[:, None, :, 1] * apart[..., 0]
    here, there = here + shift, here.roll(-1, 1) + shift
    crossing = here / torch.where(here == there, 1.0, here - there)
    enters, leaves = (here < 0) & (there >= 0), (here >= 0) & (there < 0)
    begin = torch.where(enters, crossing, 0.0).amax(2)
    end = torch.where(leaves, crossing, 1.0).amin(2)
    length = torch.where(((here < 0) & (there < 0)).any(2), 0.0, (end - begin).clamp(min=0))
    return (length * (polygon[..., 0] * follows[..., 1] - polygon[..., 1] * follows[..., 0])).sum(1) / 2


def areas(boxes: torch.Tensor) -> torch.Tensor:
    """(…) of boxes (…, 5); 0 where edges are the wrong way round."""
    return (boxes[..., 2:4] - boxes[..., :2]).clamp(min=0).prod(-1)


def iou_of_pairs(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(K,) intersection over union of boxes (K, 5) in pairs."""
    common = common_area(a, b).clamp(min=0)
    union = areas(a.double()) + areas(b.double()) - common
    return (common / union.clamp(min=_TINY)).to(a.dtype)


def rotated_iou(a: torch.Tensor, b: torch.Tensor, wanted: torch.Tensor | None = None) -> torch.Tensor:
    """(…, N, M) intersection over union of boxes (…, N, 5) and (…, M, 5), where they are `wanted`, else 0. Only pairs
    that are near enough to each other are looked at closely."""
    reach = [(boxes[..., 2:4] - boxes[..., :2]).norm(dim=-1) / 2 for boxes in (a, b)]
    center = [(boxes[..., :2] + boxes[..., 2:4]) / 2 for boxes in (a, b)]
    apart = torch.cdist(center[0], center[1], compute_mode="donot_use_mm_for_euclid_dist")
    near = apart < reach[0][..., :, None] + reach[1][..., None, :]
    *before, i, j = torch.nonzero(near if wanted is None else near & wanted, as_tuple=True)
    found = torch.zeros(near.shape, dtype=a.dtype, device=a.device)
    found[(*before, i, j)] = iou_of_pairs(a[(*before, i)], b[(*before, j)])
    return found


def ellipses(boxes: torch.Tensor) -> torch.Tensor:
    """(…, 5) of boxes (…, 5): see above."""
    log = ((boxes[..., 2:4] - boxes[..., :2]) / 2).clamp(min=_SMALLEST).log()
    mean, half = log.mean(-1), (log[..., 0] - log[..., 1]) / 2
    twice = -2 * torch.deg2rad(boxes[..., 4])  # y runs down
    center = (boxes[..., :2] + boxes[..., 2:4]) / 2
    return torch.cat([center, torch.stack([mean, half * twice.cos(), half * twice.sin()], -1)], -1)


def boxes_of(ellipse: torch.Tensor) -> torch.Tensor:
    """(…, 5) boxes, no less wide than high, with an angle from −90 to 90 degrees."""
    x, y, mean, p, q = ellipse.unbind(-1)
    half = torch.linalg.vector_norm(torch.stack([p, q], -1), dim=-1)
    wide, high = (mean + half).exp(), (mean - half).exp()
    return torch.stack([x - wide, y - high, x + wide, y + high, -torch.rad2deg(torch.atan2(q, p)) / 2], -1)


def apart(predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """(K,) how far ellipses (K, 5) are from each other, 0 to 1: 1 − ProbIoU, the Hellinger distance of the normal
    distributions with the center and the covariance of the boxes.

    Murrugarra-Llerena, Kirsten, Jung, "Probabilistic intersection-over-union for training and evaluation of oriented
    object detectors", 2022.
    """
    one, two = _covariance(predicted), _covariance(true)
    (a, b, c), (dx, dy) = (one + two).unbind(-1), (true - predicted)[..., :2].unbind(-1)
    determinant = (a * b - c * c).clamp(min=_TINY)
    place = (a * dy * dy + b * dx * dx - 2 * c * dx * dy) / determinant / 4
    # The determinant of a covariance follows from half the trace of the logarithm: exp(4 m) / 9.
    shape = (determinant.log() - 2 * (predicted[..., 2] + true[..., 2])) / 2 + _LOG_SHAPE
    return (-torch.expm1(-(place + shape).clamp(min=1e-6))).sqrt()


_LOG_SHAPE = math.log(9 / 4) / 2


def _covariance(ellipse: torch.Tensor) -> torch.Tensor:
    """(…, 3) variance right and down, and covariance, of points that are spread evenly over the boxes."""
    _, _, mean, p, q = ellipse.unbind(-1)
    half = (p * p + q * q + 1e-9).sqrt()
    size = (2 * mean).exp() / 3
    even, turned = size * (2 * half).cosh(), size * (2 * half).sinh() / half
    return torch.stack([even + turned * p, even - turned * p, turned * q], -1)
