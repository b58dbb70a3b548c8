"""The metrics of embeddings against their definitions, and what they are of made vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from striate.data.loader import order_by_class
from striate.reference.retrieval import map_at_r, pair_auc, recall_at
from striate.statistics.estimate import Estimate
from striate.statistics.intervals import percentile_interval, wilson
from striate.tasks.embed.assess import neighbor_estimates
from striate.tasks.embed.losses import loss_of, neighbor_loss
from striate.tasks.embed.retrieval import (
    hardest_pairs,
    neighbor_rows,
    steepness,
    verification,
    verification_estimates,
    verify_pairs,
)


def _made(noise: float, seed: int = 0, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 7
    return (rng.normal(size=(7, 16))[labels] + noise * rng.normal(size=(count, 16))).astype(np.float32), labels


@pytest.mark.parametrize("noise", [0.2, 1.5])
def test_figures_are_those_of_the_definitions(noise: float) -> None:
    vectors, labels = _made(noise)
    found = neighbor_estimates(neighbor_rows(vectors, labels))
    assert found["recall@1"].value == pytest.approx(recall_at(vectors, labels, 1))
    assert found["recall@5"].value == pytest.approx(recall_at(vectors, labels, 5))
    assert found["map@r"].value == pytest.approx(map_at_r(vectors, labels))
    assert verify_pairs(vectors, labels).auc == pytest.approx(pair_auc(vectors, labels), abs=2e-4)


def test_a_sample_alone_in_its_class_counts_for_nothing() -> None:
    vectors, labels = _made(0.2, count=21)
    labels = np.append(labels, 9)
    vectors = np.vstack([vectors, np.ones((1, 16), np.float32)])
    rows = neighbor_rows(vectors, labels)
    assert rows[-1].tolist() == [0, 0, 0, 0]
    assert rows[:-1, 3].all()


def test_the_threshold_makes_both_mistakes_as_frequent() -> None:
    vectors, labels = _made(1.0)
    found = verify_pairs(vectors, labels)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    above = unit @ unit.T >= found.threshold
    same, upper = labels[:, None] == labels, np.triu(np.ones_like(above), 1)
    missed, taken = (~above)[same & upper].mean(), above[~same & upper].mean()
    assert missed == pytest.approx(taken, abs=0.02)
    assert found.eer == pytest.approx((missed + taken) / 2, abs=0.02)


def test_pairs_that_never_overlap_have_a_threshold_between_them() -> None:
    edges = np.linspace(-1, 1, 11)
    found = verification(np.array([0.0] * 9 + [4]), np.array([0.0, 6] + [0] * 8), edges)
    assert (found.auc, found.eer) == (1, 0)
    assert -0.6 < found.threshold < 0.8
    empty = verification(np.zeros(10), np.ones(10), edges)
    assert np.isnan([empty.auc, empty.eer, empty.threshold]).all()


def test_the_slope_is_steeper_where_pairs_are_told_apart() -> None:
    slopes = []
    for noise in (0.4, 1.5):
        vectors, labels = _made(noise)
        slopes.append(steepness(vectors, labels, verify_pairs(vectors, labels).threshold))
    assert slopes[0] > 1.5 * slopes[1] > 0


def test_intervals_hold_what_other_samples_give() -> None:
    """The spread of the area over sets drawn anew is that of its interval."""
    many = [verify_pairs(*_drawn(seed)).auc for seed in range(60)]
    low, high = np.quantile(many, [0.025, 0.975])
    interval = verification_estimates(*_drawn(99))["auc"].interval
    assert interval is not None
    assert (interval.high - interval.low) == pytest.approx(high - low, rel=0.6)


def _drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The same class centers, other samples."""
    centers, rng = np.random.default_rng(0).normal(size=(7, 16)), np.random.default_rng(1000 + seed)
    labels = np.arange(84) % 7
    return (centers[labels] + 1.4 * rng.normal(size=(84, 16))).astype(np.float32), labels


