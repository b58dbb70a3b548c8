"""`model.graph-detached`: is the backward path from the loss to the parameters cut somewhere?"""

from __future__ import annotations

import textwrap
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from for_checks.asked import asked, digits, loop, quick_adam, said
from for_checks.networks import NeverCalled, Small
from for_checks.scripts import found, values
from striate.doctor.checks.model.graph_detached import GRAPH_DETACHED


class Coder(nn.Module):
    def __init__(self, normal: bool) -> None:
        super().__init__()
        self.normal, self.mean, self.deviation, self.back = normal, *(nn.Linear(64, 4) for _ in "md"), nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        mean, deviation = self.mean(x.flatten(1)), self.deviation(x.flatten(1)).exp()
        code = torch.normal(mean, deviation) if self.normal else mean + deviation * torch.randn_like(deviation)
        told: Tensor = self.back(code)
        return told


@pytest.mark.parametrize("normal", [True, False])
def test_a_code_is_drawn_with_a_way_back(normal: bool) -> None:
    assert ["torch.normal" in one.measured for one in said(GRAPH_DETACHED, Coder(normal), digits())] == [True] * normal


@pytest.mark.parametrize(
    ("made", "given", "cut"),
    [
        ("", "self.hparams.alpha, self.hparams.alpha", False),
        ("share = 0.4", "share, share", False),
        ("share = torch.tensor(0.4)", "share, share", False),
        ("share = self.net(x).exp()", "share, share", True),
    ],
)
def test_a_coefficient_of_what_is_no_tensor_has_no_way_back(made: str, given: str, cut: bool) -> None:
    text = textwrap.dedent(f"""
        class Module:
            def forward(self, x):
                return self.net(x)

            def training_step(self, x):
                {made}
                part = torch.distributions.Beta({given}).sample()
                return self(part * x)

        for x, y in loader:
            model(x)
    """)
    assert list(found(text.lstrip(), values(), [GRAPH_DETACHED])) == ["model.graph-detached"] * cut


@pytest.mark.parametrize(("given", "cut"), [("self.alpha, self.alpha", False), ("self.mean(x), self.width(x)", True)])
def test_a_coefficient_that_is_drawn_of_a_setting_has_no_way_back(given: str, cut: bool) -> None:
    text = textwrap.dedent(f"""
        class Module:
            def forward(self, x):
                return self.net(x)

            def training_step(self, x):
                share = torch.distributions.Beta({given}).sample()
                return self(share * x)

        for x, y in loader:
            model(x)
    """)
    assert list(found(text.lstrip(), values(), [GRAPH_DETACHED])) == ["model.graph-detached"] * cut


class Pooled(nn.Module):
    """The largest value of each feature over positions, or the position where it is."""

    def __init__(self, kept: int) -> None:
        super().__init__()
        self.kept, self.encoder, self.head = kept, nn.Conv1d(8, 16, 1), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.encoder(x.squeeze(1)).max(2)[self.kept].float())
        return scores


@pytest.mark.parametrize("kept", [0, 1])
def test_the_indices_of_a_maximum_have_no_gradient(kept: int) -> None:
    findings = asked(GRAPH_DETACHED, Pooled(kept), digits(most=64), step=loop, loss=nn.CrossEntropyLoss())
    assert ["the indices that `max` returns" in one.measured for one in findings] == [True] * kept


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk, self.classes, self.boxes = nn.Linear(64, 32), nn.Linear(32, 10), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.relu(self.trunk(x.flatten(1)))
        return self.classes(hidden), self.boxes(hidden)


@pytest.mark.each_nth(1)
@pytest.mark.parametrize("cut", ["number", "forgotten", ""])
def test_a_loss_that_is_left_out_or_added_as_a_number_goes_nowhere(cut: str) -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        scores, boxes = model(batch[0])
        other = functional.l1_loss(boxes, batch[0].flatten(1)[:, :4])
        value = functional.cross_entropy(scores, batch[1])
        value = value if cut == "forgotten" else value + (other.item() if cut else other)
        value.backward()
        optimizer.step()
        return value.detach()

    model = TwoHeads()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    found = said(GRAPH_DETACHED, model, digits(), step=step, optimizer=optimizer)
    assert ["`l1_loss`" in f.measured and "boxes gets no gradient" in f.measured for f in found] == [True] * bool(cut)


