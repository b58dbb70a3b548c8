"""Blended samples (mixup, CutMix): do the weights of labels match the weights of samples?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from for_checks.asked import digits, perceptron
from striate.doctor.checks.data.labels.blends import _share_of_inputs, blended_batches, swapped_shares
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup


@pytest.mark.parametrize("axis", [-1, -2])
def test_images_that_are_flipped_are_not_blended(axis: int) -> None:
    images = torch.rand(32, 3, 16, 16, generator=torch.Generator().manual_seed(0)).cumsum(2).cumsum(3)
    share = _share_of_inputs(images.flip(axis), images)
    assert share is not None
    assert share > 0.9
    blended = _share_of_inputs(0.3 * images + 0.7 * images.roll(1, 0), images)
    assert blended is not None
    assert blended < 0.5


def test_a_blend_of_mostly_others_is_known_whichever_way_up_its_own_sample_seems_nearer() -> None:
    for seed in range(12):
        images = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
        share = _share_of_inputs(0.02 * images + 0.98 * images.roll(1, 0), images)
        assert share is not None
        assert share < 0.3
        other = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(seed + 100))
        assert _share_of_inputs(other, images) is None


LOSS = nn.CrossEntropyLoss()


@pytest.mark.parametrize("erased", [True, False])
def test_what_is_erased_is_no_blend(erased: bool) -> None:
    """Labels that are blended the other way round are told by inputs, but not where these are mostly erased."""

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        x, y = batch
        part = 0.8
        mixed = part * x + (1 - part) * x.flip(0)
        if erased:
            mixed = torch.where(torch.rand(x.shape) < 0.95, torch.randn(x.shape), mixed)
        optimizer.zero_grad()
        out = net(mixed)
        value: Tensor = (1 - part) * loss(out, y) + part * loss(out, y.flip(0))
        value.backward()
        optimizer.step()
        return value.detach()

    model = perceptron()
    setup = make_setup(model, digits(), None, loss=LOSS, optimizer=torch.optim.SGD(model.parameters(), 0.1), step=step)
    assert (swapped_shares(blended_batches(Evidence(setup, Clock(120.0)))) is None) is erased


@pytest.mark.parametrize("swapped", [True, False])
def test_some_batches_are_not_blended(swapped: bool) -> None:
    """With a share of 1 the labels of such are those of the partners alone, where shares are exchanged."""
    drawn = iter([1.0, 0.7, 1.0, 0.8, 1.0, 1.0, 1.0, 1.0] * 4)

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        x, y = batch
        part = next(drawn)
        one, other = (functional.one_hot(labels, 10).float() for labels in (y, y.flip(0)))
        shares = (1 - part) * one + part * other if swapped else part * one + (1 - part) * other
        optimizer.zero_grad()
        value = -(shares * net(part * x + (1 - part) * x.flip(0)).log_softmax(1)).sum(1).mean()
        value.backward()
        optimizer.step()
        return value.detach()

    model = perceptron()
    setup = make_setup(model, digits(), None, optimizer=torch.optim.SGD(model.parameters(), 0.1), step=step)
    assert (swapped_shares(blended_batches(Evidence(setup, Clock(120.0)))) is not None) is swapped


@pytest.mark.parametrize("swapped", [True, False])
def test_a_batch_may_hold_the_partners_too(swapped: bool) -> None:
    """As a loop that indexes samples twice draws it."""
    batches = [(x, x.flip(0), y, y.flip(0)) for x, y in digits()]

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        x, other, y, labels = batch
        part = 0.8
        optimizer.zero_grad()
        out = net(part * x + (1 - part) * other)
        weight = 1 - part if swapped else part
        value: Tensor = weight * loss(out, y) + (1 - weight) * loss(out, labels)
        value.backward()
        optimizer.step()
        return value.detach()

    model = perceptron()
    setup = make_setup(model, batches, None, loss=LOSS, optimizer=torch.optim.SGD(model.parameters(), 0.1), step=step)
    assert (swapped_shares(blended_batches(Evidence(setup, Clock(120.0)))) is not None) is swapped
