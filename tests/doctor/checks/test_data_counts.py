"""Numbers that are none, labels without an output, classes that are rare or absent, too little of everything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
import torch
from asked import asked, digits, loop, perceptron
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from striate.doctor.checks.data.inputs.input_values import CONSTANT_IMAGES, NOT_FINITE
from striate.doctor.checks.data.labels.class_balance import IMBALANCE, MISSING_CLASS
from striate.doctor.checks.data.labels.label_numbers import LABEL_RANGE
from striate.doctor.checks.data.labels.too_few import TOO_FEW
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.setup.recorded_iterators import RecordedIterator


def pixels(count: int = 320) -> tuple[Tensor, Tensor]:
    tensors = digits().dataset.tensors  # type: ignore[attr-defined]
    return tensors[0][:count].clone(), tensors[1][:count].clone()


def test_a_single_nan_is_told_with_its_place() -> None:
    x, y = pixels()
    x[7, 0, 2, 2] = float("nan")
    (finding,) = asked(NOT_FINITE, perceptron(), (x, y))
    assert finding.severity == "error"
    assert "1 of 320 samples have inputs with a number that is NaN" in finding.measured


def test_gaps_that_the_network_fills_are_a_note() -> None:
    class Filling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = perceptron()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(torch.nan_to_num(x))  # type: ignore[no-any-return]

    x, y = pixels()
    x[::9, 0, 0, 0] = float("nan")
    (finding,) = asked(NOT_FINITE, Filling(), (x, y))
    assert finding.severity == "note"


def test_infinite_validation_counts_too() -> None:
    x, y = pixels()
    odd = x[:40].clone()
    odd[3] = float("inf")
    (finding,) = asked(NOT_FINITE, perceptron(), (x, y), val=(odd, y[:40]))
    assert (finding.severity, finding.where) == ("error", "validation inputs")
    assert "infinite" in finding.measured


def test_blank_images_are_counted() -> None:
    x, y = pixels()
    x[::10] = 0.7
    (finding,) = asked(CONSTANT_IMAGES, perceptron(), (x, y))
    assert (finding.severity, finding.measured[:24]) == ("warning", "32 of 320 samples have o")


@pytest.mark.parametrize("blank", [0, 2])
def test_one_or_two_blank_images_are_let_pass(blank: int) -> None:
    x, y = pixels()
    x[:blank] = 0
    assert not asked(CONSTANT_IMAGES, perceptron(), (x, y))


@pytest.mark.parametrize("faulty", [False, True])
def test_a_blank_image_with_none_of_several_labels_is_right(faulty: bool) -> None:
    x, y = pixels()
    tags = nn.functional.one_hot(y % 10, 10).float()
    x[::10] = 0.7
    tags[1 if faulty else 0 :: 10] = 0
    found = asked(CONSTANT_IMAGES, perceptron(), (x, tags), loss=nn.BCEWithLogitsLoss())
    assert [finding.code for finding in found] == ["data.constant-images"] * faulty


@pytest.mark.parametrize("empty", [False, True])
def test_targets_of_any_name_are_those_that_a_loss_asks_for(empty: bool) -> None:
    x, y = pixels()
    x[::10] = 0.7
    tags = nn.functional.one_hot(y % 10, 10).float()
    tags[0 if empty else 1 :: 10] = 0

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> torch.Tensor:
        loss = nn.functional.binary_cross_entropy_with_logits(model(batch["pixels"]), batch["tags"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    batches = [{"pixels": a, "tags": b} for a, b in zip(x.split(32), tags.split(32), strict=True)]
    found = asked(CONSTANT_IMAGES, perceptron(), batches, step=step)
    assert [finding.code for finding in found] == ["data.constant-images"] * (not empty)


@pytest.mark.parametrize("beside", [False, True])
def test_few_labels_beside_many_samples_without(beside: bool) -> None:
    x, y = pixels(40)

    def step(*given: Any) -> torch.Tensor:
        return loop(*given)

    cast(Any, step).iterators = [RecordedIterator(iter(()), [(x, x)])] if beside else []
    found = asked(TOO_FEW, perceptron(), DataLoader(TensorDataset(x, y), 16, shuffle=True), step=step)
    assert [finding.code for finding in found] == ["data.too-few"] * (not beside)


def test_numbers_of_samples_beside_targets_are_no_classes() -> None:
    """Where the loss is given a part of the targets, nothing says which tensor they are."""

    def step(net: nn.Module, batch: Any, optimizer: Any, _: object) -> Tensor:
        x, y, _ = batch
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x)[y > 2], y[y > 2])
        loss.backward()
        optimizer.step()
        return loss.detach()

    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    loader = DataLoader(TensorDataset(x, y, torch.arange(len(x))), 32, shuffle=True)
    assert not asked(TOO_FEW, perceptron(), loader, step=step)


def test_rows_of_a_table_may_have_one_value() -> None:
    x, y = torch.zeros(60, 20), torch.arange(60) % 2
    assert not asked(CONSTANT_IMAGES, nn.Linear(20, 2), (x, y))


def test_labels_from_one_are_told_with_their_mend() -> None:
    x, y = pixels()
    (finding,) = asked(LABEL_RANGE, perceptron(), (x, y + 1))
    assert "targets from 1 to 10 for 10 outputs" in finding.measured
    assert "raises IndexError" in finding.measured
    assert "`y = y - 1`" in finding.remedy


def test_a_step_with_a_loss_of_its_own_is_judged_by_what_it_raises() -> None:
    def step(model: nn.Module, batch: tuple[Tensor, Tensor], optimizer: torch.optim.Optimizer, _: object) -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.nll_loss(model(batch[0]).log_softmax(1), batch[1])
        loss.backward()
        optimizer.step()
        return loss

    x, y = pixels()
    assert asked(LABEL_RANGE, perceptron(), (x, y + 1), step=step)
    assert not asked(LABEL_RANGE, perceptron(), (x, y), step=step)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("ignored", [-1, -100, 255])
def test_labels_that_the_loss_leaves_out_are_let_pass(ignored: int) -> None:
    x, y = pixels()
    y[::4] = ignored
    loss = nn.CrossEntropyLoss(ignore_index=ignored)
    assert not asked(LABEL_RANGE, perceptron(), (x, y), loss=loss)
    assert asked(LABEL_RANGE, perceptron(), (x, y), loss=nn.CrossEntropyLoss(ignore_index=-7))


def test_plus_and_minus_one_fit_a_margin_and_not_a_binary_cross_entropy() -> None:
    x, y = pixels()
    signs = 2.0 * (y > 4).float()[:, None] - 1
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    (finding,) = asked(LABEL_RANGE, model, (x, signs), loss=nn.BCEWithLogitsLoss())
    assert "`y = (y + 1) / 2`" in finding.remedy
    assert not asked(LABEL_RANGE, model, (x, signs), loss=nn.SoftMarginLoss())


def test_a_step_that_numbers_classes_itself_is_healthy() -> None:
    def step(model: nn.Module, batch: tuple[Tensor, Tensor], optimizer: torch.optim.Optimizer, loss: object) -> Tensor:
        return loop(model, (batch[0], batch[1] - 1), optimizer, loss)

    x, y = pixels()
    assert not asked(LABEL_RANGE, perceptron(), (x, y + 1), step=step)
    assert not asked(MISSING_CLASS, perceptron(), (x, y + 1), step=step)


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


def rare(share: int) -> tuple[Tensor, Tensor]:
    x, y = pixels(640)
    kept = (y != 8) | (torch.arange(len(y)) % share == 0)
    return x[kept], y[kept]


def test_a_rare_class_is_told_with_its_recall() -> None:
    x, y = rare(30)
    slow = torch.optim.SGD
    (finding,) = asked(IMBALANCE, perceptron(), (x, y), optimizer=lambda p: slow(p, lr=0.01))
    assert finding.severity == "warning"
    assert "of class 8 (" in finding.measured


def test_weights_in_the_loss_balance_classes() -> None:
    x, y = rare(30)
    weights = 1 / torch.bincount(y).clamp_min(1).float()
    assert not asked(IMBALANCE, perceptron(), (x, y), loss=nn.CrossEntropyLoss(weight=weights))


def test_a_few_times_more_is_healthy() -> None:
    assert not asked(IMBALANCE, perceptron(), rare(4))


def test_three_images_a_class_are_too_few() -> None:
    x, y = pixels(640)
    rows = torch.cat([(y == k).nonzero()[:3].flatten() for k in range(10)])
    (finding,) = asked(TOO_FEW, perceptron(), (x[rows], y[rows]))
    assert "10 classes have fewer than 5 different samples: 0 (3)" in finding.measured


def test_copies_do_not_make_more_samples() -> None:
    x, y = pixels(640)
    rows = torch.cat([(y == k).nonzero()[:3].flatten() for k in range(10)]).repeat(10)
    assert asked(TOO_FEW, perceptron(), (x[rows], y[rows]))


def test_a_table_of_few_values_has_copies_by_chance() -> None:
    x = torch.randint(0, 2, (200, 2), generator=torch.Generator().manual_seed(0)).float()
    assert not asked(TOO_FEW, nn.Linear(2, 2), (x, (x[:, 0] != x[:, 1]).long()))


def test_a_hundred_rows_are_enough() -> None:
    x = torch.randn(110, 4, generator=torch.Generator().manual_seed(0))
    assert not asked(TOO_FEW, nn.Linear(4, 3), (x, torch.arange(110) % 3))


def test_embeddings_are_tried_with_classes_that_are_not_trained_with() -> None:
    x, y = pixels()
    seen = y < 7
    data = {"train": (x[seen], y[seen]), "val": (x[~seen], y[~seen])}
    with pytest.raises(NoEvidence, match="none of the classes"):
        asked(MISSING_CLASS, nn.Sequential(perceptron(), nn.Linear(10, 32)), **data)
    (finding,) = asked(MISSING_CLASS, perceptron(), **data)  # with an output for each
    assert "none is of class 7, 8, 9" in finding.measured


class Owners:
    """Batches of two classes, drawn anew."""

    def __init__(self, y: Tensor) -> None:
        self.rows = [(y == k).nonzero().flatten().tolist() for k in range(10)]

    def __len__(self) -> int:
        return 6

    def __iter__(self) -> Iterator[list[int]]:
        for number in range(6):
            yield [*self.rows[number][:8], *self.rows[9][:3]]


def test_batches_that_a_sampler_of_ones_own_deals_are_not_counted() -> None:
    x, y = pixels()
    loader = DataLoader(TensorDataset(x, y), batch_sampler=Owners(y))  # type: ignore[arg-type]
    assert not asked(TOO_FEW, perceptron(), loader)
    with pytest.raises(NoEvidence, match="sampler of the user's own"):
        list(asked(IMBALANCE, perceptron(), loader))


def test_labels_that_the_step_moves_out_of_range_are_told() -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        return loop(model, (batch[0], batch[1] + 1), optimizer, loss)

    (finding,) = asked(LABEL_RANGE, perceptron(), pixels(), step=step)
    assert finding.code == "data.label-range"
    assert "the step makes others of them" in finding.measured
