"""`model.init` from the configuration to the network and into config.yaml."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import striate
from striate.account.signal.trace import SignalRow
from striate.models.config import Initialization
from striate.training.config import Config
from striate.training.config_file import config_from_yaml, config_to_yaml
from striate.training.prepare import _signal_findings, prepare
from striate.training.request import merge_request, read_config


def prepared(init):
    fields = {"model.name": "mlp(16,8)", "model.init": init}
    return prepare(merge_request(read_config(None), data="iris", fields=fields))


def test_of_weights_that_were_learned_no_other_initialization_is_advised():
    saturated = (SignalRow("sigmoid1", "sigmoid", 8, 0.9, 0.1, saturated=0.9),)
    assert [found.code for found in _signal_findings(saturated, Config(), pretrained=False)] == ["model.saturated"]
    assert _signal_findings(saturated, Config(), pretrained=True) == ()


def test_gradients_of_any_strength_suit_an_optimizer_whose_steps_are_as_long_whatever_they_are():
    uneven = tuple(SignalRow(f"fc{i}", "weights", 1, 0.0, 1.0, gradient=10.0**-i) for i in range(6))

    def codes(name):
        optim = replace(Config().optim, name=name)
        return [found.code for found in _signal_findings(uneven, replace(Config(), optim=optim), pretrained=False)]

    assert codes("sgd") == ["model.exploding-gradient"]
    assert codes("muon") == []


@pytest.mark.each_nth(4)
@pytest.mark.parametrize("init", Initialization.__args__)
def test_each_way_changes_the_weights_and_is_in_the_configuration(init, tmp_path):
    made, again = prepared(init), prepared(init)
    (tmp_path / "config.yaml").write_text(config_to_yaml(made.config), encoding="utf-8")
    assert config_from_yaml(tmp_path / "config.yaml").model.init == init
    weight = made.state.module.fc1.weight
    assert torch.equal(weight, again.state.module.fc1.weight)
    others = [other for other in Initialization.__args__ if other != init]
    assert all(not torch.equal(weight, prepared(other).state.module.fc1.weight) for other in others[:3])


@pytest.mark.slow
@pytest.mark.parametrize(
    "layers",
    [
        "20*[fc(100) tanh] fc(10)",
        "20*[fc(100) relu] fc(10)",
        "fc(64) 20*[res[relu fc(64) relu fc(64)]] relu fc(10)",
    ],
)
def test_twenty_layers_learn_digits_in_three_epochs(layers, tmp_path):
    run = striate.train("mnist5k", layers, epochs=3, lr=1e-3, batch=32, out=tmp_path / "run", set={"augment.shift": 0})
    assert run.metrics["test"]["accuracy"] > 0.85
