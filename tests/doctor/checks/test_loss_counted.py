"""Losses that leave samples or classes out, take arguments in the wrong order, or weigh the wrong class."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from asked import asked, digits, loop, perceptron
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 — as everybody writes it
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.labels.labels_random import LABELS_RANDOM
from striate.doctor.checks.data.labels.step_labels import STEP_LABELS
from striate.doctor.checks.data.targets.target_in_input import TARGET_IN_INPUT
from striate.doctor.checks.loss.counted.class_weights import CLASS_WEIGHTS
from striate.doctor.checks.loss.counted.ignored import IGNORED_CLASS
from striate.doctor.checks.loss.degenerate.degenerate import DEGENERATE
from striate.doctor.checks.loss.pairs.pairs_swapped import CHECK as PAIRS_SWAPPED
from striate.doctor.checks.loss.task.wrong_for_task import WRONG_FOR_TASK
from striate.doctor.evidence.clock import NoEvidence


def stepping(loss: Any) -> dict[str, Any]:
    """A loss that stands in the step, as in a script."""
    return {"step": lambda model, batch, optimizer, _: loop(model, batch, optimizer, loss)}


def without_three(outputs: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(outputs[y != 3], y[y != 3])


WITHOUT_THREE = torch.ones(10)
WITHOUT_THREE[3] = 0


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("loss", [without_three, nn.CrossEntropyLoss(weight=WITHOUT_THREE)])
def test_a_class_without_gradient_is_named(loss: Any) -> None:
    (found,) = asked(IGNORED_CLASS, perceptron(), digits(), **stepping(loss))
    assert "targets of class 3" in found.measured
    assert "nn.CrossEntropyLoss()" in found.remedy


def two_classes() -> tuple[nn.Module, DataLoader[Any]]:
    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    model = perceptron()
    model[-1] = nn.Linear(32, 1)
    return nn.Sequential(model, nn.Flatten(0)), DataLoader(TensorDataset(x, y % 2), 32)


@pytest.mark.parametrize("signed", [False, True])
def test_a_margin_wants_labels_with_signs(signed: bool) -> None:
    def margin(outputs: Tensor, y: Tensor) -> Tensor:
        return F.relu(1 - (2 * y - 1 if signed else y) * outputs).mean()

    found = asked(IGNORED_CLASS, *two_classes(), **stepping(margin))
    assert ["2 * labels - 1" in finding.remedy for finding in found] == [True] * (not signed)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("loss", [nn.NLLLoss(), nn.CrossEntropyLoss(), nn.MultiMarginLoss()])
def test_losses_of_all_classes_are_let_pass(loss: Any) -> None:
    model = perceptron()
    if isinstance(loss, nn.NLLLoss):
        model = nn.Sequential(model, nn.LogSoftmax(1))
    assert not asked(IGNORED_CLASS, model, digits(), **stepping(loss))


def test_a_mask_beside_the_targets_is_no_class() -> None:
    x = torch.randn(256, 64, generator=torch.Generator().manual_seed(0))
    known = (x[:, 0] > 0).float()
    loader = DataLoader(TensorDataset(x, x[:, 1], known), 32)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        return loop(model, batch[:2], optimizer, lambda o, y: ((o[:, 0] - y).square() * batch[2]).mean())

    assert not asked(IGNORED_CLASS, nn.Linear(64, 1), loader, step=step)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (lambda o, y: F.cross_entropy(o[:1], y[:1]), "always the same, number 0"),
        (lambda o, y: F.cross_entropy(o, y, reduction="none").max(), "of 1 sample at most"),
        (lambda o, y: F.cross_entropy(o, y, reduction="none").topk(8).values.mean(), ""),
    ],
    ids=["the first", "the largest", "the hardest eight"],
)
def test_a_loss_of_one_sample_a_batch_is_wrong(loss: Any, said: str) -> None:
    found = asked(WRONG_FOR_TASK, perceptron(), digits(), **stepping(loss))
    assert [said in finding.measured for finding in found] == [True] * bool(said)


TARGETS = torch.eye(10)
DIVERGENCES: list[tuple[Any, str]] = [
    (lambda o, y: F.kl_div(TARGETS[y], o.log_softmax(1)), "as the target"),
    (lambda o, y: F.kl_div(o.log_softmax(1), (4 * TARGETS[y]).log_softmax(1)), "logarithms of probabilities"),
    (lambda o, y: F.kl_div(o.log_softmax(1), 4 * TARGETS[y] - 1), "where probabilities that sum to 1"),
    (lambda o, y: F.binary_cross_entropy_with_logits(TARGETS[y], o.sigmoid()), "as the target"),
    (lambda o, y: F.kl_div(o.log_softmax(1), (4 * TARGETS[y]).log_softmax(1), log_target=True), ""),
    (lambda o, y: F.kl_div((4 * TARGETS[y]).log_softmax(1), o.softmax(1)), ""),
    (lambda o, y: F.kl_div(o.log_softmax(1), TARGETS[y] * (torch.arange(len(y)) % 3 > 0)[:, None]), ""),
]


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(("loss", "said"), DIVERGENCES)
def test_outputs_and_targets_stand_in_their_places(loss: Any, said: str) -> None:
    found = asked(WRONG_FOR_TASK, perceptron(), digits(), **stepping(loss))
    assert [said in finding.measured for finding in found] == [True] * bool(said)


@pytest.mark.parametrize("shift", [0, 1])
def test_a_class_that_is_asked_for_at_the_next_output_is_named(shift: int) -> None:
    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs, F.one_hot((y + shift) % 10, 10).float())

    options = stepping(loss) | {"optimizer": lambda p: torch.optim.Adam(p, lr=1e-2)}
    found = asked(WRONG_FOR_TASK, perceptron(), digits(), **options)
    assert ["1 for class 0" in f.measured for f in found if f.severity == "error"] == [True] * shift


@pytest.mark.parametrize("moved", [0, 1])
def test_weights_that_stand_at_other_classes_are_named(moved: int) -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.repeat_interleave(torch.arange(4), torch.tensor([200, 80, 40, 16]))
    x = torch.randn(len(y), 64, generator=generator)
    loader = DataLoader(TensorDataset(x, y), 32, shuffle=True, generator=generator)
    weights = (len(y) / torch.bincount(y)).roll(moved)
    found = asked(CLASS_WEIGHTS, nn.Linear(64, 4), loader, loss=nn.CrossEntropyLoss(weight=weights))
    assert ["stand at other ones" in finding.measured for finding in found] == [True] * moved


@pytest.mark.parametrize("power", [-1.0, 1.0])
def test_weights_in_a_loss_of_ones_own_favor_rare_classes(power: float) -> None:
    y = torch.repeat_interleave(torch.arange(4), torch.tensor([200, 80, 40, 16]))
    loader = DataLoader(TensorDataset(torch.randn(len(y), 64), y), 32, shuffle=True)
    weights = torch.bincount(y).double() ** power

    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        pulls = weights[y] / weights[y].sum()
        return -(pulls * outputs.log_softmax(1).gather(1, y[:, None])[:, 0]).sum()

    found = asked(CLASS_WEIGHTS, nn.Linear(64, 4), loader, loss=loss)
    assert ["common have the larger weights" in finding.measured for finding in found] == [True] * (power > 0)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("paired", [False, True])
def test_images_that_come_again_with_other_labels_have_them_at_random(paired: bool) -> None:
    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    rows = torch.randint(100, (400,), generator=torch.Generator().manual_seed(0))
    others = rows if paired else rows.roll(1)
    found = asked(LABELS_RANDOM, perceptron(), DataLoader(TensorDataset(x[rows], y[others]), 32))
    assert ["come again" in finding.measured for finding in found] == [True] * (not paired)


class Restoring(nn.Module):
    """What it computes is added to what it was given, or not."""

    def __init__(self, adds: bool) -> None:
        super().__init__()
        self.layer, self.adds = nn.Conv2d(1, 1, 3, padding=1), adds

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layer(x)
        return x - made if self.adds else made


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("adds", "noise"), [(True, 0.0), (False, 0.0), (True, 0.3)])
def test_a_network_that_adds_its_input_is_not_asked_for_it(adds: bool, noise: float) -> None:
    x, _ = digits().dataset.tensors  # type: ignore[attr-defined]
    loader = DataLoader(TensorDataset(x + noise * torch.randn(x.shape), x.clone()), 32)
    options: dict[str, Any] = {"loss": nn.MSELoss(), "task": "regress"}
    if adds and not noise:
        (found,) = asked(TARGET_IN_INPUT, Restoring(adds), loader, **options)
        assert "`sub` with its input" in found.measured
        return
    with pytest.raises(NoEvidence):
        asked(TARGET_IN_INPUT, Restoring(adds), loader, **options)


def quantities() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(320, 16, generator=generator)
    return DataLoader(TensorDataset(x, x[:, :3].sum(1, keepdim=True)), 32, shuffle=True, generator=generator)


OF_NUMBERS: list[tuple[Any, str]] = [
    (lambda o, y: (o - y).mean(), "it asks what they are together"),
    (lambda o, y: F.mse_loss(o.mean(), y.mean()), "it asks what they are together"),
    (lambda o, y: ((o - y).abs() / y).mean(), "below zero and on"),
    (lambda o, y: (o - y).abs().mean(), ""),
]


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("loss", "said"), OF_NUMBERS)
def test_a_loss_asks_for_each_samples_own_number(loss: Any, said: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
    found = asked(DEGENERATE, model, quantities(), task="regress", **stepping(loss))
    assert [said in finding.measured for finding in found] == [True] * bool(said)


def test_labels_smoothed_away_are_wrong() -> None:
    loss = nn.CrossEntropyLoss(label_smoothing=0.95)
    (found,) = asked(WRONG_FOR_TASK, perceptron(), digits(), **stepping(loss))
    assert "asks for 0.145 of the right class and for 0.095" in found.measured


def test_views_of_one_sample_are_not_quantities() -> None:
    x = torch.randn(256, 64, generator=torch.Generator().manual_seed(0))
    views = DataLoader(TensorDataset(x, x + 0.1), 32)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        def alike(outputs: Tensor, other: Tensor) -> Tensor:
            return F.cross_entropy(outputs @ model(other).T, torch.arange(len(outputs)))

        return loop(model, batch, optimizer, alike)

    assert not asked(WRONG_FOR_TASK, nn.Linear(64, 16), views, step=step, task="regress")


class Siamese(nn.Module):
    """Embeddings of both inputs in one call."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = perceptron()

    def forward(self, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        return self.embed(one), self.embed(other)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("equal", [0, 1])
def test_pairs_that_one_call_embeds_are_seen(equal: int) -> None:
    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    order = y.argsort()
    others = torch.where(torch.arange(len(x)) % 2 == 0, order.roll(1), order.roll(len(x) // 2))
    different = (y[order] != y[others]).float()
    loader = DataLoader(TensorDataset(x[order], x[others], different), 64, shuffle=True)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        apart = F.pairwise_distance(*model(batch[0], batch[1]))
        label = 1 - batch[2] if equal else batch[2]
        loss = ((1 - label) * apart**2 + label * F.relu(1 - apart) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    found = asked(PAIRS_SWAPPED, Siamese(), loader, step=step)
    assert [finding.code for finding in found] == ["loss.pairs-swapped"] * equal


class Beside(nn.Module):
    """Embeddings (N, 3, D) of the three pictures of each row."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = perceptron()

    def forward(self, triplets: Tensor) -> Tensor:
        return self.embed(triplets.flatten(0, 1)).view(*triplets.shape[:2], -1)


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1)])
def test_triplets_beside_each_other_are_seen(order: tuple[int, ...]) -> None:
    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    by_class = y.argsort()
    loader = DataLoader(TensorDataset(torch.stack([x[by_class], x[by_class.roll(1)], x[by_class.roll(300)]], 1)), 32)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        sets = model(batch[0]).unbind(1)
        loss = F.triplet_margin_loss(*(sets[place] for place in order))
        loss.backward()
        optimizer.step()
        return loss.detach()

    found = asked(PAIRS_SWAPPED, Beside(), loader, step=step)
    assert [finding.code for finding in found] == ["loss.pairs-swapped"] * (order != (0, 1, 2))


@pytest.mark.parametrize("turned", [False, True])
def test_targets_of_quantities_belong_to_their_inputs(turned: bool) -> None:
    found = asked(
        STEP_LABELS,
        nn.Linear(16, 1),
        quantities(),
        task="regress",
        **stepping(lambda o, y: F.mse_loss(o, y.flip(0) if turned else y)),
    )
    assert [finding.code for finding in found] == ["data.step-labels"] * turned


class Positions(nn.Module):
    """Scores (N, T, K) of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.layer = nn.Embedding(20, 8), nn.GRU(8, 5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.layer(self.words(x))[0]
        return scores


OF_POSITIONS: list[tuple[Any, str]] = [
    (lambda o, y: F.cross_entropy(o.permute(0, 2, 1), y), ""),
    (lambda o, y: F.cross_entropy(o.reshape(-1, 5), y.reshape(-1)), ""),
    (lambda o, y: F.cross_entropy(o.transpose(0, 1).reshape(-1, 5), y.T.reshape(-1)), ""),
    (lambda o, y: F.cross_entropy(o.transpose(0, 1).reshape(-1, 5), y.reshape(-1)), "data.step-labels"),
    (lambda o, y: F.cross_entropy(o.reshape(-1, 5, o.shape[1]), y), "data.step-labels"),
    (lambda o, y: F.cross_entropy(o[:, 0], y[:, 0]), "loss.wrong-for-task"),
]


@pytest.mark.slow
@pytest.mark.each_nth(3)
@pytest.mark.parametrize(("loss", "code"), OF_POSITIONS)
def test_each_position_is_compared_with_its_own_target(loss: Any, code: str) -> None:
    tokens = torch.randint(20, (128, 12), generator=torch.Generator().manual_seed(0))
    lengths = torch.full((128,), 12)
    loader = DataLoader(TensorDataset(tokens, (tokens + tokens.roll(1, 1)) % 5, lengths), 16)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        return loop(model, batch[:2], optimizer, loss)

    torch.manual_seed(0)
    model = Positions()
    found = [f.code for check in (STEP_LABELS, WRONG_FOR_TASK) for f in some(check, model, loader, step)]
    assert found == [code] * bool(code)


def some(check: Any, model: nn.Module, loader: Any, step: Any) -> list[Any]:
    """What a check finds, nothing where it has nothing to look at."""
    with suppress(NoEvidence):
        return asked(check, model, loader, step=step)
    return []


class Answer(dict[str, Any]):
    """As a library's record of outputs: a dictionary whose entries are attributes as well."""

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        vars(self)[key] = value


def test_what_a_step_keeps_in_a_dictionary_of_its_own_class_is_copied() -> None:
    model, last = perceptron(), Answer()
    last["loss"] = model(torch.zeros(1, 1, 8, 8)).sum()  # of a graph: cannot be copied deeply

    def step(net: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Any:
        last["loss"] = loop(net, batch, optimizer, nn.CrossEntropyLoss())
        return last["loss"]

    before = last["loss"]
    assert not asked(WRONG_FOR_TASK, model, digits(), step=step)
    assert last["loss"] is before
