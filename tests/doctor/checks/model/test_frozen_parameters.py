"""`model.frozen-parameters`: are layers frozen that were never trained?"""

from __future__ import annotations

import textwrap
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from for_checks.asked import asked, digits, loop, perceptron, quick_adam
from for_checks.scripts import found, values
from striate.doctor.checks.model.frozen_parameters import FROZEN_PARAMETERS


class Stages(nn.Sequential):
    """A small frozen stage, its batch norm in evaluation mode, or in that of the rest."""

    def __init__(self, evaluates: bool) -> None:
        super().__init__(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(288, 32), nn.Linear(32, 10))
        self.evaluates = evaluates
        for part in (self[0], self[1]):
            part.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> Any:
        super().train(mode)
        self[1].train(mode and not self.evaluates)
        return self


@pytest.mark.slow
@pytest.mark.parametrize("evaluates", [True, False])
def test_a_small_stage_frozen_with_its_batch_norm(evaluates: bool) -> None:
    torch.manual_seed(0)
    model = Stages(evaluates)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-3)
    found = asked(FROZEN_PARAMETERS, model, digits(), optimizer=optimizer)
    assert [(one.severity, "20 %" in one.threshold) for one in found] == [("error", False)] * evaluates


@pytest.mark.parametrize("case", ["frozen", "trained", "for now", "pretrained"])
def test_a_frozen_encoder_that_the_optimizer_holds(case: str) -> None:
    text = textwrap.dedent("""
        for x, y in loader:
            outputs = model(encoder(x))
            criterion(outputs, y).backward()
            torch.nn.utils.clip_grad_norm_([*encoder.parameters(), *model.parameters()], 5.0)
            optimizer.step()
        """)
    if case == "for now":
        text += "for epoch in range(9):\n    for p in encoder.parameters():\n        p.requires_grad = epoch > 3\n"
    names = values()
    encoder = nn.Linear(10, 10).requires_grad_(case == "trained")
    if case == "pretrained":
        encoder.weight.data += 3 * torch.eye(10)
    names["encoder"] = encoder
    parameters = [*encoder.parameters(), *names["model"].parameters()]
    names["optimizer"] = torch.optim.SGD(parameters, lr=0.1)
    assert list(found(text, names, [FROZEN_PARAMETERS])) == ["model.frozen-parameters"] * (case == "frozen")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("parameter.requires_grad = False", False),
        ("parameter.require_grad = False", True),
        ("parameter.requiresGrad = epoch > 3", True),
        ("parameter.requires_grad_ = False", True),
        ("parameter.require_grad = False\n        print(parameter.require_grad)", False),
        ("options.require_grad = False", False),
        ("parameter.require_grad = False\n        def require_grad(self, value): ...", False),
        ("model.require_grad = False", True),
    ],
)
def test_a_misspelled_switch_of_any_network(line: str, told: bool) -> None:
    """In a function that runs after the training that is examined."""
    text = textwrap.dedent(f"""
        def freeze(network, options, epoch):
            for name, parameter in network.backbone.named_parameters():
                {line}

        for x, y in loader:
            outputs = model(x)
            criterion(outputs, y).backward()
            optimizer.step()
        """)
    assert list(found(text, values(), [FROZEN_PARAMETERS])) == ["model.frozen-parameters"] * told


def frozen(model: nn.Module) -> nn.Module:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("last" in name or name.startswith("7."))
    return model


def test_a_random_trunk_that_is_frozen() -> None:
    model = frozen(perceptron(depth=3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    (found,) = asked(FROZEN_PARAMETERS, model, digits(), optimizer=optimizer)
    assert (found.code, found.severity) == ("model.frozen-parameters", "error")
    assert "with all of them trained, the loss after" in found.measured


class Reservoir(nn.Module):
    """Echo states of the rows of an image, or their mean without recurrence."""

    def __init__(self, recurrent: bool) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.enter, self.again, self.read = nn.Linear(8, 64), nn.Linear(64, 64, bias=False), nn.Linear(64, 10)
        self.enter.requires_grad_(False)
        self.again.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        state, rows = torch.zeros(len(x), 64), x.flatten(0, 1).unbind(1)
        for row in rows if self.recurrent else [torch.stack(rows).mean(0)]:
            state = torch.tanh(self.enter(row) + self.again(state))
        out: Tensor = self.read(state)
        return out


@pytest.mark.parametrize("recurrent", [True, False])
def test_the_random_weights_of_a_reservoir_are_intended(recurrent: bool) -> None:
    model = Reservoir(recurrent)
    found = asked(FROZEN_PARAMETERS, model, digits(), optimizer=torch.optim.Adam(model.read.parameters(), lr=0.01))
    assert [one.code for one in found] == ["model.frozen-parameters"] * (not recurrent)


def test_nothing_that_wants_a_gradient() -> None:
    model = perceptron().requires_grad_(False)
    (found,) = asked(FROZEN_PARAMETERS, model, digits(), optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    assert found.severity == "error"


def test_a_trained_trunk_may_be_frozen() -> None:
    model = perceptron(depth=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for batch in digits():
        loop(model, batch, optimizer, nn.CrossEntropyLoss())
    nn.init.kaiming_uniform_(model[7].weight)
    assert not asked(FROZEN_PARAMETERS, frozen(model), digits(), optimizer=quick_adam)
    assert not asked(FROZEN_PARAMETERS, perceptron(), digits(), optimizer=quick_adam)


@pytest.mark.parametrize("held", [True, False])
def test_a_second_network_with_an_optimizer_of_its_own_is_trained(held: bool) -> None:
    text = textwrap.dedent("""
        for x, y in loader:
            outputs = other(model(x))
            criterion(outputs, y).backward()
            optimizer.step()
        """)
    names = values() | {"other": nn.Linear(10, 10)}
    names["second"] = torch.optim.SGD((names["other"] if held else names["model"]).parameters(), lr=0.1)
    assert (found(text, names, [FROZEN_PARAMETERS]) == {}) is held
