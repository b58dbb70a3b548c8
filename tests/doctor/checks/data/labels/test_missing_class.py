"""`data.missing-class`: does the loader yield every class?"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from for_checks.asked import asked, asked_in_script, digits, perceptron, pixels, read
from for_checks.claims import codes_of_graphs, graphs_of_kinds
from for_checks.embeddings import Embedding, triplets
from for_checks.steps import codes_said
from striate.doctor.checks.data.labels.imbalance import IMBALANCE
from striate.doctor.checks.data.labels.missing_class import MISSING_CLASS
from striate.doctor.checks.data.targets.target_in_input import TARGET_IN_INPUT
from striate.doctor.evidence.clock import NoEvidence
from striate.records import Finding


def test_a_class_that_only_validation_has() -> None:
    x, y = pixels()
    kept = y != 3
    (finding,) = asked(MISSING_CLASS, perceptron(), (x[kept], y[kept]), val=(x, y))
    assert finding.severity == "error"
    assert "none is of class 3; validation has" in finding.measured


def test_a_sampler_may_leave_a_class_out() -> None:
    x, y = pixels()
    weights = y.double()  # labels taken for weights
    loader = DataLoader(TensorDataset(x, y), 32, sampler=WeightedRandomSampler(weights.tolist(), len(y)))
    (finding,) = asked(MISSING_CLASS, perceptron(), loader, val=(x, y))
    assert "none is of class 0" in finding.measured


def test_outputs_to_spare_are_healthy() -> None:
    x, y = pixels()
    many = nn.Sequential(nn.Flatten(), nn.Linear(64, 1000))
    assert not asked(MISSING_CLASS, many, (x, y))
    one_more = nn.Sequential(nn.Flatten(), nn.Linear(64, 11))
    assert not asked(MISSING_CLASS, one_more, (x, y + 1))


def test_embeddings_are_tried_with_classes_that_are_not_trained_with() -> None:
    x, y = pixels()
    seen = y < 7
    data = {"train": (x[seen], y[seen]), "val": (x[~seen], y[~seen])}
    with pytest.raises(NoEvidence, match="none of the classes"):
        asked(MISSING_CLASS, nn.Sequential(perceptron(), nn.Linear(10, 32)), **data)
    (finding,) = asked(MISSING_CLASS, perceptron(), **data)  # with an output for each
    assert "none is of class 7, 8, 9" in finding.measured


@pytest.mark.parametrize("kinds", [[0, 1], [0, 1, 2]])
def test_classes_of_graphs_in_a_named_tuple(kinds: list[int]) -> None:
    val = graphs_of_kinds([0, 1, 2], 2)
    assert codes_of_graphs(MISSING_CLASS, kinds, val=val) == ["data.missing-class"] * (len(kinds) < 3)
    with pytest.raises(NoEvidence, match="not numbers of the same rows"):
        codes_of_graphs(TARGET_IN_INPUT, kinds)


def test_numbers_of_an_embedding_are_no_classes() -> None:
    model = Embedding()
    options: Any = {"loss": triplets, "optimizer": torch.optim.Adam(model.parameters(), 1e-3)}
    assert not asked(MISSING_CLASS, model, digits(), **options)


LOSS = nn.CrossEntropyLoss()


class Coloring(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("most", "missing"), [(1, True), (4, False)])
def test_maps_of_nothing_but_one_class_are_named(most: int, missing: bool) -> None:
    x = torch.randn(6000, 1, 6, 6)
    y = torch.randint(most, (6000, 6, 6))
    data = DataLoader(TensorDataset(x, y), 10, shuffle=True)  # more than is read
    said = asked(MISSING_CLASS, Coloring(), data, loss=LOSS, task="segment")
    assert [finding.code for finding in said] == ["data.missing-class"] * missing


def of_a_step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
    """A loss that has no name of its own is called."""
    optimizer.zero_grad()
    loss: Tensor = nn.functional.cross_entropy(model(batch[0]), batch[1])
    loss.backward()
    optimizer.step()
    return loss.detach()


@pytest.mark.parametrize("most", [8, 10])
def test_outputs_without_a_class_are_told_whatever_calls_the_loss(most: int) -> None:
    x, y = torch.randn(400, 64), torch.arange(400) % most
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    said = asked(MISSING_CLASS, model, DataLoader(TensorDataset(x, y), 40), step=of_a_step, optimizer=optimizer)
    assert [finding.code for finding in said] == ["data.missing-class"] * (most < 10)


def of_views(z: Tensor, _: Tensor) -> Tensor:
    z = functional.normalize(z, dim=1)
    return functional.cross_entropy(z @ z.roll(1, 0).T, torch.arange(len(z)))


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.02])
def test_classes_that_no_loss_asks_for(share: float, asks: bool) -> None:
    torch.manual_seed(0)
    y = (torch.arange(640) < 640 * share).long()
    train = DataLoader(TensorDataset(torch.randn(640, 8), y), 64, shuffle=True)
    model = nn.Linear(8, 2)
    nn.init.zeros_(model.weight if asks else model.bias)  # one loss for all labels at first
    loss = functional.cross_entropy if asks else of_views
    said = [one.code for check in (MISSING_CLASS, IMBALANCE) for one in asked_in_script(check, model, train, loss=loss)]
    assert said == (["data.imbalance" if share else "data.missing-class"] if asks else [])


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("divisor", "wrong"), [(85, False), (255, True)])
def test_masks_keep_the_classes_that_there_are_outputs_for(divisor: int, wrong: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(0, 4, (80, 8, 8), generator=generator)
    x = classes[:, None].float() + 0.1 * torch.randn(80, 1, 8, 8, generator=generator)
    loader = DataLoader(TensorDataset(x, classes * 85 // divisor), 8, shuffle=True, generator=generator)
    told = codes_said(MISSING_CLASS, nn.Conv2d(1, 4, 3, padding=1), loader, loss=nn.CrossEntropyLoss())
    assert told == ["data.missing-class"] * wrong


def test_heads_of_many_outputs_may_have_few_classes() -> None:
    data = TensorDataset(torch.randn(200, 1, 8, 8), torch.arange(200) % 5)
    assert codes_said(MISSING_CLASS, perceptron(), DataLoader(data, 20), loss=nn.CrossEntropyLoss()) == []


class _Embeds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(self.layer(x.flatten(1)), dim=1)


def _pairs_pulled(outputs: Tensor, labels: Tensor) -> Tensor:
    same = labels[:, None] == labels
    return functional.softplus(torch.where(same, -(outputs @ outputs.T), outputs @ outputs.T)).mean()


@pytest.mark.parametrize("by_class", [True, False])
def test_batches_for_triplets_do_not_show_how_classes_occur(by_class: bool) -> None:
    """Validation numbers new classes from 0 again, one of which no batch of triplets has had."""
    generator = torch.Generator().manual_seed(0)
    picked = [torch.randperm(19, generator=generator)[:4] for _ in range(30)]
    labels = [torch.randint(19, (16,), generator=generator) for _ in range(30)]
    labels = [(one.repeat_interleave(4) if by_class else two) for one, two in zip(picked, labels, strict=True)]
    train = [(torch.randn(16, 3, 4, generator=generator), 1 + y) for y in labels]
    val = [(torch.randn(20, 3, 4, generator=generator), torch.arange(20) % 5)]
    said: list[Finding] = []
    with suppress(NoEvidence):
        said = asked(MISSING_CLASS, _Embeds(), train, val=val, loss=_pairs_pulled, task="classify")
    assert [one.code for one in said] == ["data.missing-class"] * (not by_class)


@pytest.mark.parametrize("numbered", [True, False])
def test_labels_that_each_batch_numbers_anew_may_have_other_numbers_in_validation(numbered: bool) -> None:
    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        if numbered:
            return functional.cross_entropy(outputs, y)
        same, distances = y[:, None] == y[None], torch.cdist(outputs, outputs)
        return functional.relu(distances[same].mean() - distances[~same].mean() + 1)

    x, y = pixels()
    rows = torch.cat([(y == kind).nonzero()[:24, 0] for kind in range(7)]).reshape(7, 6, 4).movedim(1, 0).flatten()
    train = DataLoader(TensorDataset(x[rows], y[rows]), 28)
    found: list[Finding] = []
    with suppress(NoEvidence):
        found = asked(MISSING_CLASS, perceptron(), train, val=(x, y), loss=loss)
    assert bool(found) == numbered


@pytest.mark.parametrize("copies", [True, False])
def test_a_client_of_a_federated_average_has_a_part_of_the_classes(copies: bool) -> None:
    text = f"""
    def update(server, loader):
        model = {"copy.deepcopy(server)" if copies else "server"}
        for x, y in loader:
            step(model, x, y)
        return model.state_dict()

    for number in range(9):
        states = [update(server, loader) for loader in clients]
    """
    x, y = pixels()
    model = perceptron()
    names = {"model": model}
    found: list[Finding] = []
    with suppress(NoEvidence):
        found = read(text, MISSING_CLASS, model, (x[y < 4], y[y < 4]), val=(x, y), names=names)
    assert bool(found) is not copies


@pytest.mark.parametrize("copies", [True, False])
def test_a_client_may_be_given_a_copy(copies: bool) -> None:
    text = f"""
    def update(model, loader):
        for x, y in loader:
            step(model, x, y)
        return model.state_dict()

    for number in range(9):
        states = [update({"copy.deepcopy(server)" if copies else "server"}, loader) for loader in clients]
    """
    x, y = pixels()
    model, server = perceptron(), perceptron()
    names = {"model": model, "server": server}
    found: list[Finding] = []
    with suppress(NoEvidence):
        calling = frozenset({("t.py", text.count("\n", 0, text.index("states =")) + 1)})
        found = read(text, MISSING_CLASS, model, (x[y < 4], y[y < 4]), val=(x, y), names=names, calling=calling)
    assert bool(found) is not copies


def test_classes_without_outputs_belong_to_another_training() -> None:
    """A network is first trained on some classes of a set whose test data have all."""
    x, y = pixels(640)
    few = y < 5
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
    with pytest.raises(NoEvidence, match="another training"):
        asked(MISSING_CLASS, network, (x[few], y[few]), val=(x, y), loss=nn.CrossEntropyLoss())
