"""Labels that the step gives to other samples: blended with exchanged shares, or left from an earlier batch."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from asked import asked, digits, perceptron
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 — as everybody writes it
from torch.utils.data import DataLoader

from striate.doctor.checks.data.labels.step_labels import STEP_LABELS
from striate.doctor.evidence.clock import NoEvidence
from striate.records import Finding


def told(model: nn.Module, step: Any) -> list[Finding]:
    found: list[Finding] = []
    with suppress(NoEvidence):
        found = asked(STEP_LABELS, model, shuffled(), step=step)
    return found


def shuffled() -> DataLoader[Any]:
    return DataLoader(digits().dataset, 32, shuffle=True, generator=torch.Generator().manual_seed(0))


def blending(exchanged: bool, soft: bool | str, cut: bool, apart: bool = False) -> Any:
    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, y = batch
        lam, index = float(torch.rand(()) * 0.4 + 0.55), torch.randperm(len(x))
        if cut:
            width = round(lam * x.shape[-1])
            blended = torch.cat([x[..., :width], x[index][..., width:]], -1)
            lam = width / x.shape[-1]
        else:
            blended = lam * x + (1 - lam) * x[index]
        index = torch.randperm(len(x)) if apart else index
        share = 1 - lam if exchanged else lam
        outputs = model(blended)
        if soft:
            one, other = (F.one_hot(t, 10).float() for t in (y, y[index]))
            shares = share * one + (1 - share) * other
            own = (-shares * F.log_softmax(outputs, -1)).sum(-1).mean()
            loss = own if soft == "own" else F.cross_entropy(outputs, shares)
        else:
            loss = share * F.cross_entropy(outputs, y) + (1 - share) * F.cross_entropy(outputs, y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(("soft", "cut"), [(False, False), (True, False), ("own", False), (False, True)])
@pytest.mark.parametrize("exchanged", [False, True])
def test_shares_of_blended_samples_are_those_of_their_labels(exchanged: bool, soft: bool | str, cut: bool) -> None:
    found = told(perceptron(), blending(exchanged, soft, cut))
    assert ["count" in finding.measured for finding in found] == [True] * exchanged


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("soft", [False, True, "own"])
@pytest.mark.parametrize("apart", [False, True])
def test_the_second_label_is_that_of_the_partner(apart: bool, soft: bool | str) -> None:
    found = told(perceptron(), blending(False, soft, False, apart))
    assert ["as their second label" in finding.measured for finding in found] == [True] * apart


def test_shares_of_the_captions_in_a_batch_are_none_of_classes() -> None:
    """As of images and words that belong together: a row for each image, a column for each caption."""

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        scores = model(batch[0]) @ torch.randn(10, len(batch[1]))
        same = (batch[1][:, None] == batch[1][None]).float().fill_diagonal_(1).roll(7, 1)
        loss = F.cross_entropy(scores, same / same.sum(1, keepdim=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    assert not told(perceptron(), step)


def of_an_earlier_cell(y: Tensor | None) -> Any:
    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        loss = F.cross_entropy(model(batch[0]), batch[1] if y is None else y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


@pytest.mark.parametrize("stale", [False, True])
def test_labels_of_an_earlier_batch_are_named(stale: bool) -> None:
    earlier = next(iter(shuffled()))[1] if stale else None
    found = told(perceptron(), of_an_earlier_cell(earlier))
    assert ["same 32 labels" in finding.measured for finding in found] == [True] * stale


def test_targets_that_number_the_samples_of_a_batch_are_let_pass() -> None:
    """As of contrastive losses: the k-th is the partner of the k-th."""
    assert not told(nn.Sequential(perceptron(), nn.Linear(10, 32)), of_an_earlier_cell(torch.arange(32)))
