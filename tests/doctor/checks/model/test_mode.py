"""`model.mode`: do dropout and batch norm work as they should, in training and in evaluation?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import adam, asked, digits, loop, quick_adam, read, said
from for_checks.networks import Middle
from striate.doctor.checks.model.mode import MODE, left_in_evaluation

LOSS = nn.CrossEntropyLoss()


PASS = "for epoch in range(5):\n    for x, y in loader:\n        pass\n"


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("momentum", "wrong"), [(0.0005, True), (0.1, False), (0.02, False)])
def test_batch_norm_measures_within_the_training(momentum: float, wrong: bool) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, momentum=momentum), nn.Flatten(), nn.Linear(144, 10))
    found = read(PASS, MODE, model, digits(), loss=LOSS)
    assert ["after all 100 batches" in one.measured for one in found] == [True] * wrong


@pytest.mark.parametrize("back", [True, False])
def test_a_step_may_look_for_its_inputs_in_evaluation_mode(back: bool) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        net.train()
        net[2].eval()
        x = batch[0].clone().requires_grad_()
        (slope,) = torch.autograd.grad(functional.cross_entropy(net(x), batch[1]), x)
        net[2].train(back)
        optimizer.zero_grad()
        value = functional.cross_entropy(net(batch[0] + 0.01 * slope.sign()), batch[1])
        value.backward()
        optimizer.step()
        return value.detach()

    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    assert len(asked(MODE, model, digits(), optimizer=optimizer, step=step)) == (not back)


class Speller(nn.Module):
    """Says a row of letters, each with the one before it, which a teacher may tell."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.next, self.out = nn.Linear(8, 16), nn.Embedding(5, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor, told: Tensor | None = None, teacher: float = 0.5) -> Tensor:
        hidden, said = self.first(x), []
        for place in range(4):
            said.append(self.out(hidden.relu()))
            letter = said[-1].argmax(1)
            follow = torch.rand(len(x)) < teacher
            hidden = hidden + self.next(torch.where(follow, letter if told is None else told[:, place], 0 * letter))
        return torch.stack(said, 1)


@pytest.mark.parametrize("shown", [True, False])
def test_a_teacher_tells_targets_by_chance_in_training_alone(shown: bool) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(128, 8), torch.randint(0, 5, (128, 4))

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        said = net(batch[0], batch[1]) if shown else net(batch[0])
        value = functional.cross_entropy(said.flatten(0, 1), batch[1].flatten())
        value.backward()
        optimizer.step()
        return value.detach()

    model = Speller()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    data = DataLoader(TensorDataset(x, y), 32)
    assert len(asked(MODE, model, data, optimizer=optimizer, step=step)) == (not shown)


@pytest.mark.parametrize(("batches", "wrong"), [(300, True), (31, False)])
def test_an_evaluation_within_a_pass_goes_back_to_training(batches: int, wrong: bool) -> None:
    """At the end of a pass the next one may begin in training mode."""
    told = [True] * 30 + [False] * 10
    assert left_in_evaluation(told, batches) == 31 * wrong
    assert not left_in_evaluation([*told, True], batches)


class Dropped(nn.Module):
    def __init__(self, always: bool) -> None:
        super().__init__()
        self.body, self.head, self.always = nn.Linear(64, 32), nn.Linear(32, 10), always
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x.flatten(1)).relu()
        if self.training or self.always:
            h = h * h.new_empty(len(h), 1).bernoulli_(0.7) / 0.7
        out: Tensor = self.head(h)
        return out


@pytest.mark.parametrize("always", [False, True])
def test_randomness_in_evaluation_is_found_before_a_head_of_zeros(always: bool) -> None:
    torch.manual_seed(0)
    model = Dropped(always)
    findings = asked(MODE, model, digits(), loss=LOSS, optimizer=torch.optim.Adam(model.parameters(), 1e-3))
    assert ["in evaluation mode" in one.measured for one in findings] == [True] * always


def step_in_evaluation(model: nn.Module, *rest: Any) -> Tensor:
    model.eval()
    return loop(model, *rest)


def step_then_evaluation(model: nn.Module, *rest: Any) -> Tensor:
    value = loop(model, *rest)
    model.eval()
    return value


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("step", [step_in_evaluation, step_then_evaluation])
@pytest.mark.parametrize(("part", "severity"), [(nn.BatchNorm1d(24), "error"), (nn.Dropout(0.3), "warning")])
def test_training_in_evaluation_mode(step: Any, part: nn.Module, severity: str) -> None:
    (found,) = asked(MODE, Middle(part), digits(), step=step, optimizer=quick_adam)
    assert (found.code, found.severity, found.where) == ("model.mode", severity, "act")
    assert "`model.train()`" in found.remedy


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("part", [nn.ReLU(), nn.LayerNorm(24), nn.BatchNorm1d(24, track_running_stats=False)])
def test_evaluation_mode_that_changes_nothing(part: nn.Module) -> None:
    assert not asked(MODE, Middle(part), digits(), step=step_in_evaluation, optimizer=quick_adam)


def step_with_both(model: nn.Module, batch: Any, *rest: Any) -> Tensor:
    model.train()
    value = loop(model, batch, *rest)
    model.eval()
    with torch.no_grad():
        model(batch[0])
    return value


@pytest.mark.parametrize("part", [nn.BatchNorm1d(24), nn.Dropout(0.3)])
def test_a_step_that_goes_back_to_training(part: nn.Module) -> None:
    assert not asked(MODE, Middle(part).eval(), digits(), step=step_with_both, optimizer=quick_adam)


