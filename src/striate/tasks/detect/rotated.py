"""Rotated boxes (…, 5): left, top, right and bottom before the rotation about the center, and an angle in degrees,
counterclockwise; their overlaps, and a representation for networks that is continuous in the angle.

A network outputs an `ellipse` (…, 5): center x and y, and m, p, q of its logarithm m I + [[p, q], [q, −p]], the
symmetric matrix whose eigenvalues are the logarithms of the half sides. It is a smooth function of the box: a box
rotated by 180° has the same matrix, and for a square, whose angle is undefined, p and q are 0 (Arsigny et al.,
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
"""As a share of the larger side: edges that are nearer than this coincide."""


def with_angle(rows: torch.Tensor) -> torch.Tensor:
    """(…, 5) boxes of rows in the columns of targets or predictions; the angle is 0 where they have none."""
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
    """(K,) float64 area of the intersection of each pair of boxes (K, 5).

    By Green's theorem, it is half the sum, over the parts of the edges of each box that lie in the other, of the cross
    products of their ends. Where edges coincide, those of the first box count if both have the same direction, else
    none.
    """
    first, second = corners(a.double()), corners(b.double())
    middle = first.mean(1, keepdim=True)
    side = (torch.cat([first, second], 1) - middle).abs().amax((1, 2)).clamp(min=_TINY)
    first, second = (first - middle) / side[:, None, None], (second - middle) / side[:, None, None]
    return (_within(first, second, _TOUCHING) + _within(second, first, -_TOUCHING)) * side * side


def _within(polygon: torch.Tensor, other: torch.Tensor, slack: float) -> torch.Tensor:
    """(K,) the contribution of the edges of the polygons (K, 4, 2) that lie in the others (K, 4, 2); `slack`: how far
    they may lie outside of an edge with the same direction."""
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
    """(…) areas of boxes (…, 5); 0 where left and right, or top and bottom, are exchanged."""
    return (boxes[..., 2:4] - boxes[..., :2]).clamp(min=0).prod(-1)


def iou_of_pairs(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(K,) intersection over union of each pair of boxes (K, 5)."""
    common = common_area(a, b).clamp(min=0)
    union = areas(a.double()) + areas(b.double()) - common
    return (common / union.clamp(min=_TINY)).to(a.dtype)


def rotated_iou(a: torch.Tensor, b: torch.Tensor, wanted: torch.Tensor | None = None) -> torch.Tensor:
    """(…, N, M) intersection over union of boxes (…, N, 5) and (…, M, 5), where `wanted`, else 0. It is computed only
    for pairs that are near enough to each other."""
    reach = [(boxes[..., 2:4] - boxes[..., :2]).norm(dim=-1) / 2 for boxes in (a, b)]
    center = [(boxes[..., :2] + boxes[..., 2:4]) / 2 for boxes in (a, b)]
    apart = torch.cdist(center[0], center[1], compute_mode="donot_use_mm_for_euclid_dist")
    near = apart < reach[0][..., :, None] + reach[1][..., None, :]
    *before, i, j = torch.nonzero(near if wanted is None else near & wanted, as_tuple=True)
    found = torch.zeros(near.shape, dtype=a.dtype, device=a.device)
    found[(*before, i, j)] = iou_of_pairs(a[(*before, i)], b[(*before, j)])
    return found


def ellipses(boxes: torch.Tensor) -> torch.Tensor:
    """(…, 5) ellipses of boxes (…, 5), as the module describes them."""
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


def probiou_distance(predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """(K,) distance of ellipses (K, 5), 0 to 1: 1 − ProbIoU, the Hellinger distance of the normal distributions with
    the center and the covariance of the boxes.

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
    """(…, 3) horizontal and vertical variance, and covariance, of the uniform distribution over each box."""
    _, _, mean, p, q = ellipse.unbind(-1)
    half = (p * p + q * q + 1e-9).sqrt()
    size = (2 * mean).exp() / 3
    even, turned = size * (2 * half).cosh(), size * (2 * half).sinh() / half
    return torch.stack([even + turned * p, even - turned * p, turned * q], -1)
