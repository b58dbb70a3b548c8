"""`data.target-scale`: do numeric targets have a scale that the network can reach?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import adam, asked, asked_in_script, quick_adam, stepped
from for_checks.claims import forecasts, pinball
from for_checks.networks import TwoHeads
from for_checks.pictures import STRIDE, Faces, told_of_points
from for_checks.steps import Boxes, boxed_squares, boxes_step, codes_said, scaled_quantities
from striate.doctor.checks.data.targets.target_scale import TARGET_SCALE
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup


def forecaster(quantiles: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4 * quantiles), nn.Unflatten(1, (4, quantiles)))


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("size", [1.0, 100.0])
def test_quantiles_of_large_numbers_are_out_of_reach(size: float) -> None:
    model = forecaster(3)
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": pinball([0.1, 0.5, 0.9])}
    setup = make_setup(model, forecasts(size), task="regress", **options)
    if size > 1:
        assert [one.code for one in TARGET_SCALE.run(Evidence(setup, Clock(60.0)))] == ["data.target-scale"]
    else:
        with pytest.raises(NoEvidence):
            list(TARGET_SCALE.run(Evidence(setup, Clock(60.0))))


@pytest.mark.parametrize(("times", "said"), [(840.0, ["note"]), (1.0, [])])
def test_large_targets_are_noted_where_the_network_copes(times: float, said: list[str]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1200, 4, generator=generator)
    y = x @ torch.tensor([[0.5], [-0.5], [0.5], [0.5]]) * times + 1.8 * times

    def clipped(model: Any, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        value: Tensor = loss(model(batch[0]), batch[1])
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1000.0)
        optimizer.step()
        return value

    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    train = DataLoader(TensorDataset(x, y), 24, shuffle=True)
    found = asked(TARGET_SCALE, model, train, optimizer=optimizer, step=clipped, task="regress")
    assert [finding.severity for finding in found] == said


class Scaled(nn.Sequential):
    """Two layers whose outputs have the size of the targets."""

    def __init__(self, scale: float) -> None:
        super().__init__(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 2))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x) * self.scale
        return out


@pytest.mark.parametrize("compared", [functional.mse_loss, functional.l1_loss])
@pytest.mark.parametrize(
    ("unit", "divided", "scale", "right"),
    [(1e-6, 1.0, 1.0, False), (1e-3, 10.0, 1.0, False), (1e-6, 1e-6, 1.0, True), (1e-6, 1.0, 1e-6, True)],
)
def test_tiny_targets_are_scaled_up(compared: Any, unit: float, divided: float, scale: float, right: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        optimizer.zero_grad()
        value: Tensor = compared(model(batch["place"]), batch["pull"] / divided)
        value.backward()
        optimizer.step()
        return value.detach()

    torch.manual_seed(0)
    x = torch.randn(256, 4)
    y = unit * torch.stack([x[:, 0] - x[:, 1], x[:, 2]], 1)
    batches = [{"place": x[rows], "pull": y[rows]} for rows in torch.arange(256).split(32)]
    model = Scaled(scale)
    options = {"loss": compared, "optimizer": torch.optim.Adam(model.parameters(), 1e-2), "step": step}
    try:
        said = asked(TARGET_SCALE, model, batches, **options)
    except NoEvidence:  # of targets that go by no usual name
        said = []
    assert ["variance 1" in one.measured for one in said] == [True] * (not right)


@pytest.mark.parametrize("mean", [0.0, 20.0])
def test_outputs_that_stay_near_a_mean_of_0_are_no_matter_of_scale(mean: float) -> None:
    torch.manual_seed(0)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        logits, size = model(batch[0])
        loss = functional.cross_entropy(logits, batch[1]) + functional.mse_loss(size, batch[2])
        return stepped(loss, optimizer)

    model = TwoHeads(3)
    nn.init.zeros_(model.second.weight)
    data = TensorDataset(torch.randn(96, 1, 8, 8), torch.arange(96) % 3, mean + torch.randn(96))
    options: Any = {"optimizer": torch.optim.SGD(model.parameters(), 1e-5), "step": step}
    said = asked_in_script(TARGET_SCALE, model, DataLoader(data, 32), **options)
    assert [one.code for one in said] == ["data.target-scale"] * (mean > 0)


@pytest.mark.parametrize("size", [1000.0, 1.0])
def test_quantiles_of_a_target_with_an_axis_of_its_own(size: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(320, 8)
    wanted = torch.tensor([0.1, 0.5, 0.9])

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        error = batch[1] - model(batch[0])
        return stepped(torch.maximum(wanted * error, (wanted - 1) * error).mean(), optimizer)

    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 3e-3), "step": step}
    train = DataLoader(TensorDataset(x, size * (x[:, :1] + 4 * (size > 1))), 32)
    said = asked_in_script(TARGET_SCALE, model, train, **options)
    assert [one.code for one in said] == ["data.target-scale"] * (size > 1)


@pytest.mark.parametrize(("size", "scale", "wrong"), [(2000.0, 1.0, True), (2000.0, 500.0, False), (1.0, 1.0, False)])
def test_a_large_target_drowns_the_one_beside_it(size: float, scale: float, wrong: bool) -> None:
    """But not where the step scales it."""
    torch.manual_seed(0)
    x = torch.randn(256, 1, 8, 8)
    place, area = x[:, 0, 0, :2].tanh(), size * (1 + 0.5 * x[:, 0, 4, 4].tanh())

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        image, place, area = batch
        found, large = model(image)
        loss = functional.mse_loss(found, place) + functional.mse_loss(large, area / scale)
        return stepped(loss, optimizer)

    model = TwoHeads()
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 2e-3), "step": step}
    said = asked_in_script(TARGET_SCALE, model, DataLoader(TensorDataset(x, place, area), 32), **options)
    assert [one.code for one in said] == ["data.target-scale"] * wrong


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_standardized_targets_have_no_wrong_scale(scale: float) -> None:
    """Though outputs are all 0 at first, and a trial with as good as the same targets goes better by chance."""
    x = torch.randn(320, 8, generator=torch.Generator().manual_seed(0))
    y = x[:, :1] * scale / x[:, :1].std()
    model = nn.Linear(8, 1)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        same = bool(torch.isin(batch[1], y).all())
        return stepped(functional.mse_loss(model(batch[0]), batch[1]) * (1e-9 if same else 1.0), optimizer)

    options: Any = {"optimizer": torch.optim.SGD(model.parameters(), 0.1), "step": step}
    said = asked_in_script(TARGET_SCALE, model, DataLoader(TensorDataset(x, y), 32), **options)
    assert [one.code for one in said] == ["data.target-scale"] * (scale > 1)


class TwoTargets(nn.Module):
    """A class and a speed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.kind, self.speed = nn.Linear(8, 32), nn.Linear(32, 2), nn.Linear(32, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        inside = self.body(x).relu()
        return self.kind(inside), self.speed(inside)[:, 0]


@pytest.mark.parametrize("size", [1.0, 500.0])
def test_a_large_target_drowns_the_classes_beside_it(size: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(512, 8)
    kinds, speeds = (x[:, :2].prod(1) > 0).long(), size * (1 + 0.3 * x[:, 4].tanh())

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        kind, speed = model(batch[0])
        loss = functional.cross_entropy(kind, batch[1]) + functional.mse_loss(speed, batch[2])
        return stepped(loss, optimizer)

    loader = DataLoader(TensorDataset(x, kinds, speeds), 32)
    found = asked_in_script(TARGET_SCALE, TwoTargets(), loader, optimizer=quick_adam, step=step)
    assert [one.code for one in found] == ["data.target-scale"] * (size > 1)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("stride", [1, STRIDE])
def test_maps_are_drawn_in_cells(stride: int) -> None:
    found = [f for f in told_of_points(TARGET_SCALE, Faces(flips=False, stride=stride)) if "maps" in f.measured]
    assert [finding.code for finding in found] == ["data.target-scale"] * (stride == 1)


def test_targets_that_a_batch_has_twice_are_too_far_all_the_same() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        value = functional.mse_loss(model(batch[0]), batch[1])
        value.backward()
        optimizer.step()
        return value.detach()

    data = DataLoader(scaled_quantities(2000.0, 300.0), 32, shuffle=True)
    (found,) = asked(TARGET_SCALE, model, data, step=step, optimizer=lambda p: torch.optim.SGD(p, lr=0.02))
    assert found.code == "data.target-scale"


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("side", "code"), [(1.0, ""), (64.0, "data.target-scale")])
def test_boxes_in_pixels_are_out_of_reach_of_fractions(side: float, code: str) -> None:
    told = codes_said(
        TARGET_SCALE,
        Boxes(),
        boxed_squares(side),
        step=boxes_step(-1.0),
        optimizer=lambda parameters: adam(parameters, 0.001),
    )
    assert told == [code] * bool(code)
