"""Policies that no gradient reaches, targets that are averages with themselves, and counts divided by what is converted
first: faults that were met in scripts, and their healthy twins."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from test_source_checks import SCRIPT, found, values
from torch import Tensor, nn

from striate.doctor.checks.eval.wrong_count import WRONG_COUNT
from striate.doctor.checks.own_run import findings_of
from striate.doctor.evidence.own_run import OwnRun, Rights, Watcher, number_of_weights


@pytest.mark.parametrize(("counted", "wrong"), [("loader", True), ("val_loader", False)])
def test_a_count_is_divided_by_a_number_that_is_converted(counted: str, wrong: bool) -> None:
    text = SCRIPT.replace("accuracy = correct / total", f"accuracy = correct / float(len({counted}.dataset))")
    text = text.replace("            total += len(y)\n", "")
    assert list(found(text, values(), [WRONG_COUNT])) == ["eval.wrong-count"] * wrong


@pytest.mark.parametrize("scale", [0.25, 1.0])
def test_a_training_step_says_something_before_an_evaluation(scale: float) -> None:
    """At the steps of one of them only: what an evaluation says is the last."""
    rights = {30: Rights([40], [100]), 60: Rights([80], [100]), 90: Rights([96], [100])}
    said = [(30, "loss 0.231 accuracy 0.9375"), *((at, f"test {scale * one.share:.4f}") for at, one in rights.items())]
    run = OwnRun(compared={0: rights}, said=said)
    assert [finding.code for finding in findings_of(run)] == ["eval.wrong-count"] * (scale != 1)


def goes_on(fault: str) -> list[str]:
    """What is found of 120 steps of a critic, which learns from its target, and as many of an actor."""
    torch.manual_seed(0)
    critic, actor = nn.Linear(3, 32), nn.Linear(3, 3)
    target = copy.deepcopy(critic)
    watcher = Watcher(float("inf"), {id(critic): "critic", id(actor): "actor", id(target): "target"})
    optimizers = {net: torch.optim.SGD(net.parameters(), 0.01) for net in (critic, actor)}
    for network in (critic, actor, target):
        watcher.of(network).before = number_of_weights(network)

    def ask(network: nn.Module, x: Tensor) -> Any:
        watcher.enter(network, (x,))
        output = network(x)
        watcher.leave(network, (x,), output)
        return output

    def learn(network: nn.Module, loss: Tensor) -> None:
        optimizer = optimizers[network]
        optimizer.zero_grad()
        if fault != "later" or network is critic:
            watcher.backward_begins()
            loss.backward()
            watcher.backward(loss)
        if fault == "cleared" and network is actor:
            optimizer.zero_grad()
        watcher.stepping(optimizer)
        optimizer.step()

    for _ in range(120):
        x = torch.randn(8, 3)
        with torch.no_grad():
            values = ask(target, x)
        learn(critic, ((ask(critic, x) - values - 1) ** 2).mean())
        actions = ask(actor, x)
        learn(actor, -ask(critic, actions.detach() if fault == "detached" else actions).mean())
        for mine, learned in zip(target.parameters(), critic.parameters(), strict=True):
            mine.data.copy_(0.005 * (mine if fault == "itself" else learned).data + 0.995 * mine.data)
    return [finding.code for finding in findings_of(watcher.run, of_rewards=True)]


@pytest.mark.parametrize(
    ("fault", "codes"),
    [
        ("", []),
        ("later", []),
        ("detached", ["model.graph-detached"]),
        ("cleared", ["optim.no-step"]),
        ("itself", ["reward.target-stale"]),
    ],
)
def test_networks_of_rewards_that_never_learn(fault: str, codes: list[str]) -> None:
    assert goes_on(fault) == codes
