"""`data.not-normalized`: do the inputs have a scale that the network can learn from?"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import adam, asked, asked_in_script, digits, perceptron, pixels, said, stepped
from for_checks.claims import Flow, hazard_step, hazards, likelihood, sensors
from for_checks.pictures import places
from striate.doctor.checks.data.inputs.not_normalized import NOT_NORMALIZED
from striate.doctor.evidence.clock import NoEvidence


def momentum(parameters: object) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)  # type: ignore[arg-type]


def test_bytes_hurt_a_plain_network_and_the_remedy_is_tried() -> None:
    x, y = pixels(640)
    gray = 80 * x + 120
    (finding,) = asked(NOT_NORMALIZED, perceptron(), (gray, y), optimizer=momentum)
    assert "with standardized inputs the accuracy after" in finding.measured
    assert "`x = (x - " in finding.remedy


def test_bytes_are_why_the_first_predictions_are_sure() -> None:
    x, y = pixels(640)
    (finding,) = asked(
        NOT_NORMALIZED, perceptron(64), (80 * x + 120, y), optimizer=lambda parameters: adam(parameters, 0.001)
    )
    assert finding.severity == "warning"
    assert "the first loss is" in finding.measured


def test_bytes_do_not_hurt_where_the_network_normalizes() -> None:
    x, y = pixels(640)
    normed = nn.Sequential(nn.BatchNorm2d(1), perceptron())
    assert not asked(NOT_NORMALIZED, normed, (80 * x + 120, y), optimizer=momentum)


def test_pixels_between_zero_and_one_are_healthy() -> None:
    x, y = pixels(640)
    assert not asked(NOT_NORMALIZED, perceptron(), ((x + 1) / 3, y), optimizer=momentum)


@pytest.mark.parametrize(
    ("contrast", "normed", "wrong"), [(0.06, False, True), (0.06, True, False), (0.2, False, False)]
)
def test_images_that_hardly_differ_from_their_mean(contrast: float, normed: bool, wrong: bool) -> None:
    """As pixels between 0 and 1 are that were standardized by figures of pixels between 0 and 16."""
    x, y = pixels(640)
    model = nn.Sequential(nn.BatchNorm2d(1) if normed else nn.Identity(), perceptron(32, depth=2))
    found = asked(NOT_NORMALIZED, model, (contrast * x - 0.76, y), optimizer=lambda p: torch.optim.SGD(p, lr=0.05))
    assert ["with standardized inputs the accuracy" in one.measured for one in found] == [True] * wrong


def test_columns_in_their_own_units() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 4, generator=generator)
    y = (x[:, 0] + x[:, 1] > 0).long()
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    uneven = x * torch.tensor([1.0, 1.0, 1.0, 900.0])
    (finding,) = asked(NOT_NORMALIZED, model, (uneven, y), optimizer=lambda p: torch.optim.SGD(p, lr=0.05))
    assert "columns with means" in finding.measured
    assert "x_train.mean(0)" in finding.remedy


@pytest.mark.parametrize(("size", "wrong"), [(100.0, True), (1.0, False)])
def test_images_beside_which_noise_is_a_trifle(size: float, wrong: bool) -> None:
    torch.manual_seed(0)
    x = size * (torch.rand(320, 1, 1, 8) + torch.zeros(320, 1, 8, 8))

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        noise = torch.randn_like(batch[0])
        return stepped(functional.mse_loss(model(0.9 * batch[0] + 0.4 * noise), noise), optimizer)

    model = nn.Sequential(nn.Conv2d(1, 16, (5, 1), padding=(2, 0)), nn.ReLU(), nn.Conv2d(16, 1, 1))
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-2), "step": step}
    said = asked_in_script(NOT_NORMALIZED, model, DataLoader(TensorDataset(x), 32), **options)
    assert ["noise of variance 1" in one.measured for one in said] == [True] * wrong


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "normalizes"), [(1e-4, False), (1.0, False), (1e-3, True)])
def test_columns_that_hardly_vary_where_a_loss_has_no_end(scale: float, normalizes: bool) -> None:
    """Of counts: what is learned is their mean, as from zeros. A running variance comes from 1 to 1e-6 in 160 steps."""
    torch.manual_seed(0)
    x = torch.randn(480, 8)
    counts = torch.poisson((1.5 + x[:, :4].sum(1) / 2).exp())
    x[:, :7] *= scale
    start = [nn.BatchNorm1d(8, eps=1e-12)] if normalizes else []
    model = nn.Sequential(*start, nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 1), nn.Flatten(0))
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 0.01), "loss": nn.PoissonNLLLoss()}
    said = asked_in_script(NOT_NORMALIZED, model, DataLoader(TensorDataset(x, counts), 48), **options)
    assert [one.code for one in said] == ["data.not-normalized"] * (scale < 1 and not normalizes)


@pytest.mark.slow
@pytest.mark.parametrize("standard", [True, False])
def test_columns_in_units_of_their_own_go_into_no_flow(standard: bool) -> None:
    flow = Flow(depth=3)
    optimizer = torch.optim.Adam(flow.parameters(), 1e-3)
    options: Any = {"optimizer": optimizer, "step": likelihood(), "task": "regress"}
    said = asked(NOT_NORMALIZED, flow, sensors(standard), **options)
    assert [one.code for one in said] == ["data.not-normalized"] * (not standard)


LOSS = nn.CrossEntropyLoss()


@pytest.mark.parametrize(("times", "wrong"), [(2, True), (1, False)])
def test_pixels_are_divided_once(times: int, wrong: bool) -> None:
    images = torch.randint(0, 256, (64, 1, 8, 8), generator=torch.Generator().manual_seed(0)).float() / 255**times
    found = said(NOT_NORMALIZED, perceptron(), DataLoader(TensorDataset(images, torch.arange(64) % 10), 16), loss=LOSS)
    assert ["by 255 twice" in one.measured for one in found] == [True] * wrong


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("times", "odd"), [(255.0, True), (1.0, False)])
def test_pixels_that_put_outputs_at_their_limits(times: float, odd: bool) -> None:
    torch.manual_seed(0)
    x, y = places(apart=False).dataset.tensors  # type: ignore[attr-defined]
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 64), nn.ReLU(), nn.Linear(64, 2), nn.Sigmoid())
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    loader = DataLoader(TensorDataset(times * x, y), 16, shuffle=True)
    said = asked(NOT_NORMALIZED, model, loader, loss=nn.MSELoss(), optimizer=optimizer)
    assert [one.code for one in said] == ["data.not-normalized"] * odd


@pytest.mark.parametrize("scaled", [True, False])
def test_a_table_that_is_restored_is_to_be_scaled(scaled: bool) -> None:
    torch.manual_seed(0)
    rows = torch.randn(256, 8) * (1 if scaled else 10 ** torch.linspace(-1, 3, 8))
    loader = DataLoader(TensorDataset(rows), batch_size=32)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        value = functional.mse_loss(model(batch[0]), batch[0])
        value.backward()
        optimizer.step()
        return value.detach()

    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 8))
    found = said(NOT_NORMALIZED, model, loader, step=step, optimizer=adam)
    assert ["of the squares" in one.measured for one in found] == [True] * (not scaled)


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


class Rescaling(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale - 1


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("twice", [True, False])
def test_a_network_that_rescales_what_was_scaled_already(twice: bool) -> None:
    torch.manual_seed(0)
    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    x = (x - x.min()) / (x.max() - x.min()) * (1 if twice else 255)
    model = nn.Sequential(
        Rescaling(1 / 127.5),
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(288, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )
    train = DataLoader(TensorDataset(x, y), 32, shuffle=True)
    found = said(NOT_NORMALIZED, model, train, optimizer=lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9))
    assert ["after the network's own scaling" in one.where for one in found] == [True] * twice


@pytest.mark.parametrize("training", [True, False])
def test_a_batch_norm_that_would_normalize_inputs_is_judged_by_its_mode(training: bool) -> None:
    """In evaluation mode with its first statistics it does not: `model.mode` says so."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm2d(1), perceptron()).train(training)
    bytes_ = [(255 * x, y) for x, y in digits()]

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Any:
        return stepped(loss(model(batch[0]), batch[1]), optimizer)

    found: list[Any] = []
    with suppress(NoEvidence):
        found = asked(NOT_NORMALIZED, model, bytes_, optimizer=adam, step=step)
    assert not found
