"""Likelihoods that are minimized, columns that are centered alone, batches of the same samples,
waves sorted without their labels; and their twins."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from asked import asked
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.inputs.not_normalized import NOT_NORMALIZED
from striate.doctor.checks.data.labels.collated_apart import rows_apart
from striate.doctor.checks.loss.sign.sign import SIGN
from striate.doctor.script.iterated_loop import same_numbers


def hazards(outputs: Tensor, bins: Tensor, events: Tensor) -> Tensor:
    """The mean log-likelihood of a logistic hazard."""
    died, passed = functional.logsigmoid(outputs), functional.logsigmoid(-outputs)
    earlier = (torch.arange(outputs.shape[1]) < bins[:, None]).float()
    last = torch.where(events == 1, died.gather(1, bins[:, None])[:, 0], passed.gather(1, bins[:, None])[:, 0])
    return ((passed * earlier).sum(1) + last).mean()


def hazard_step(loss: Any) -> Any:
    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        optimizer.zero_grad()
        value: Tensor = loss(model(batch[0]), *batch[1:])
        value.backward()
        optimizer.step()
        return value.detach()

    return step


def returns(outputs: Tensor, actions: Tensor, gains: Tensor) -> Tensor:
    return -(outputs.log_softmax(1).gather(1, actions[:, None])[:, 0] * gains).mean()


@pytest.mark.parametrize(
    ("loss", "beside", "wrong"),
    [
        (hazards, (0.0, 1.0), True),
        (lambda *given: -hazards(*given), (0.0, 1.0), False),
        (returns, (-2.0, -1.0), False),
        (returns, (-1.0, 1.0), False),
    ],
)
def test_a_likelihood_is_made_large(loss: Any, beside: tuple[float, float], wrong: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x, bins = torch.randn(256, 5, generator=generator), torch.randint(6, (256,), generator=generator)
    numbers = torch.tensor(beside)[torch.randint(2, (256,), generator=generator)]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 6))
    options = {
        "loss": functional.mse_loss,
        "optimizer": torch.optim.SGD(model.parameters(), 0.05),
        "step": hazard_step(loss),
    }
    found = asked(SIGN, model, DataLoader(TensorDataset(x, bins, numbers), 64), **options)
    assert ["in each of 8 directions" in one.measured for one in found] == [True] * wrong


@pytest.mark.parametrize(("deviation", "wrong"), [(12_000.0, True), (1.0, False)])
def test_a_column_that_drowns_the_others_in_a_loss_of_its_own(deviation: float, wrong: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 5, generator=generator)
    bins = (x[:, 0].sign() * 2 + 3).long()
    x[:, 4] *= deviation
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 6))
    options = {
        "loss": functional.mse_loss,
        "optimizer": torch.optim.SGD(model.parameters(), 0.1),
        "step": hazard_step(lambda *given: -hazards(*given)),
    }
    loader = DataLoader(TensorDataset(x, bins, torch.randint(2, (512,), generator=generator).float()), 64)
    found = asked(NOT_NORMALIZED, model, loader, **options)
    assert ["loss" in one.measured for one in found] == [True] * wrong


@pytest.mark.parametrize(("stride", "size", "same"), [(0, 8, 4), (8, 8, 0), (0, 32, 0)])
def test_batches_of_a_pass_have_other_samples(stride: int, size: int, same: int) -> None:
    """One batch of all there are is the same in any order."""

    def batches() -> Iterator[Tensor]:
        order = torch.randperm(32)
        yield from (order[stride * number :][:size] for number in range(4))

    loop = ast.parse("for index in batches():\n    model(X[index])").body[0]
    assert isinstance(loop, ast.For)
    assert same_numbers(loop, {"batches": batches}) == same


def apart(batch: list[Any]) -> Any:
    return pad_sequence(sorted((wave for wave, _ in batch), key=len), batch_first=True), torch.tensor(
        [label for _, label in batch]
    )


def put_back(batch: list[Any]) -> Any:
    order = torch.tensor([len(wave) for wave, _ in batch]).argsort()
    waves = pad_sequence([batch[row][0] for row in order.tolist()], batch_first=True)
    return waves, order.argsort(), torch.tensor([label for _, label in batch])


def blended(batch: list[Any]) -> Any:
    waves, labels = together(batch)
    other = torch.randperm(len(labels))
    return 0.6 * waves + 0.4 * waves[other], 0.6 * labels + 0.4 * labels[other]


def together(batch: list[Any]) -> Any:
    batch = sorted(batch, key=lambda item: len(item[0]))
    return pad_sequence([wave for wave, _ in batch], batch_first=True), torch.tensor([label for _, label in batch])


@pytest.mark.parametrize(("collate", "wrong"), [(apart, True), (together, False), (blended, False), (put_back, False)])
def test_a_collate_function_keeps_labels_beside_their_inputs(collate: Any, wrong: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randperm(40, generator=generator) + 20
    waves = [torch.randn(int(length), generator=generator) for length in lengths]
    loader = DataLoader([(wave, number % 3) for number, wave in enumerate(waves)], 8, collate_fn=collate)
    found, _ = rows_apart(loader) or (0, 0)
    assert (found >= 12) if wrong else not found