@pytest.mark.slow
def test_a_network_handed_over_after_an_evaluation() -> None:
    model = Middle(nn.BatchNorm1d(24))
    for batch in list(digits())[:3]:
        loop(model, batch, adam(model.parameters(), 0.01), nn.CrossEntropyLoss())
    assert not asked(MODE, model.eval(), digits(), optimizer=quick_adam)
    (found,) = asked(MODE, Middle(nn.Dropout()).eval(), digits(), optimizer=quick_adam)
    assert found.severity == "note"
    (fresh,) = asked(MODE, Middle(nn.BatchNorm1d(24)).eval(), digits(), optimizer=quick_adam)
    assert fresh.severity == "error"


def test_one_batch_norm_left_in_evaluation_mode() -> None:
    model = Middle(nn.BatchNorm1d(24))
    model.act.eval()  # type: ignore[operator, union-attr]
    (found,) = asked(MODE, model, digits(), optimizer=quick_adam)
    assert (found.severity, found.where) == ("error", "act")


def convolutions(norm: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3, stride=2), norm, nn.ReLU(), nn.Flatten(), nn.Linear(72, 10))


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("momentum", [0.0, 1e-6])
def test_running_figures_that_stay(momentum: float) -> None:
    (found,) = asked(MODE, convolutions(nn.BatchNorm2d(8, momentum=momentum)), digits(), optimizer=quick_adam)
    assert found.severity == "error"
    assert "momentum" in found.measured


@pytest.mark.parametrize(
    ("momentum", "mean", "wrong"),
    [(0.001, 2.0, True), (0.1, 2.0, False), (0.01, 2.0, False), (0.001, 0.0, False)],
)
@pytest.mark.parametrize("loaded", [False, True])
def test_a_momentum_that_is_the_weight_of_the_old_statistics(
    momentum: float, mean: float, loaded: bool, wrong: bool
) -> None:
    """It does no harm where batches have the initial mean and variance, or the statistics are loaded."""
    torch.manual_seed(0)
    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    x = x.flatten(1)
    x = (x - x.mean(0)) / x.std(0).clamp_min(1e-3) + mean * torch.randn(64)
    norm = nn.BatchNorm1d(64, momentum=1.0)
    if loaded:
        norm(x)
    norm.momentum = momentum
    model = nn.Sequential(norm, nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    found = said(MODE, model, DataLoader(TensorDataset(x, y), 32, shuffle=True), optimizer=quick_adam)
    assert [one.severity for one in found] == ["warning"] * (wrong and not loaded)
    assert all("of the initial values are left" in one.measured for one in found)


@pytest.mark.parametrize(("momentum", "batch", "wrong"), [(0.99, 16, True), (0.6, 16, False), (0.99, 640, False)])
def test_running_figures_of_the_last_batch(momentum: float, batch: int, wrong: bool) -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(32, momentum=momentum)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), norm, nn.ReLU(), nn.Linear(32, 10))
    found = asked(MODE, model, digits(batch), loss=LOSS, optimizer=quick_adam)
    assert ["those of the last batch" in one.measured for one in found] == [True] * wrong


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("momentum", [0.1, 0.01, None])
def test_running_figures_that_follow(momentum: float | None) -> None:
    assert not asked(MODE, convolutions(nn.BatchNorm2d(8, momentum=momentum)), digits(), optimizer=quick_adam)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("part", "severity"),
    [
        (lambda x: functional.dropout(x, 0.5), "error"),
        (lambda x: functional.dropout(x, p=0.2, training=True), "error"),
        (lambda x: x * (torch.rand_like(x) > 0.3), "warning"),
        (lambda x: x + 0.3 * torch.randn(x.shape), "warning"),
    ],
)
def test_random_predictions(part: Any, severity: str) -> None:
    (found,) = asked(MODE, Middle(part), digits(), optimizer=quick_adam)
    assert found.severity == severity
    assert "two predictions for the same batch differ" in found.measured


class Stays(Middle):
    """Is never in evaluation mode."""

    def train(self, mode: bool = True) -> Stays:
        super().train(mode or True)
        return self


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("part", "severity"), [(nn.BatchNorm1d(24), "error"), (nn.Dropout(0.3), "warning")])
def test_parts_that_stay_in_training_mode(part: nn.Module, severity: str) -> None:
    (found,) = asked(MODE, Stays(part), digits(), optimizer=quick_adam)
    assert (found.severity, found.where) == (severity, "act")
    assert "super().train(mode)" in found.remedy


def test_random_numbers_in_training_alone_and_samples_that_are_drawn() -> None:
    assert not asked(MODE, Middle(nn.Dropout(0.5)), digits(), optimizer=quick_adam)
    noisy = Middle(lambda x: x + torch.randn_like(x))
    loss = nn.CrossEntropyLoss()
    assert not asked(MODE, noisy, digits(), optimizer=quick_adam, loss=loss, task="reconstruct")


def hidden_step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> torch.Tensor:
    x = batch[0]
    optimizer.zero_grad()
    loss: torch.Tensor = functional.mse_loss(model(x), x.flatten(1)[:, :10])
    loss.backward()
    optimizer.step()
    return loss.detach()


@pytest.mark.parametrize("labeled", [False, True])
def test_inputs_that_are_masked_at_random_and_reconstructed(labeled: bool) -> None:
    x, y = next(iter(digits(320)))
    data = TensorDataset(x, y) if labeled else TensorDataset(x)
    model = Middle(lambda x: x * (torch.rand_like(x) > 0.3))
    options: dict[str, Any] = {} if labeled else {"step": hidden_step}
    assert bool(asked(MODE, model, DataLoader(data, 32, shuffle=True), optimizer=quick_adam, **options)) == labeled
