"""Weights in checkpoints, accuracies in training mode, maps with a channel, and classes that a step exchanges: faults
that were met in scripts, and their healthy twins."""

from __future__ import annotations

import ast
import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from asked import asked, digits, perceptron
from test_met_in_second_heads import asked_or_silent, stepped
from test_met_in_views_and_tables import adam
from test_source_checks import source_of
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.not_shuffled import NOT_SHUFFLED
from striate.doctor.checks.eval.wrong_count import WRONG_COUNT
from striate.doctor.checks.loss.broadcast import BROADCAST
from striate.doctor.checks.model.evaluates_untrained import _are_chosen, _are_kept_anew
from striate.doctor.setup.script_source import ScriptSource


@pytest.mark.parametrize("as_state", [True, False])
@pytest.mark.parametrize("test", ["score > best", ""])
def test_weights_in_a_checkpoint_are_the_best_so_far(test: str, as_state: bool) -> None:
    model = nn.Linear(2, 2)
    kept = "checkpoint = {'model': copied(model), 'epoch': 0}"
    text = f"for x, y in loader:\n    if {test}:\n        {kept}\n" if test else f"{kept}\nfor x, y in loader:\n"
    copied = copy.deepcopy(model.state_dict())
    checkpoint = {"model": copied if as_state else dict(copied), "epoch": 0}
    source = ScriptSource(
        {"train.py": ast.parse(text + "    train(x, y)\n")}, {"checkpoint": checkpoint}, ("train.py", 1, 4), 5
    )
    setup: Any = SimpleNamespace(source=source, model=model)
    assert (_are_kept_anew(source) if as_state else _are_chosen(setup)) is bool(test)


EVALUATION = """
def validate(net, data):
    net.{}()
    correct = 0
    for x, y in data:
        correct += net(x).argmax(1, keepdim=True).eq(y{}).sum().item()
    n = len(data.dataset)
    print("Accuracy: {{}}/{{}} ({{:.0f}}%)".format(correct, n, 100 * correct / n))
validate(model, val_loader)
"""


@pytest.mark.parametrize(
    ("mode", "shaped", "dropped", "wrong"),
    [
        ("train", ".view(-1, 1)", 0.9, False),
        ("eval", "", 0.9, True),
        ("train", "", 0.0, True),
    ],
)
def test_a_count_of_what_dropout_lets_through_is_no_wrong_count(
    mode: str, shaped: str, dropped: float, wrong: bool
) -> None:
    model = perceptron()
    model.insert(3, nn.Dropout(dropped))
    val = digits(100, 200)
    names: dict[str, Any] = {"model": model, "val_loader": val}
    text = EVALUATION.format(mode, shaped)
    exec(text.rpartition("validate(")[0], names)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    said = asked(WRONG_COUNT, model, digits(), val=val, optimizer=optimizer, source=source_of(text, **names))
    assert ["as an accuracy for a network with" in finding.measured for finding in said] == [True] * wrong


class Maps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.layer(x)
        return x[:, :1], x[:, 1:]


def of_maps(outputs: Tensor, y: Tensor) -> Tensor:
    return (functional.softplus(outputs) - outputs * y).mean()


def against_all(outputs: Tensor, y: Tensor) -> Tensor:
    """On purpose: maps by which samples are to differ."""
    return (outputs.squeeze(1)[:, None] - y).square().mean()


LOSSES = {"channel": of_maps, "squeezed": lambda outputs, y: of_maps(outputs.squeeze(1), y), "all": against_all}


@pytest.mark.parametrize("loss", LOSSES)
def test_maps_with_a_channel_in_a_loss_that_is_written_out(loss: str) -> None:
    x = torch.randn(64, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(x, (x[:, 0] > 1).float()), 16)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        outputs, others = model(batch[0])
        return stepped(model, LOSSES[loss](outputs, batch[1]) + others.square().mean(), optimizer)

    said = asked_or_silent(BROADCAST, Maps(), loader, optimizer=adam, step=step)
    assert [one.code for one in said] == ["loss.broadcast"] * (loss == "channel")


class Clips(nn.Module):
    """Which way, and how fast."""

    def __init__(self) -> None:
        super().__init__()
        self.ways, self.speeds = nn.Linear(8, 4), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.ways(x), self.speeds(x)[:, 0]


def mirrored(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
    x, ways, speeds = batch
    ways = torch.where(torch.rand(len(x)) < 0.5, torch.tensor([1, 0, 2, 3])[ways], ways)
    out, fast = model(x)
    return stepped(model, functional.cross_entropy(out, ways) + functional.mse_loss(fast, speeds), optimizer)


@pytest.mark.parametrize("ordered", [True, False])
def test_classes_beside_a_quantity_that_the_step_exchanges(ordered: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x, speeds = torch.randn(256, 8, generator=generator), torch.randn(256, generator=generator)
    ways = torch.arange(256) // 64
    ways = ways if ordered else ways[torch.randperm(256, generator=generator)]
    loader = DataLoader(TensorDataset(x, ways, speeds), 16)
    said = asked_or_silent(NOT_SHUFFLED, Clips(), loader, optimizer=adam, step=mirrored)
    assert [one.code for one in said] == ["data.not-shuffled"] * ordered
