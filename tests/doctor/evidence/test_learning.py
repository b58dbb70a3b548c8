"""Whether the trial learned anything: what a setup has to show before it is called healthy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import adam, digits, loop, perceptron, quick_adam, stepped
from for_checks.claims import Flow, likelihood, sensors
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.comparable_outputs import predicts_targets
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.learning import learning_of, trains_a_part
from striate.doctor.setup.training_setup import make_setup


@pytest.mark.slow
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_what_is_maximized_is_learned_as_it_grows(sign: float) -> None:
    flow = Flow()
    optimizer = torch.optim.Adam(flow.parameters(), 1e-3, maximize=sign > 0)
    setup = make_setup(flow, sensors(), optimizer=optimizer, step=likelihood(sign), task="regress")
    assert learning_of(Evidence(setup, Clock(60.0))).shown


def test_losses_of_rivals_show_nothing() -> None:
    x = digits().dataset.tensors[0]
    guessed = DataLoader(TensorDataset(x, torch.randint(2, (len(x),))), 32)
    setup = make_setup(perceptron(), guessed, None, loss=nn.CrossEntropyLoss(), optimizer=lambda p: adam(p, 1e-5))
    for rivals, text in ((False, "predictions are still at chance"), (True, "networks train against each other")):
        learned = learning_of(Evidence(replace(setup, rivals=rivals), Clock(60.0)))
        assert not learned.shown
        assert learned.text.startswith(text)


def test_logits_of_gray_levels_are_judged_as_gray_levels() -> None:
    x = digits().dataset.tensors[0]
    shares = (x - x.min()) / (x.max() - x.min())
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.Unflatten(1, (1, 8, 8)))
    setup = make_setup(
        model,
        DataLoader(TensorDataset(shares, shares), 32),
        None,
        loss=lambda outputs, wanted: functional.binary_cross_entropy_with_logits(outputs, wanted, reduction="sum") / 32,
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-2),
        task="regress",
    )
    learned = learning_of(Evidence(setup, Clock(60.0)))
    assert learned.shown
    assert learned.text.startswith("R²")


@pytest.mark.parametrize("data", ["images", "pairs"])
@pytest.mark.parametrize("predicted", ["noise", "image", "image less its mean"])
def test_a_network_that_predicts_the_noise_in_its_input_is_judged_by_the_loss(predicted: str, data: str) -> None:
    torch.manual_seed(0)
    clean = digits().dataset.tensors[0] / 3  # type: ignore[attr-defined]
    noisy, mean = clean + 0.3 * torch.randn_like(clean), clean.mean(0)
    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 1, 3, padding=1)]

    def step(net: nn.Module, batch: Any, optimizer: Any, _: Any) -> torch.Tensor:
        given, wanted = batch if data == "pairs" else (batch[0] + 0.3 * torch.randn_like(batch[0]), batch[0])
        output = net(given)
        restored = {"noise": given - output, "image": output, "image less its mean": output + mean}[predicted]
        return stepped(functional.mse_loss(restored, wanted), optimizer)

    loader = DataLoader(TensorDataset(*((noisy, clean) if data == "pairs" else (clean,))), 32, shuffle=True)
    model = nn.Sequential(*layers)
    options: Any = {"step": step, "optimizer": quick_adam(model.parameters()), "task": "reconstruct"}
    evidence = Evidence(make_setup(model, loader, **options), Clock(60.0))
    assert predicts_targets(evidence) is (predicted != "noise")
    if predicted == "noise":
        learned = learning_of(evidence)
        assert learned.shown
        assert learned.text.startswith("the loss went from")


@pytest.mark.parametrize("told_apart", [True, False])
def test_a_rare_class_that_is_found_is_learned(told_apart: bool) -> None:
    """Weights of classes let so much be taken for the rare one that to name the other always is right as often."""
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 64, 1, 8, 8, generator=generator)
    masks = ((x if told_apart else noise)[:, 0] > 2).long()
    torch.manual_seed(0)
    model = nn.Conv2d(1, 2, 1)
    loss = nn.CrossEntropyLoss(weight=torch.tensor([0.03, 1.0]))
    options: Any = {"loss": loss, "optimizer": torch.optim.Adam(model.parameters(), lr=0.05), "task": "segment"}
    learned = learning_of(Evidence(make_setup(model, DataLoader(TensorDataset(x, masks), 16), **options), Clock(60.0)))
    assert ("each class counted alike" in learned.text) is told_apart
    assert learned.shown is told_apart


@pytest.mark.parametrize("part", [True, False])
def test_a_head_alone_is_a_small_part(part: bool) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 600), nn.ReLU(), nn.Linear(600, 10))
    optimizer = adam(model[3].parameters() if part else model.parameters())
    setup = make_setup(model, digits(), None, loss=nn.CrossEntropyLoss(), optimizer=optimizer)
    assert trains_a_part(Evidence(setup, Clock(20.0))) is part


def test_a_loss_that_ignores_the_labels_shows_no_learning_as_it_falls() -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> torch.Tensor:
        return loop(model, batch, optimizer, lambda outputs, _: outputs.square().mean())

    setup = make_setup(perceptron(), digits(), step=step)
    learned = learning_of(Evidence(setup, Clock(60.0)))
    assert not learned.shown
    assert "at chance" in learned.text
