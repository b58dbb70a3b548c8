"""The arguments of a diagnosis, checked and completed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.replicas import make_replica
from striate.doctor.setup.training_setup import make_setup
from striate.errors import UsageError


@pytest.mark.parametrize("asked_for", [True, False])
def test_numbers_that_no_loss_asks_for_are_no_targets(asked_for: bool) -> None:
    torch.manual_seed(0)
    past, future, district = torch.randn(96, 6), torch.randn(96, 2), torch.randint(0, 4, (96,))
    model = nn.Linear(6, 2)

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        apart = (batch[1] - net(batch[0])).abs().mean(1)
        value = (apart * (1 + batch[2]) if asked_for else apart).mean()
        value.backward()
        optimizer.step()
        return value.detach()

    data = DataLoader(TensorDataset(past, future, district), 32)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    evidence = Evidence(make_setup(model, data, None, optimizer=optimizer, step=step), Clock(120.0))
    y = evidence.samples.y
    assert y is not None
    assert torch.equal(y, district if asked_for else future)


X, Y = torch.rand(8, 64), torch.arange(8) % 4


@pytest.mark.parametrize(
    ("train", "options", "where", "got", "remedy"),
    [
        (
            (X, Y),
            {"loss": nn.CrossEntropyLoss},
            "loss",
            "the class CrossEntropyLoss",
            "loss=torch.nn.CrossEntropyLoss()",
        ),
        ((X, Y, Y), {}, "train", "a tuple of 3 tensors", "train=(x, y)"),
        ((X.numpy(), np.array(["a", "b"] * 4)), {}, "train", "y is an array of <U1", "return_inverse=True"),
    ],
)
@pytest.mark.each_nth(1)
def test_an_argument_of_another_kind_is_refused(train: Any, options: Any, where: str, got: str, remedy: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_setup(nn.Linear(64, 4), train, **options)
    assert (caught.value.where, caught.value.got) == (where, got)
    assert remedy in caught.value.remedy


def test_batches_in_a_list_are_taken() -> None:
    assert len(list(make_setup(nn.Linear(64, 4), [X, X, X], loss=nn.CrossEntropyLoss()).train)) == 3


def test_a_function_that_makes_no_optimizer_is_refused() -> None:
    setup = make_setup(nn.Linear(64, 4), (X, Y), optimizer=lambda _: None)
    with pytest.raises(UsageError) as caught:
        make_replica(setup)
    assert (caught.value.where, caught.value.got) == ("optimizer", "a function that returns None")
