"""`loss.class-weights`: do the weights of a loss favor rare classes, and not the common ones?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, said
from for_checks.scripts import SCRIPT, found, values
from striate.doctor.checks.data.labels.imbalance import IMBALANCE
from striate.doctor.checks.loss.counted.class_weights import CLASS_WEIGHTS
from striate.doctor.evidence.clock import NoEvidence


@pytest.mark.parametrize("moved", [0, 1])
def test_weights_that_stand_at_other_classes_are_named(moved: int) -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.repeat_interleave(torch.arange(4), torch.tensor([200, 80, 40, 16]))
    x = torch.randn(len(y), 64, generator=generator)
    loader = DataLoader(TensorDataset(x, y), 32, shuffle=True, generator=generator)
    weights = (len(y) / torch.bincount(y)).roll(moved)
    found = asked(CLASS_WEIGHTS, nn.Linear(64, 4), loader, loss=nn.CrossEntropyLoss(weight=weights))
    assert ["but in another order" in finding.measured for finding in found] == [True] * moved


@pytest.mark.parametrize("power", [-1.0, 1.0])
def test_weights_in_a_loss_of_ones_own_favor_rare_classes(power: float) -> None:
    y = torch.repeat_interleave(torch.arange(4), torch.tensor([200, 80, 40, 16]))
    loader = DataLoader(TensorDataset(torch.randn(len(y), 64), y), 32, shuffle=True)
    weights = torch.bincount(y).double() ** power

    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        pulls = weights[y] / weights[y].sum()
        return -(pulls * outputs.log_softmax(1).gather(1, y[:, None])[:, 0]).sum()

    found = asked(CLASS_WEIGHTS, nn.Linear(64, 4), loader, loss=loss)
    assert ["common classes have the larger weights" in finding.measured for finding in found] == [True] * (power > 0)


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_a_binary_loss_weighs_both_classes_alike_where_outputs_lie_in_0_to_1(kind: str) -> None:
    torch.manual_seed(0)
    y = (torch.arange(160) % 4 == 0).float()[:, None]
    loader = DataLoader(TensorDataset(torch.rand(len(y), 8), y), 16)
    model = nn.Sequential(nn.Linear(8, 1), nn.Hardtanh(0.1, 0.9) if kind == "logits" else nn.Sigmoid())
    loss = nn.BCEWithLogitsLoss() if kind == "logits" else nn.BCELoss()
    with pytest.raises(NoEvidence, match="the loss has no class weights"):
        asked(CLASS_WEIGHTS, model, loader, loss=lambda outputs, y: loss(outputs, y))


@pytest.mark.parametrize(("largest", "severity"), [(1.0, None), (2.5, None), (5.0, "note"), (300.0, "warning")])
@pytest.mark.parametrize("kind", ["classes", "positives", "by hand"])
def test_a_large_weight_of_a_class_that_is_not_rare(largest: float, severity: str | None, kind: str) -> None:
    torch.manual_seed(0)
    y = torch.arange(160) % (4 if kind == "classes" else 2)
    weights = torch.tensor([1.0, largest, 1.0, 1.0])

    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        if kind == "classes":
            return functional.cross_entropy(outputs, y, weight=weights)
        if kind == "positives":
            return functional.binary_cross_entropy_with_logits(outputs[:, 0], y.float(), pos_weight=weights[1])
        return (functional.cross_entropy(outputs, y, reduction="none") * weights[y]).mean()

    loader = DataLoader(TensorDataset(torch.randn(len(y), 64), y), 32, shuffle=True)
    model = nn.Linear(64, {"classes": 4, "positives": 1, "by hand": 2}[kind])
    for check in (CLASS_WEIGHTS, IMBALANCE):
        found = said(check, model, loader, loss=loss, optimizer=torch.optim.SGD(model.parameters(), 1e-6))
        own = severity is not None and check is CLASS_WEIGHTS
        assert [one.severity for one in found] == [severity] * own
        assert all(f"class 1 counts {largest:.0f} times as much" in one.measured for one in found)


def test_weights_that_make_rare_classes_count_too_much_are_named() -> None:
    torch.manual_seed(0)
    y = torch.repeat_interleave(torch.arange(3), torch.tensor([200, 100, 20]))
    loader = DataLoader(TensorDataset(torch.randn(len(y), 64), y), 32, shuffle=True)
    for rare, named in ((10.0, 0), (300.0, 1)):
        loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, rare]))
        assert len(said(CLASS_WEIGHTS, nn.Linear(64, 3), loader, loss=loss)) == named
        assert not said(IMBALANCE, nn.Linear(64, 3), loader, loss=loss)


def test_a_loss_without_class_weights_is_skipped_for_that_reason() -> None:
    y = torch.arange(4).repeat(40)
    loader = DataLoader(TensorDataset(torch.randn(len(y), 64), y), 32, shuffle=True)
    with pytest.raises(NoEvidence, match="the loss has no class weights"):
        asked(CLASS_WEIGHTS, nn.Linear(64, 4), loader, loss=nn.CrossEntropyLoss())


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


@pytest.mark.parametrize(("power", "named"), [(1.0, True), (-1.0, False)])
def test_class_weights_with_indices_of_nodes(power: float, named: bool) -> None:
    classes = torch.arange(160).div(10).sqrt().long()  # 10, 30, 50 and 70 of each
    numbers = torch.randperm(160)
    counts = torch.bincount(classes).float()

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        x, nodes = batch
        value = functional.cross_entropy(model(x), classes[nodes], weight=(counts / counts.mean()) ** power)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.detach()

    model = nn.Linear(8, 4)
    options = {"optimizer": torch.optim.Adam(model.parameters()), "step": step}
    findings = asked(CLASS_WEIGHTS, model, DataLoader(TensorDataset(torch.randn(160, 8), numbers), 160), **options)
    assert [one.code for one in findings] == ["loss.class-weights"] * named


def test_weights_that_grow_with_the_counts_are_named() -> None:
    names = values()
    y = torch.tensor([0] * 40 + [1] * 20 + [2] * 5)
    counts = torch.bincount(y, minlength=10).float()
    names["loader"] = DataLoader(TensorDataset(torch.randn(65, 1, 8, 8), y), 13, shuffle=True)
    names["criterion"] = nn.CrossEntropyLoss(weight=counts / counts.sum())
    assert list(found(SCRIPT, names, [CLASS_WEIGHTS])) == ["loss.class-weights"]
    names["criterion"] = nn.CrossEntropyLoss(weight=counts.sum() / (3 * counts.clamp(min=1)))
    assert found(SCRIPT, names, [CLASS_WEIGHTS]) == {}


@pytest.mark.parametrize("several", [True, False])
@pytest.mark.parametrize(
    ("given", "wrong"), [("weight", True), ("pos_weight", False), ("frequencies", False), ("samples", False)]
)
def test_balanced_weights_of_positives_are_passed_as_pos_weight(several: bool, given: str, wrong: bool) -> None:
    drawn = torch.Generator().manual_seed(0)
    frequency = torch.tensor([0.5, 0.3, 0.15, 0.1] if several else [0.15])
    y = (torch.rand(800, len(frequency), generator=drawn) < frequency).float()
    balanced = (1 - y).sum(0) / y.sum(0)

    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        if given == "samples":
            return functional.binary_cross_entropy_with_logits(outputs, y, weight=1 + (balanced - 1) * y)
        options = {given: balanced} if given != "frequencies" else {"weight": frequency.mean() / frequency}
        return functional.binary_cross_entropy_with_logits(outputs, y, **options)

    loader = DataLoader(TensorDataset(torch.randn(800, 8, generator=drawn), y), 50)
    found = said(CLASS_WEIGHTS, nn.Linear(8, len(frequency)), loader, loss=loss)
    assert ["pass it as pos_weight" in str(one.remedy) for one in found] == [True] * wrong
