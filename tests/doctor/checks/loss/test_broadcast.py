"""`loss.broadcast`: a loss of outputs and targets in different shapes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import adam, asked, asked_in_script, digits, loop, perceptron, rows_in_batches, stepped
from for_checks.claims import Claims, Column, of_claims
from for_checks.rewards import ACTOR_CRITIC, DEEP_Q, found_in_rewards, of_code, values_of_rewards
from for_checks.steps import told
from striate.doctor.checks.loss.broadcast import BROADCAST, BROADCAST_OF_VARIABLES


def ending_with(outputs: int, *last: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, outputs), *last)


def quantities(shape: tuple[int, ...] = (), count: int = 256) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 64, generator=generator)
    y = x[:, :4].sum(1).reshape(-1, *shape) + 0.1 * torch.randn(count, *shape, generator=generator)
    return DataLoader(TensorDataset(x, y), 32, shuffle=True, generator=generator)


def squares(outputs: Tensor, y: Tensor) -> Tensor:
    return ((outputs - y) ** 2).mean()


def test_the_usual_loss_compares_each_output_with_its_own_target() -> None:
    assert not asked(BROADCAST, ending_with(1), quantities(), task="regress")
    assert asked(BROADCAST, ending_with(1), quantities(), task="regress", loss=nn.MSELoss())


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("loss", [squares, nn.MSELoss(), nn.SmoothL1Loss()])
def test_all_with_all_is_named_with_the_mended_loss(loss: Any) -> None:
    (found,) = asked(BROADCAST, ending_with(1), quantities(), loss=loss, task="regress")
    assert (found.code, found.severity) == ("loss.broadcast", "error")
    assert "outputs have shape 32×1, targets 32, which broadcast to 32×32" in found.measured
    assert "with outputs in the shape of the targets" in found.measured
    assert "outputs.squeeze(1)" in found.remedy


def test_all_with_all_is_seen_in_a_step_with_its_own_loss() -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        return loop(model, batch, optimizer, squares)

    (found,) = asked(BROADCAST, ending_with(1), quantities(), step=step, task="regress")
    assert found.code == "loss.broadcast"


def test_flat_outputs_for_upright_targets() -> None:
    (found,) = asked(BROADCAST, ending_with(1, nn.Flatten(0)), quantities((1,)), loss=squares, task="regress")
    assert "targets.squeeze(1)" in found.remedy


def test_masks_with_an_axis_too_few() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(48, 1, 6, 6, generator=generator)
    loader = DataLoader(TensorDataset(x, (x[:, 0] > 0).float()), 12)
    torch.manual_seed(0)
    model = nn.Conv2d(1, 1, 3, padding=1)
    (found,) = asked(BROADCAST, model, loader, loss=squares, task="segment")
    assert "outputs.squeeze(1)" in found.remedy


def test_one_output_for_several_quantities() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(96, 64, generator=generator)
    loader = DataLoader(TensorDataset(x, x[:, :3]), 24)
    (found,) = asked(BROADCAST, ending_with(1), loader, loss=nn.MSELoss(), task="regress")
    assert "3 outputs" in found.remedy


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("model", "loss", "shape"),
    [
        (ending_with(1), squares, (1,)),
        (ending_with(1, nn.Flatten(0)), squares, ()),
        (ending_with(1), lambda o, y: squares(o.squeeze(1), y), ()),
        (ending_with(1), lambda o, y: squares(o, y.unsqueeze(1)), ()),
    ],
)
def test_what_is_brought_into_one_shape_is_left_in_peace(model: nn.Module, loss: Any, shape: tuple[int, ...]) -> None:
    assert not asked(BROADCAST, model, quantities(shape), loss=loss, task="regress")


def test_classes_are_not_compared_all_with_all() -> None:
    assert not asked(BROADCAST, perceptron(), digits(), loss=nn.CrossEntropyLoss())


class Offset(Claims):
    """Outputs of one axis, to which the exposure is added as a column, or as it is."""

    def __init__(self, column: bool) -> None:
        super().__init__()
        self.column = column

    def forward(self, kinds: Tensor, numbers: Tensor, exposure: Tensor) -> Tensor:
        return super().forward(kinds, numbers, exposure[:, None] if self.column else exposure)


@pytest.mark.parametrize("column", [False, True])
def test_an_offset_as_a_column_plus_one_number_of_each_sample(column: bool) -> None:
    assert of_claims(BROADCAST, Offset(column)) == ["loss.broadcast"] * column


@pytest.mark.parametrize("squeezed", [False, True])
def test_a_column_plus_an_offset_of_each_sample(squeezed: bool) -> None:
    assert of_claims(BROADCAST, Claims(squeezed)) == ["loss.broadcast"] * (not squeezed)


X = torch.randn(320, 4, generator=torch.Generator().manual_seed(0))


RATES = (X[:, 0] - 0.5).exp()


COUNTS = torch.poisson(RATES, generator=torch.Generator().manual_seed(0))


class Flattened(nn.PoissonNLLLoss):
    def forward(self, log_input: Tensor, target: Tensor) -> Tensor:
        return super().forward(log_input.flatten(), target.flatten())


@pytest.mark.parametrize(
    ("squeezed", "loss", "wrong"),
    [(False, nn.PoissonNLLLoss(), True), (True, nn.PoissonNLLLoss(), False), (False, Flattened(), False)],
    ids=["column", "squeezed", "flattened by the loss"],
)
def test_a_column_against_numbers_of_which_torch_does_not_warn(squeezed: bool, loss: Any, wrong: bool) -> None:
    torch.manual_seed(0)
    model = Column(squeezed)
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 0.01), "loss": loss, "task": "regress"}
    findings = asked(BROADCAST, model, rows_in_batches(X, COUNTS), **options)
    assert [one.code for one in findings] == ["loss.broadcast"] * wrong


def test_a_margin_loss_that_torch_refuses_of_other_shapes() -> None:
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(x, x[:, 0].sign()), 16)
    (found,) = asked(BROADCAST, nn.Linear(8, 1), loader, loss=nn.SoftMarginLoss(), task="classify")
    assert "the loss raises RuntimeError" in found.measured
    assert "outputs.squeeze(1)" in found.remedy


class Places(nn.Module):
    """Where ink lies, as a column or as one number a sample."""

    def __init__(self, squeezed: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head, self.squeezed = nn.Sequential(nn.Flatten(), nn.Linear(64, 16)), nn.Linear(16, 1), squeezed

    def forward(self, x: Tensor) -> Tensor:
        given: Tensor = self.head(self.body(x).relu())
        return given.squeeze(1) if self.squeezed else given


@pytest.mark.parametrize("squeezed", [True, False])
def test_a_column_less_one_number_a_sample_is_all_with_all(squeezed: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        ink = batch[0].mean((1, 2, 3))
        given = model(batch[0])
        optimizer.zero_grad()
        value: Tensor = (given - ink).abs().mean() + 0.01 * functional.mse_loss(given.reshape(-1), batch[1].float())
        value.backward()
        optimizer.step()
        return value.detach()

    findings = asked(BROADCAST, Places(squeezed), digits(), step=step, task="regress")
    assert [one.code for one in findings] == ["loss.broadcast"] * (not squeezed)
    assert not findings or "32×32 in their difference" in findings[0].measured


SQUARED = "policy_loss(x) + 0.5 * ((newvalue - b_returns[mb_inds]) ** 2).mean()"


@pytest.mark.parametrize("shape", [(8, 1), (8,)])
def test_values_compared_with_rows_of_returns(shape: tuple[int, ...]) -> None:
    names = {"newvalue": torch.zeros(shape), "b_returns": torch.ones(32), "mb_inds": torch.arange(8)}
    assert of_code(ACTOR_CRITIC.format(term=SQUARED), **names) == ["loss.broadcast"] * (len(shape) == 2)


def test_rows_and_columns_that_are_meant_to_meet() -> None:
    pairs = "((points[:, None] - points[rows]) ** 2).mean()"
    assert of_code(ACTOR_CRITIC.format(term=pairs), points=torch.ones(8), rows=torch.arange(8)) == []


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("column", [False, True])
def test_one_of_several_losses_compares_all_with_all(column: bool) -> None:
    data = TensorDataset(torch.randn(128, 16), torch.randn(128))

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        out = model(batch[0])
        kinds = nn.functional.cross_entropy(out[:, 1:], (batch[1] > 0).long())
        price = out[:, :1] if column else out[:, 0]
        return stepped(kinds + nn.functional.mse_loss(price, batch[1]), optimizer)

    found = told(BROADCAST, nn.Linear(16, 3), DataLoader(data, 16), step=step, task="regress")
    assert ["in `mse_loss`" in finding.measured for finding in found] == [True] * column


@pytest.mark.parametrize("column", [True, False])
def test_a_loss_that_is_an_object_compares_a_column_with_a_row(column: bool) -> None:
    text = DEEP_Q + "\ncriterion(chosen, targets)\n"
    chosen = torch.rand(32, 1) if column else torch.rand(32)
    names: dict[str, Any] = values_of_rewards(criterion=nn.SmoothL1Loss(), chosen=chosen, targets=torch.rand(32))
    assert ("loss.broadcast" in found_in_rewards(text, names)) is column
    assert BROADCAST_OF_VARIABLES.of_source


class Maps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.layer(x)
        return x[:, :1], x[:, 1:]


def of_maps(outputs: Tensor, y: Tensor) -> Tensor:
    return (functional.softplus(outputs) - outputs * y).mean()


def against_all(outputs: Tensor, y: Tensor) -> Tensor:
    """On purpose: maps by which samples are to differ."""
    return (outputs.squeeze(1)[:, None] - y).square().mean()


LOSSES = {"channel": of_maps, "squeezed": lambda outputs, y: of_maps(outputs.squeeze(1), y), "all": against_all}


@pytest.mark.parametrize("loss", LOSSES)
def test_maps_with_a_channel_in_a_loss_that_is_written_out(loss: str) -> None:
    x = torch.randn(64, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(x, (x[:, 0] > 1).float()), 16)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        outputs, others = model(batch[0])
        return stepped(LOSSES[loss](outputs, batch[1]) + others.square().mean(), optimizer)

    findings = asked_in_script(BROADCAST, Maps(), loader, optimizer=adam, step=step)
    assert [one.code for one in findings] == ["loss.broadcast"] * (loss == "channel")
