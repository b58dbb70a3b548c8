"""A regression that begins with the weights of another one gives the same answers in other units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from short_runs import asked_for, trained
from torch import nn

from striate.models.build import build_model
from striate.models.weights.saved import SavedNetwork
from striate.runs.checkpoint import save_checkpoint
from striate.tasks.classify.task import Classify
from striate.tasks.regress.task import Regress
from striate.training.initial_weights import fit_head, head_tensors, in_units
from striate.training.prepare import Prepared, prepare

BEFORE, NOW = ((3.0, -1.0), (2.0, 0.5)), ((100.0, 7.0), (0.25, 30.0))


class Bounded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.out(x))


def answers(module: nn.Module, scale: tuple, x: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(values) for values in scale)
    with torch.no_grad():
        return module(x) * std + mean


@pytest.mark.parametrize("network", ["fc(2)", "fc(5) relu dropout(0.5) fc(2)"])
def test_the_answers_stay_the_same(network: str) -> None:
    module = build_model(network, (4,), 2).eval()
    x = torch.randn(20, 4)
    before = answers(module, BEFORE, x)
    assert in_units(module, BEFORE, NOW, x[:2])
    assert torch.allclose(answers(module, NOW, x), before, atol=1e-4)


def without_bias() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2, bias=False))


@pytest.mark.parametrize(
    "make",
    [Bounded, without_bias, lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 2)))],
    ids=["an activation comes after", "no bias", "parametrized"],
)
def test_where_they_would_not_nothing_is_touched(make: Callable[[], nn.Module]) -> None:
    module = make()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert not in_units(module, BEFORE, NOW, torch.randn(2, 4))
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def saved(**fields: object) -> SavedNetwork:
    known = {"name": "", "input_shape": (4,), "outputs": 2, "dense": False, "classes": (), "task": "regress"}
    return SavedNetwork("a", Path("a"), {}, **(known | {"target_scale": BEFORE} | fields))


@pytest.mark.parametrize(
    ("fields", "task", "said"),
    [
        ({}, Regress(("a", "b"), *NOW), "predicts other targets"),
        ({"task": "classify"}, Regress(("a", "b"), *NOW), "trained for the task classify"),
        ({}, Classify(("a", "b")), "trained for the task regress"),
        ({}, Regress(("a", "b"), *BEFORE), ""),
        ({"outputs": 3}, Regress(("a", "b"), *NOW), ""),
        ({"task": ""}, Regress(("a", "b"), *NOW), ""),
    ],
)
def test_a_head_that_cannot_be_rescaled_begins_anew_and_others_stay(fields: dict, task, said: str) -> None:
    module = Bounded()
    drawn = head_tensors(module)
    assert set(drawn) == {"out.weight", "out.bias"}
    with torch.no_grad():
        module.out.weight.fill_(7.0)
    news = fit_head(module, saved(**fields), task, torch.randn(2, 4), drawn)
    assert said in news
    assert torch.equal(module.out.weight, drawn["out.weight"]) == bool(said)


def numbers(path: str, scale: float, offset: float) -> str:
    random = np.random.default_rng(0)
    x = random.normal(size=(80, 4)).astype(np.float32)
    np.savez(path, x=x, y=(scale * (x[:, 0] - x[:, 1]) + offset).astype(np.float32))
    return path


def predictions(prepared: Prepared) -> torch.Tensor:
    x = torch.linspace(-1, 1, 40).reshape(10, 4)
    return prepared.trained().decode(x)


def test_a_run_on_the_same_things_in_other_units_goes_on_with_what_it_knew() -> None:
    first = trained(asked_for(numbers("meters.npz", 5.0, 2.0), epochs=2, model__name="fc(6) relu fc(1)"))
    save_checkpoint(Path("first.pt"), first.checkpoint())
    second = prepare(asked_for(numbers("inches.npz", 200.0, -50.0), model__weights="first.pt"))
    assert any("rescaled to the targets of these data" in note for note in second.notes)
    assert torch.allclose(predictions(second), predictions(first), rtol=1e-4, atol=1e-4)
    same = prepare(replace(first.config, model=replace(first.config.model, name="auto", weights="first.pt")))
    assert not any("rescaled" in note for note in same.notes)
