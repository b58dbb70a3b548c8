"""`optim.no-step`: do the parameters change when they have gradients?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from for_checks.asked import asked, asked_in_script, digits, perceptron, read, sgd
from for_checks.steps import every_so_many
from striate.doctor.checks.loss.not_finite import NOT_FINITE
from striate.doctor.checks.loss.sign.sign import SIGN
from striate.doctor.checks.optim.no_step import NO_STEP

LOSS = nn.CrossEntropyLoss()


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("detached", [False, True])
def test_each_optimizer_of_a_loop_has_gradients(detached: bool) -> None:
    made, judge = nn.Sequential(nn.Linear(4, 64), nn.Tanh()), perceptron()
    of_made, of_judge = torch.optim.Adam(made.parameters(), 1e-3), torch.optim.Adam(judge.parameters(), 1e-3)

    def step(net: nn.Module, batch: Any, own: torch.optim.Optimizer, loss: Any) -> Tensor:
        fake = made(torch.randn(len(batch[0]), 4)).reshape(-1, 1, 8, 8)
        own.zero_grad()
        value: Tensor = loss(net(batch[0]), batch[1]) + net(fake.detach()).square().mean()
        value.backward()
        own.step()
        of_made.zero_grad()
        net(fake.detach() if detached else fake).square().mean().backward()
        of_made.step()
        return value.detach()

    names = {"optimizerD": of_judge, "optimizerG": of_made, "made": made}
    text = "for x, y in loader:\n    pass\n"
    findings = read(text, NO_STEP, judge, digits(), loss=LOSS, optimizer=of_judge, step=step, names=names)
    assert ["`optimizerG`" in one.measured for one in findings] == [True] * detached


@pytest.mark.parametrize(
    ("every", "clear", "measured"), [(10_000, "before", "never steps"), (1, "between", "they are cleared")]
)
def test_no_step_is_made(every: int, clear: str, measured: str) -> None:
    model = perceptron()
    options: dict[str, Any] = {"step": every_so_many(every, clear=clear), "optimizer": sgd(model), "loss": LOSS}
    (found,) = asked(NO_STEP, model, digits(), **options)
    assert (found.code, found.severity) == ("optim.no-step", "error")
    assert measured in found.measured
    assert "optimizer.step()" in found.remedy


@pytest.mark.parametrize("every", [1, 4, 20])
def test_a_step_in_every_some_batches_is_one(every: int) -> None:
    model = perceptron()
    assert not asked(NO_STEP, model, digits(), step=every_so_many(every), optimizer=sgd(model), loss=LOSS)


def without_backward(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> None:
    optimizer.zero_grad()
    loss = LOSS(model(batch[0]), batch[1])
    loss.backward  # noqa: B018
    optimizer.step()


def by_hand(model: nn.Module, batch: Any, _: Any, __: Any) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1e-3 * torch.randn_like(parameter)
        LOSS(model(batch[0]), batch[1])


def test_a_step_without_a_backward_pass() -> None:
    for step in (without_backward, by_hand):
        found = asked_in_script(NO_STEP, perceptron(), digits(), step=step)
        assert ["no backward pass" in one.measured for one in found] == [True] * (step is without_backward)
        for other in (SIGN, NOT_FINITE):  # of the loss nothing is known
            assert not asked_in_script(other, perceptron(), digits(), step=step)
