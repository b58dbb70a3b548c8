"""Weights kept in dictionaries, a decay by hand, and runs with several networks or tasks: faults that were met in
scripts, and their healthy twins."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from asked import asked, digits, perceptron
from test_met_in_second_heads import asked_or_silent, stepped
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.labels.label_noise import LABEL_NOISE
from striate.doctor.checks.model.idle_parameters import UNUSED_PARAMETERS
from striate.doctor.checks.optim.weight_decay_too_high import WEIGHT_DECAY_TOO_HIGH
from striate.doctor.checks.own_run import findings_of
from striate.doctor.evidence.own_run import NetworkCall, OwnRun, Rights, Watcher, number_of_weights
from striate.doctor.script.functional_weights import holding, weights_beside


@pytest.mark.parametrize("idle", [True, False])
def test_a_dictionary_is_trained_in_place_of_the_network_s_own_weights(idle: bool) -> None:
    model = perceptron()
    if idle:
        model.add_module("spare", nn.Linear(2, 2))
        model.forward = lambda x: model[1:4](model[0](x))  # type: ignore[method-assign]
    params = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    optimizer = torch.optim.Adam(params.values(), 1e-3)

    def step(_: Any, batch: Any, optimizer: Any, __: Any) -> Tensor:
        return stepped(model, functional.cross_entropy(functional_call(model, params, batch[0]), batch[1]), optimizer)

    own = dict(model.named_parameters())
    with holding(model, weights_beside(model, optimizer, {"params": params})):
        assert all(p is params[name] for name, p in model.named_parameters())
        found = asked(UNUSED_PARAMETERS, model, digits(), optimizer=optimizer, step=step)
    assert [one.where for one in found] == ["spare"] * idle
    assert all(p is own[name] for name, p in model.named_parameters())


@pytest.mark.parametrize("decay", [0.02, 0.0001])
def test_weights_are_decayed_by_hand(decay: float) -> None:
    model = perceptron()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        loss = stepped(model, functional.cross_entropy(model(batch[0]), batch[1]), optimizer)
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(1 - decay)
        return loss

    found = asked(WEIGHT_DECAY_TOO_HIGH, model, digits(), optimizer=optimizer, step=step)
    assert [one.where for one in found] == ["the training step"] * (decay > 0.01)


@pytest.mark.parametrize("classes", [True, False])
def test_drawn_times_are_no_labels(classes: bool) -> None:
    x = torch.randn(60, 1, 4, 4).repeat(4, 1, 1, 1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 16))
    loader = DataLoader(TensorDataset(x, torch.randint(10, (240,))), 40)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, t = batch
        if classes:
            return stepped(model, functional.cross_entropy(model(x), t), optimizer)
        return stepped(model, functional.mse_loss(model(x * t[:, None, None, None]), x.flatten(1)), optimizer)

    options: Any = {"optimizer": torch.optim.SGD(model.parameters(), 0.01), "step": step}
    found = asked_or_silent(LABEL_NOISE, model, loader, **options)
    assert [one.code for one in found] == ["data.label-noise"] * classes


@pytest.mark.parametrize("first", [1.0, 0.0])
@pytest.mark.parametrize("template", [True, False])
def test_what_is_evaluated_has_not_the_weights_that_steps_are_given(template: bool, first: float) -> None:
    model = nn.Linear(3, 4)
    for weights in model.parameters():
        nn.init.constant_(weights, first)
    params = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(params.values(), 0.1)
    watcher = Watcher(float("inf"), {id(model): "model"})
    watcher.of(model).before = number_of_weights(model)
    model.register_forward_pre_hook(watcher.enter)
    model.register_forward_hook(watcher.leave)
    apply = partial(functional_call, model, params)
    for _ in range(3):
        for _ in range(10):
            (apply(torch.randn(5, 3)) - 3).square().mean().backward()
            watcher.stepping(optimizer)
            optimizer.step()
        with torch.no_grad():
            (model if template else apply)(torch.randn(5, 3))
    watcher.of(model).after = number_of_weights(model)
    assert [one.code for one in findings_of(watcher.run)] == ["model.evaluates-untrained"] * template
    assert not watcher.run.failed


@pytest.mark.parametrize("scale", [0.8, 1.0])
def test_two_accuracies_are_counted_each_by_itself(scale: float) -> None:
    shares = {30: (0.4, 0.7), 60: (0.8, 0.75), 90: (0.96, 0.9)}
    compared = {line: {at: Rights([int(100 * s[line])], [100]) for at, s in shares.items()} for line in (0, 1)}
    said = [(at, f"direction {scale * one:.4f} kind {scale * other:.4f}") for at, (one, other) in shares.items()]
    found = findings_of(OwnRun(compared=compared, said=said))
    assert [one.code for one in found] == ["eval.wrong-count"] * (scale != 1)


@pytest.mark.parametrize("teacher", [True, False])
def test_a_teacher_keeps_its_weights_while_another_network_is_compared(teacher: bool) -> None:
    rights = {at: Rights([right], [100]) for at, right in ((10, 20), (20, 60), (30, 90))}
    watcher = Watcher(float("inf"), {})
    network = watcher.of(nn.Linear(3, 4))
    numbers = dict.fromkeys(rights, 1.0) if teacher else {10: 1.0, 20: 2.0, 30: 3.0}
    network.calls = [NetworkCall(at, False, False, (3,), 0.0, 1.0, number) for at, number in numbers.items()]
    network.after = 1.0
    run = OwnRun(steps=30, networks=watcher.run.networks, compared={0: rights}, ended=True)
    assert [one.code for one in findings_of(run)] == ["eval.worst-kept"] * (not teacher)
