"""`loss.initial-off`: are the first predictions of an untrained network too confident?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, digits, loop, perceptron, sgd
from striate.doctor.checks.loss.initial_off import INITIAL_OFF
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.learning import learning_of
from striate.doctor.script.examined_step import Weights
from striate.doctor.setup.training_setup import make_setup

LOSS = nn.CrossEntropyLoss()


def test_first_predictions_that_are_too_confident() -> None:
    model = perceptron()
    nn.init.normal_(model[-1].weight, std=3.0)
    (found,) = asked(INITIAL_OFF, model, digits(), loss=LOSS, optimizer=sgd(model))
    assert (found.code, found.severity) == ("loss.initial-off", "warning")
    assert "ln 10 = 2.3" in found.measured
    assert "model[3].weight, std=0.01" in found.remedy


def test_weights_that_are_large_in_all_layers() -> None:
    model = perceptron()
    for layer in (model[1], model[3]):
        nn.init.normal_(layer.weight, std=2.0)
    (found,) = asked(INITIAL_OFF, model, digits(), loss=LOSS, optimizer=sgd(model))
    assert found.where == "model[1] and model[3]"
    assert "times as large as those of Kaiming's initialization" in found.measured
    assert "nn.init.kaiming_normal_(model[1].weight)" in found.remedy
    eval(found.remedy.split("`")[1].split(";")[0], {"nn": nn, "model": model})
    assert float(model[1].weight.detach().std()) < 0.5


def test_usual_first_weights_are_sure_enough() -> None:
    model = perceptron()
    nn.init.kaiming_normal_(model[-1].weight)
    assert not asked(INITIAL_OFF, model, digits(), loss=LOSS, optimizer=sgd(model))


def test_quantities_that_spread_too_far_at_first() -> None:
    x = torch.randn(128, 64, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(x, x[:, :1]), 32)
    model = perceptron()
    model[-1] = nn.Linear(32, 1)
    nn.init.normal_(model[-1].weight, std=20.0)
    (found,) = asked(INITIAL_OFF, model, loader, optimizer=sgd(model, 1e-4), task="regress")
    assert "that of the targets" in found.measured


@pytest.mark.parametrize("frozen", [True, False])
def test_a_new_head_on_trained_features_begins_as_it_may(frozen: bool) -> None:
    model = perceptron(256)
    with torch.no_grad():
        model[1].weight.mul_(30)
    if frozen:
        for parameter in model[1].parameters():
            parameter.requires_grad = False
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2)
    options = {"loss": LOSS, "optimizer": optimizer, "step": loop}
    if frozen:
        with pytest.raises(NoEvidence, match="a small part"):
            asked(INITIAL_OFF, model, digits(), **options)
    else:
        assert len(asked(INITIAL_OFF, model, digits(), **options)) == 1


def test_a_new_head_on_given_features_may_start_confident() -> None:
    trunk, head = perceptron(256)[:3], nn.Linear(256, 10)
    with torch.no_grad():
        trunk[1].weight.mul_(30)

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        with torch.no_grad():
            features = trunk(batch[0])
        return loop(model, (features, batch[1]), optimizer, loss)

    optimizer = torch.optim.Adam(head.parameters(), 1e-2)
    with pytest.raises(NoEvidence, match="the output of another network"):
        asked(INITIAL_OFF, head, digits(), loss=LOSS, optimizer=optimizer, step=step)


@pytest.mark.parametrize("scaled", [False, True])
def test_weights_without_a_module_are_too_large(scaled: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    one, two = (
        torch.randn(rows, units, generator=generator) * (rows**-0.5 if scaled else 1)
        for rows, units in ((64, 100), (100, 10))
    )
    weights = {"one": one.requires_grad_(), "two": two.requires_grad_()}

    def step(model: nn.Module, batch: Any, _: Any, __: Any) -> Tensor:
        model.zero_grad()
        into, out = model.parameters()
        value = functional.cross_entropy(torch.tanh(batch[0].flatten(1) @ into) @ out, batch[1])
        value.backward()
        for weight in (into, out):
            weight.data += -0.01 * weight.grad
        return value

    given = {"step": step, "optimizer": torch.optim.SGD(weights.values(), 0.01)}
    found = asked(INITIAL_OFF, Weights(weights), digits(), **given)
    assert [one.code for one in found] == ["loss.initial-off"] * (not scaled)
    if not scaled:
        assert "ln 10 = 2.3" in found[0].measured
        learning = learning_of(Evidence(make_setup(Weights(weights), digits(), **given), Clock(20.0)))
        assert not learning.shown
        assert learning.text.endswith("that of a guess 2.3")
