"""Met in graphs, mosaics and autoencoders: losses written out, several labels, weights of words, numbers of 8 bits."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

import pytest
import torch
from asked import asked, digits, loop, perceptron
from test_source_checks import found, values
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.labels.step_labels import STEP_LABELS
from striate.doctor.checks.eval.modes import MODE
from striate.doctor.checks.loss.broadcast import BROADCAST
from striate.doctor.checks.loss.counted.class_weights import CLASS_WEIGHTS
from striate.doctor.checks.model.evaluates_untrained import CHECK as EVALUATES_UNTRAINED
from striate.doctor.checks.optim.low_precision import LOW_PRECISION
from striate.doctor.diagnose import diagnose_setup
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup
from striate.records import Finding


class Places(nn.Module):
    """Where ink lies, as a column or as one number a sample."""

    def __init__(self, squeezed: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head, self.squeezed = nn.Sequential(nn.Flatten(), nn.Linear(64, 16)), nn.Linear(16, 1), squeezed

    def forward(self, x: Tensor) -> Tensor:
        given: Tensor = self.head(self.body(x).relu())
        return given.squeeze(1) if self.squeezed else given


@pytest.mark.parametrize("squeezed", [True, False])
def test_a_column_less_one_number_a_sample_is_all_with_all(squeezed: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        ink = batch[0].mean((1, 2, 3))
        given = model(batch[0])
        optimizer.zero_grad()
        value: Tensor = (given - ink).abs().mean() + 0.01 * functional.mse_loss(given.reshape(-1), batch[1].float())
        value.backward()
        optimizer.step()
        return value.detach()

    said = asked(BROADCAST, Places(squeezed), digits(), step=step, task="regress")
    assert [one.code for one in said] == ["loss.broadcast"] * (not squeezed)
    assert not said or "32×32 by their difference" in said[0].measured


@pytest.mark.parametrize("exchanged", [False, True])
def test_blends_of_samples_with_several_labels_have_their_shares(exchanged: bool) -> None:
    x, y = next(iter(digits(320)))
    labels = torch.stack([y % 2, y // 2 % 2, y // 4 % 2, y // 8], 1).float()

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        given, wanted = batch
        optimizer.zero_grad()
        if torch.rand(()) < 0.8:
            share, order = float(torch.distributions.Beta(0.3, 0.3).sample()), torch.randperm(len(given))
            given = share * given + (1 - share) * given[order]
            share = 1 - share if exchanged else share
            wanted = share * wanted + (1 - share) * wanted[order]
        value = functional.binary_cross_entropy_with_logits(model(given), wanted)
        value.backward()
        optimizer.step()
        return value.detach()

    model = nn.Sequential(perceptron(), nn.Linear(10, 4))
    said: list[Finding] = []
    with suppress(NoEvidence):  # what is blended is none of the loader's samples
        said = asked(STEP_LABELS, model, DataLoader(TensorDataset(x, labels), 32), step=step, task="multilabel")
    assert [one.code for one in said] == ["data.step-labels"] * exchanged


@pytest.mark.parametrize(("turned", "code"), [(False, []), (True, ["loss.class-weights"])])
def test_weights_of_the_classes_of_words_favor_rare_ones(turned: bool, code: list[str]) -> None:
    drawn = torch.Generator().manual_seed(0)
    words = torch.randint(1, 40, (256, 12), generator=drawn)
    tags = torch.where(words < 34, 0, torch.where(words < 37, 1, 2))
    tags[:, 9:] = -100
    counts = torch.bincount(tags[tags >= 0]).float()
    weight = counts / counts.sum() if turned else (counts.sum() / counts).sqrt()
    criterion = nn.CrossEntropyLoss(weight, ignore_index=-100)

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        optimizer.zero_grad()
        value: Tensor = criterion(model(batch["words"]).flatten(0, 1), batch["tags"].flatten())
        value.backward()
        optimizer.step()
        return value.detach()

    rows = [{"words": one, "tags": other} for one, other in zip(words, tags, strict=True)]
    model = nn.Sequential(nn.Embedding(40, 8), nn.Linear(8, 3))
    assert [one.code for one in asked(CLASS_WEIGHTS, model, DataLoader(rows, 32), step=step)] == code  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "rate", "coarse"), [(torch.bfloat16, 3e-4, True), (torch.float32, 3e-4, False)])
def test_weights_that_move_by_units_of_their_last_place(kind: torch.dtype, rate: float, coarse: bool) -> None:
    x, y = next(iter(digits(320)))
    model = perceptron().to(kind)
    train = DataLoader(TensorDataset(x.to(kind), y), 32)
    said = asked(LOW_PRECISION, model, train, optimizer=lambda p: torch.optim.AdamW(p, lr=rate))
    assert [one.code for one in said] == ["optim.low-precision"] * coarse


@pytest.mark.parametrize("saved", [True, False])
def test_the_state_of_an_average_in_a_checkpoint_is_no_copy_that_stays(saved: bool) -> None:
    model = perceptron()
    average = copy.deepcopy(model)
    checkpoint = {"model": average.state_dict() if saved else copy.deepcopy(model.state_dict())}

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        value = loop(model, batch, optimizer, loss)
        with torch.no_grad():
            for one, other in zip(average.parameters(), model.parameters(), strict=True):
                one.lerp_(other, 0.05)
        return value if checkpoint else value * 2

    said = asked(EVALUATES_UNTRAINED, model, digits(), step=step, loss=nn.CrossEntropyLoss())
    assert [one.code for one in said] == ["model.evaluates-untrained"] * (not saved)


GRAPH = """
class Graph(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.dropout(self.lin(x.flatten(1)), 0.5, training=self.training)

for epoch in range(5):
    model.train()
    for x, y in loader:
        model(x)
    model.eval()
    with torch.no_grad():
        output = model(nodes)
    right = (output[idx_val].argmax(1) == labels[idx_val]).float().mean()
"""


class Graph(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(self.lin(x.flatten(1)), 0.5, training=self.training)


@pytest.mark.parametrize("switched", [True, False])
def test_nodes_of_a_graph_are_evaluated_without_dropout(switched: bool) -> None:
    text = GRAPH if switched else GRAPH.replace("    model.eval()\n", "")
    names = values() | {"model": Graph()}
    names["optimizer"] = torch.optim.SGD(names["model"].parameters(), lr=0.1)
    assert list(found(text, names, [MODE])) == ["eval.mode"] * (not switched)


def test_of_a_script_what_may_be_meant_is_a_note() -> None:
    x, y = next(iter(digits(640)))
    y = torch.where(torch.rand(640, generator=torch.Generator().manual_seed(0)) < 0.12, (y + 1) % 10, y)
    severities = []
    for source in (None, ScriptSource({}, {}, ("train.py", 1, 1), 5)):
        setup = make_setup(perceptron(), DataLoader(TensorDataset(x, y), 32, shuffle=True), source=source)
        said = diagnose_setup(setup, 60)
        severities += [one.severity for one in said.findings if one.code == "data.label-noise"]
    assert severities == ["warning", "note"]
