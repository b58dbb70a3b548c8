"""Training in functions that are called by other names, and graphs of which few nodes have labels: no warning."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from test_source_checks import found, values
from torch import Tensor, nn
from torch.nn import functional

from striate.doctor.checks.data.augmentation.augmentation import AUGMENTATION
from striate.doctor.checks.eval.modes import MODE
from striate.doctor.checks.loss.task.few_counted import few_counted
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup

CLOSURES = """
def make_trainer(model):
    def epoch():
        {within}
        for x, y in loader:
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
    return epoch
def make_evaluator(model):
    def evaluate():
        model.eval()
        return [model(x) for x, y in val_loader]
    return evaluate
{before}
train_epoch, evaluate = make_trainer(model), make_evaluator(model)
for number in range(10):
    train_epoch()
    evaluate()
"""


@pytest.mark.parametrize(
    ("within", "before", "wrong"), [("model.train()", "pass", False), ("pass", "model.train()", True)]
)
def test_a_pass_begins_in_training_mode_by_whatever_name_it_is_called(within: str, before: str, wrong: bool) -> None:
    text = CLOSURES.format(within=within, before=before)
    assert list(found(text, values(), [MODE])) == ["eval.mode"] * wrong


@pytest.mark.parametrize(("same", "wrong"), [(True, False), (False, True)])
def test_few_nodes_of_one_graph_may_have_labels(same: bool, wrong: bool) -> None:
    """The same 160 nodes in each step, and a loss of the ten that are labeled; of other samples each time it is a
    loss that leaves most of each batch out."""
    generator = torch.Generator().manual_seed(0)
    nodes = [torch.randn(160, 8, generator=generator) for _ in range(12)]
    batches = [(x, (x[:, 0] > 0).long()) for x in (nodes[:1] * 12 if same else nodes)]
    torch.manual_seed(0)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(model(batch[0])[:10], batch[1][:10])
        value.backward()
        optimizer.step()
        return value

    model = nn.Linear(8, 2)
    setup = make_setup(model, batches, None, optimizer=torch.optim.Adam(model.parameters(), lr=0.01), step=step)
    assert (few_counted(Evidence(setup, Clock(20.0))) is not None) == wrong


SHAPES = {
    "much noise": (lambda x: x + 5 * torch.randn_like(x), True),
    "a little noise": (lambda x: x + 0.1 * torch.randn_like(x), False),
    "bytes, turned round": (lambda x: 255 * x.flip(3), False),
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "restored"), [*((name, False) for name in SHAPES), ("much noise", True)])
def test_noise_of_the_step_that_drowns_what_is_shown(name: str, restored: bool) -> None:
    """Smooth pictures; where they are to be restored from noise, there may be far more."""
    change, wrong = SHAPES[name]
    torch.manual_seed(0)
    images = functional.interpolate(torch.randn(64, 1, 4, 4), size=16, mode="bilinear")
    targets = images if restored else images.mean((1, 2, 3)).unsqueeze(1)
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1)]
    model = nn.Sequential(*layers, *[nn.AdaptiveAvgPool2d(1), nn.Flatten()] * (not restored))

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        value = functional.mse_loss(model(change(batch[0])), batch[1])
        value.backward()
        optimizer.step()
        return value

    setup = make_setup(
        model, [(images[k : k + 16], targets[k : k + 16]) for k in range(0, 64, 16)], None,
        optimizer=torch.optim.Adam(model.parameters(), lr=0.01), step=step, task="regress",
    )  # fmt: skip
    found = []
    with suppress(NoEvidence):
        found = list(AUGMENTATION.run(Evidence(setup, Clock(20.0))))
    assert [one.severity for one in found] == ["error"] * (wrong and not restored)
