"""Averages of weights, triplets of signals, and inputs that evaluation or noise does not fit: faults that were met in
scripts, and their healthy twins."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from asked import digits, perceptron
from test_met_in_second_heads import asked_or_silent, stepped
from test_met_in_triplets import step_of_triplets
from test_met_in_vision_scripts import read
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from striate.doctor.checks.data.inputs.not_normalized import NOT_NORMALIZED
from striate.doctor.checks.data.labels.labels_random import LABELS_RANDOM
from striate.doctor.checks.data.shift.fitted_anew import FITTED_ANEW
from striate.doctor.checks.data.shift.shift import SHIFT
from striate.doctor.checks.model.evaluates_untrained import READ
from striate.doctor.checks.optim.low_precision import LOW_PRECISION


def waves(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Signals (N, 1, 64) of three frequencies, that begin at any time, and which it is (N,)."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.arange(count) % 3
    angles = 6.28 * (2 + 4 * kinds[:, None]) * torch.arange(64) / 64 + 6.28 * torch.rand(count, 1, generator=generator)
    return (angles.sin() + 0.2 * torch.randn(count, 64, generator=generator))[:, None], kinds


class Triplets(Dataset[Any]):
    """A signal, the next of its class and one of another class."""

    def __init__(self, signals: Tensor, labels: Tensor) -> None:
        self.signals, self.labels = signals, labels

    def __len__(self) -> int:
        return len(self.signals)

    def __getitem__(self, number: int) -> tuple[Tensor, ...]:
        return tuple(self.signals[place % len(self)] for place in (number, number + 3, number + 1))


class Spectra(nn.Module):
    """An embedding of signals, by what each frequency has of them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(33, 8)

    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(self.layer(torch.tanh(torch.fft.rfft(x[:, 0]).abs() / 8)), dim=1)


@pytest.mark.parametrize("apart", [True, False])
def test_labels_beside_signals_by_which_triplets_are_chosen(apart: bool) -> None:
    signals, labels = waves(300, 0)
    labels = labels[torch.randperm(300, generator=torch.Generator().manual_seed(0))] if apart else labels
    model = Spectra()
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step_of_triplets}
    said = asked_or_silent(LABELS_RANDOM, model, DataLoader(Triplets(signals, labels), 30), **options)
    assert ["chooses what goes together" in one.measured for one in said] == [True] * apart


@pytest.mark.parametrize("scale", [600.0, 1.0])
def test_validation_of_triplets_that_is_not_scaled(scale: float) -> None:
    train, (x, labels) = DataLoader(Triplets(*waves(300, 0)), 30), waves(150, 1)
    model = Spectra()
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-2), "step": step_of_triplets}
    said = asked_or_silent(SHIFT, model, train, val=DataLoader(TensorDataset(scale * x, labels), 50), **options)
    assert ["nearest training sample" in one.measured for one in said] == [True] * (scale > 1)


AVERAGED = """
def update(average, model):
    for a, p in zip(average.parameters(), model.parameters()):
        LINE
for x, y in loader:
    step(model, x, y)
    update(average, model)
"""


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("a = 0.9 * a + 0.1 * p", True),
        ("a.mul_(0.9).add_(p, alpha=0.1)", False),
        ("a = a.mul_(0.9).add_(p, alpha=0.1)", False),
        ("a = 0.9 * a + 0.1 * p; kept.append(a)", False),
        ("a.data = 0.9 * a + 0.1 * p", False),
    ],
)
def test_an_average_is_written_into_the_tensor(line: str, wrong: bool) -> None:
    model = perceptron()
    names = {"model": model, "average": copy.deepcopy(model)}
    options: Any = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD(model.parameters(), 0.1)}
    said = read(
        AVERAGED.replace("LINE", line.replace("; ", "\n        ")), READ, model, digits(), names=names, **options
    )
    assert ["variable of the loop" in one.measured for one in said] == [True] * wrong


@pytest.mark.parametrize("half", [True, False])
def test_an_average_in_half_precision_stays_behind(half: bool) -> None:
    model = perceptron()
    average = copy.deepcopy(model).requires_grad_(False).to(torch.bfloat16 if half else torch.float32)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        loss = stepped(model, functional.cross_entropy(model(batch[0]), batch[1]), optimizer)
        with torch.no_grad():
            for a, p in zip(average.parameters(), model.parameters(), strict=True):
                a.mul_(0.999).add_(p.to(a.dtype), alpha=0.001)
        return loss

    options: Any = {"optimizer": torch.optim.SGD(model.parameters(), 0.1, momentum=0.9), "step": step}
    said = asked_or_silent(LOW_PRECISION, model, digits(), **options)
    assert ["an average" in one.measured for one in said] == [True] * half


EVALUATED = """
@torch.no_grad()
def evaluate(model, val_loader):
    for images, labels in val_loader:
        inputs = GIVEN
        right = (model(inputs).argmax(1) == labels).sum()
for x, y in loader:
    step(model, x, y)
evaluate(model, val_loader)
"""


@pytest.mark.parametrize(("given", "wrong"), [("images.float()", True), ("normalize(images)", False)])
def test_an_evaluation_without_what_the_step_prepares(given: str, wrong: bool) -> None:
    torch.manual_seed(0)
    labels = torch.arange(480) % 3
    x = 0.4 + 0.02 * torch.randn(480, 1, 8, 8)
    x[torch.arange(480), 0, 2 * labels] += 0.1
    train, val = (DataLoader(TensorDataset(x[part], labels[part]), 40) for part in (slice(320), slice(320, None)))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        return stepped(model, functional.cross_entropy(model((batch[0] - 0.41) / 0.04), batch[1]), optimizer)

    names = {"model": model, "val_loader": val, "torch": torch}
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step, "val": val, "names": names}
    said = read(EVALUATED.replace("GIVEN", given), SHIFT, model, train, **options)
    assert ["as they are read" in one.measured for one in said] == [True] * wrong


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("frame.assign(label=pd.factorize(frame.digit)[0])", "data.label-map"),
        ("frame.assign(label=pd.factorize(frame.digit, sort=True)[0])", None),
        ("frame.assign(label=pd.factorize(frame.digit)[0] if known is None else known)", None),
        ("frame.assign(patient=pd.factorize(frame.name)[0])", None),
    ],
)
def test_a_function_that_numbers_labels_of_each_part(line: str, code: str | None) -> None:
    text = f"def encode(frame):\n    return {line}\ntrain_df, val_df = encode(train_df), encode(val_df)\n"
    said = read(text + "for x, y in loader:\n    pass\n", FITTED_ANEW, perceptron(), digits())
    assert [one.code for one in said] == ([] if code is None else [code])


@pytest.mark.parametrize(("size", "wrong"), [(100.0, True), (1.0, False)])
def test_images_beside_which_noise_is_a_trifle(size: float, wrong: bool) -> None:
    torch.manual_seed(0)
    x = size * (torch.rand(320, 1, 1, 8) + torch.zeros(320, 1, 8, 8))

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        noise = torch.randn_like(batch[0])
        return stepped(model, functional.mse_loss(model(0.9 * batch[0] + 0.4 * noise), noise), optimizer)

    model = nn.Sequential(nn.Conv2d(1, 16, (5, 1), padding=(2, 0)), nn.ReLU(), nn.Conv2d(16, 1, 1))
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-2), "step": step}
    said = asked_or_silent(NOT_NORMALIZED, model, DataLoader(TensorDataset(x), 32), **options)
    assert ["noise of deviation 1" in one.measured for one in said] == [True] * wrong