class Cut(Small):
    def __init__(self, cut: Any) -> None:
        super().__init__()
        self.cut = cut

    def middle(self, x: Tensor) -> Tensor:
        return self.cut(x)


def without_gradient(x: Tensor) -> Tensor:
    with torch.no_grad():
        return x * 1.0


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    "cut",
    [
        lambda x: x.detach(),
        lambda x: x.data,
        lambda x: torch.tensor(x.tolist()),
        lambda x: torch.from_numpy(x.detach().numpy()),
        without_gradient,
        lambda x: (x > 0.5).float(),
    ],
)
def test_the_way_back_is_cut(cut: Any) -> None:
    (found,) = asked(GRAPH_DETACHED, Cut(cut), digits(), optimizer=quick_adam)
    assert (found.code, found.severity) == ("model.graph-detached", "error")
    assert "no gradient comes back to first " in found.measured


class NoGradients(Small):
    """The first layer runs where gradients are off."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.first(x.flatten(1)).relu()
        return self.last(x)


def test_gradients_that_are_off() -> None:
    (found,) = asked(GRAPH_DETACHED, NoGradients(), digits(), optimizer=quick_adam)
    assert found.severity == "error"
    assert "torch.no_grad()" in found.remedy


def test_what_is_left_out_of_the_optimizer_may_be_cut_off() -> None:
    model = NoGradients()
    optimizer = torch.optim.Adam(model.last.parameters(), lr=0.01)
    assert not asked(GRAPH_DETACHED, model, digits(), optimizer=optimizer)


def step_with_a_number(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
    optimizer.zero_grad()
    value = torch.tensor(loss(model(batch[0]), batch[1]).item(), requires_grad=True)
    value.backward()
    optimizer.step()
    return value


def step_with_the_answers(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
    optimizer.zero_grad()
    value = (model(batch[0]).argmax(1) != batch[1]).float().mean()
    value.backward()
    optimizer.step()
    return value


@torch.no_grad()
def step_without_gradients(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
    optimizer.zero_grad()
    value: Tensor = loss(model(batch[0]), batch[1])
    value.backward()
    optimizer.step()
    return value


@pytest.mark.parametrize("step", [step_with_a_number, step_with_the_answers, step_without_gradients])
def test_a_loss_that_knows_no_parameters(step: Any) -> None:
    (found,) = asked(GRAPH_DETACHED, Small(), digits(), step=step, optimizer=quick_adam)
    assert (found.code, found.severity) == ("model.graph-detached", "error")


class StraightThrough(Small):
    def middle(self, x: Tensor) -> Tensor:
        return x + ((x > 0.5).float() - x).detach()


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("network", [Small, StraightThrough, NeverCalled])
def test_a_way_back_that_is_whole(network: type[nn.Module]) -> None:
    assert not asked(GRAPH_DETACHED, network(), digits(), optimizer=quick_adam)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("share = torch.distributions.Beta(alpha, alpha).sample().item()", True),
        ("share = torch.distributions.Beta(alpha, alpha).sample()", True),
        ("share = torch.distributions.Normal(outputs, 1.0).sample()", False),
    ],
)
def test_a_draw_that_no_network_gave_needs_no_way_back(line: str, right: bool) -> None:
    text = textwrap.dedent(f"""
        def blend(outputs, alpha):
            {line}
            return share
        for x, y in loader:
            outputs = model(x)
            share = blend(outputs, settings["mixup"])
            optimizer.zero_grad()
            criterion(outputs, y).backward()
            optimizer.step()
        """)
    names = values() | {"settings": {"mixup": 0.2}}
    assert (found(text, names, [GRAPH_DETACHED]) == {}) is right
