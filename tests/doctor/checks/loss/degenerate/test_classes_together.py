"""Losses of embeddings that do not separate classes whose embeddings coincide."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from for_checks.asked import adam, digits, said
from for_checks.embeddings import Embedding
from striate.doctor.checks.loss.degenerate.degenerate import DEGENERATE


class Triplets(nn.Module):
    """For each pair of a class the nearest negative that is farther, or else what `otherwise` says."""

    def __init__(self, axis: int, otherwise: str) -> None:
        super().__init__()
        self.axis, self.otherwise = axis, otherwise

    def forward(self, embedded: Tensor, labels: Tensor) -> Tensor:
        apart = (2 - 2 * embedded @ embedded.T).clamp(min=1e-8).sqrt()
        same = labels[None] == labels[:, None]
        positive = apart.unsqueeze(self.axis)
        negative = apart.unsqueeze(1).expand(-1, len(labels), -1)
        farther = (negative > positive) & ~same[:, None]
        nearest = negative.masked_fill(~farther, torch.inf).amin(2)
        farthest = apart.masked_fill(same, 0.0).amax(1, keepdim=True)
        chosen = torch.where(farther.any(2), nearest, farthest if self.otherwise == "farthest" else torch.inf)
        return functional.relu(apart - chosen + 0.3)[same & ~torch.eye(len(labels), dtype=torch.bool)].mean()


def hardest(embedded: Tensor, labels: Tensor) -> Tensor:
    apart = torch.cdist(embedded, embedded)
    same = labels[None] == labels[:, None]
    far, near = apart.masked_fill(~same, 0.0).amax(1), apart.masked_fill(same, torch.inf).amin(1)
    return functional.relu(far - near + 0.3).mean()


def contrasted(embedded: Tensor, labels: Tensor) -> Tensor:
    own = torch.eye(len(labels), dtype=torch.bool)
    scores = (embedded @ embedded.T / 0.1).masked_fill(own, -1e4).log_softmax(1)
    same = (labels[None] == labels[:, None]) & ~own
    return -(scores * same).sum() / same.sum()


def without_labels(embedded: Tensor, _: Tensor) -> Tensor:
    return functional.relu(0.2 - embedded.std(0)).mean() + (embedded.mean(0) ** 2).sum()


@pytest.mark.parametrize(
    ("loss", "wrong"),
    [
        (Triplets(1, "farthest"), True),
        (Triplets(2, "farthest"), False),
        (Triplets(2, "none"), False),
        (hardest, False),
        (contrasted, False),
        (without_labels, False),
    ],
)
def test_classes_are_separated(loss: Any, wrong: bool) -> None:
    found = said(DEGENERATE, Embedding(), digits(64), loss=loss, optimizer=adam)
    assert ["two by two" in one.measured for one in found] == [True] * wrong


def nearest_of_zeros(embedded: Tensor, labels: Tensor) -> Tensor:
    apart = torch.cdist(embedded, embedded)
    same = labels[None] == labels[:, None]
    far, near = apart.masked_fill(~same, 0.0).amax(1), (apart * ~same).amin(1)
    return functional.softplus(far - near + 0.3).mean()


def only_pulled(embedded: Tensor, labels: Tensor) -> Tensor:
    same = labels[None] == labels[:, None]
    return torch.cdist(embedded, embedded)[same].square().mean()


def pulled_and_spread(embedded: Tensor, labels: Tensor) -> Tensor:
    return only_pulled(embedded, labels) + functional.relu(0.5 - embedded.std(0)).mean()


def pushed_to_a_margin(embedded: Tensor, labels: Tensor) -> Tensor:
    same = (labels[None] == labels[:, None]).float()
    apart = torch.cdist(embedded, embedded)
    return (same * apart.square() + (1 - same) * functional.relu(0.2 - apart).square()).mean()


def far_from_corners(embedded: Tensor, labels: Tensor) -> Tensor:
    count = (labels[None] == labels[:, None]).sum(1)
    known = functional.normalize(torch.sin(torch.arange(embedded.numel()).float()).reshape(embedded.shape), dim=1)
    return ((embedded - known).square().mean(1) / count).mean()


@pytest.mark.parametrize(
    ("loss", "wrong"),
    [
        (nearest_of_zeros, True),
        (only_pulled, True),
        (pulled_and_spread, False),
        (pushed_to_a_margin, False),
        (far_from_corners, False),
        (hardest, False),
    ],
)
def test_classes_that_all_coincide_are_not_right(loss: Any, wrong: bool) -> None:
    found = said(DEGENERATE, Embedding(), digits(64), loss=loss, optimizer=adam)
    assert ["all lie together" in one.measured or "pulls all" in one.measured for one in found] == [True] * wrong