def test_groups_are_drawn_as_wholes() -> None:
    vectors, labels = _made(1.0, count=80)
    rows = neighbor_rows(vectors, labels)
    doubled = np.repeat(rows, 2, axis=0)
    single = neighbor_estimates(rows)["recall@1"].interval
    grouped = neighbor_estimates(doubled, [str(k // 2) for k in range(160)])["recall@1"].interval
    assert single is not None
    assert grouped is not None
    assert grouped.high - grouped.low == pytest.approx(single.high - single.low, rel=0.25)
    assert percentile_interval([0, 1]).low >= 0


def test_intervals_of_recall_have_a_width_where_every_neighbor_is_right() -> None:
    labels = np.arange(20) % 4
    vectors = np.eye(4, dtype=np.float32)[labels]
    found = neighbor_estimates(neighbor_rows(vectors, labels))
    for name in ("recall@1", "recall@5"):
        assert found[name] == Estimate(1.0, wilson(20, 20))
    assert found["map@r"] == Estimate(1.0, None)
    assert verification_estimates(vectors, labels)["auc"] == Estimate(1.0, None)


def test_a_planted_wrong_label_is_the_hardest_pair() -> None:
    vectors, labels = _made(0.1)
    labels = labels.copy()
    labels[10] = 6  # it lies among class 3
    apart, alike = hardest_pairs(vectors, labels, 3)
    assert 10 in apart[0][:2]
    assert 10 in alike[0][:2]


def test_batches_have_classes_of_as_many_samples() -> None:
    labels = torch.arange(96) % 8
    order = order_by_class(labels, 4, 3, 1)
    assert sorted(order.tolist()) == list(range(96)), "12 of each class, 4 at a time: each once"
    for batch in order.split(16):
        assert len(labels[batch].unique()) == 4
        assert (labels[batch].bincount()[labels[batch].unique()] == 4).all()
    assert torch.equal(order, order_by_class(labels, 4, 3, 1))
    assert not torch.equal(order, order_by_class(labels, 4, 3, 2))
    uneven = order_by_class(torch.tensor([0] * 3 + [1] * 9 + [2]), 4, 0, 0)
    assert len(uneven) == 13
    assert all(len({0 if i < 3 else 1 if i < 12 else 2 for i in part.tolist()}) == 1 for part in uneven.split(4))


def test_the_loss_of_neighbors_falls_where_classes_part() -> None:
    losses = []
    for noise in (0.1, 3.0):
        vectors, labels = (torch.from_numpy(part) for part in _made(noise))
        unit = torch.nn.functional.normalize(vectors)
        rows = neighbor_loss(unit, labels)
        losses.append(float(rows.mean()))
        near = (unit @ unit.T / 0.1).fill_diagonal_(-torch.inf)
        same = labels[:, None] == labels
        expected = -torch.log((near.softmax(1) * same).sum(1))
        assert torch.allclose(rows, expected, atol=1e-4)
    assert losses[0] < 0.1 < losses[1]


@pytest.mark.parametrize("name", ["arcface", "proxy-anchor", "triplet", "supcon"])
def test_each_loss_is_lower_where_classes_are_apart_and_has_a_gradient(name: str) -> None:
    proxied = name in ("arcface", "proxy-anchor")
    found = []
    for noise in (0.05, 2.0):
        vectors, labels = (torch.from_numpy(part) for part in _made(noise))
        given = torch.nn.functional.normalize(vectors).requires_grad_()
        centers = torch.stack([given[labels == k].mean(0) for k in range(7)]) if proxied else None
        cosines = given if centers is None else given @ torch.nn.functional.normalize(centers).T
        state = torch.get_rng_state()
        loss = loss_of(name, 7 if proxied else 0)(cosines, labels)
        assert torch.equal(state, torch.get_rng_state())
        loss.backward()
        assert torch.isfinite(given.grad).all()
        found.append(float(loss.detach()))
    assert 0 <= found[0] < found[1]


def test_arcface_is_cross_entropy_of_angles_with_a_margin() -> None:
    cosines = torch.tensor([[0.5, -0.2, 0.1], [0.0, 0.3, 0.8]])
    labels = torch.tensor([0, 2])
    angles = torch.acos(cosines)
    angles[torch.arange(2), labels] += np.radians(28.6)
    expected = torch.nn.functional.cross_entropy(30 * angles.cos(), labels)
    assert float(loss_of("arcface", 3)(cosines, labels)) == pytest.approx(float(expected), rel=1e-5)
