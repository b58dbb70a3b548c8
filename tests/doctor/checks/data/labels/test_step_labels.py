"""`data.step-labels`: does the step give the loss the labels of the inputs that the network gets?"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset, default_collate

from for_checks.asked import asked, asked_in_script, digits, loop, more_rows, perceptron, stepped
from for_checks.networks import two_layers
from for_checks.sequences import said_of_captions
from for_checks.steps import stepping, sums_of_three
from striate.doctor.checks.data.labels.step_labels import STEP_LABELS, _are_row_numbers
from striate.doctor.checks.loss.task.wrong_for_task import WRONG_FOR_TASK
from striate.doctor.evidence.clock import NoEvidence
from striate.records import Finding

Loss = Any


def rows(count: int = 320, numbers: int = 8) -> torch.Tensor:
    return torch.randn(count, numbers, generator=torch.Generator().manual_seed(0))


def classes(x: torch.Tensor) -> torch.Tensor:
    return (x[:, 0] > 0).long() + (x[:, 1] > 0).long() * 2


def normalized_layers(outputs: int) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, outputs))


def update(value: torch.Tensor, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value


def smoothed(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A cross entropy of one's own."""
    soft = torch.full_like(logits, 0.05).scatter_(1, labels[:, None], 0.85)
    return -(soft * functional.log_softmax(logits, 1)).sum(1).mean()


@pytest.mark.parametrize("other", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_second_permutation_for_the_labels_of_blends(other: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Loss) -> torch.Tensor:
        x, y = batch
        if torch.rand(()) < 0.5:
            return update(loss(model(x), y), optimizer)
        order = torch.randperm(len(x))
        logits = model(0.6 * x + 0.4 * x[order])
        order = torch.randperm(len(x)) if other else order
        return update(0.6 * loss(logits, y) + 0.4 * loss(logits, y[order]), optimizer)

    x = rows()
    loader = DataLoader(TensorDataset(x, classes(x)), 32)
    found = asked(STEP_LABELS, normalized_layers(4), loader, loss=smoothed, step=step)
    assert bool(found) == other
    assert not other or "blended" in found[0].measured


def contrasted(embedded: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Hadsell, Chopra and LeCun 2006."""
    apart = ((embedded[:, None] - embedded).square().sum(-1) + 1e-8).sqrt()
    same = labels[:, None] == labels
    return apart[same].square().mean() + functional.relu(1 - apart[~same]).square().mean()


def by_triplets(embedded: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The hardest positive and the hardest negative of each: Hermans, Beyer and Leibe 2017."""
    apart = ((embedded[:, None] - embedded).square().sum(-1) + 1e-8).sqrt()
    same = labels[:, None] == labels
    far = apart.masked_fill(~same, 0).amax(1)
    near = apart.masked_fill(same, 1e3).amin(1)
    return functional.relu(far - near + 0.3).mean()


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("loss", [contrasted, by_triplets])
def test_labels_of_two_views_in_another_order(loss: Loss, interleaved: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Loss) -> torch.Tensor:
        x, y = batch
        views = torch.cat([x + 0.05 * torch.randn_like(x), x + 0.05 * torch.randn_like(x)])
        labels = y.repeat_interleave(2) if interleaved else torch.cat([y, y])
        return update(loss(functional.normalize(model(views), dim=1), labels), optimizer)

    x = rows()
    loader = DataLoader(TensorDataset(x, classes(x)), 32)
    assert bool(asked(STEP_LABELS, normalized_layers(8), loader, loss=loss, step=step)) == interleaved


@pytest.mark.parametrize("shuffled", [False, True])
def test_quantities_of_other_samples(shuffled: bool) -> None:
    generator = torch.Generator().manual_seed(3)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Loss) -> torch.Tensor:
        x, y = batch
        order = torch.randperm(len(x), generator=generator)
        return update(loss(model(x[order])[:, 0], y if shuffled else y[order]), optimizer)

    x = rows()
    loader = DataLoader(TensorDataset(x, x[:, 0] - x[:, 1]), 32)
    found = asked(STEP_LABELS, normalized_layers(1), loader, loss=nn.HuberLoss(), step=step, task="regress")
    assert bool(found) == shuffled


@pytest.mark.parametrize("labels_too", [False, True])
def test_batches_that_are_rolled_in_some_steps(labels_too: bool) -> None:
    """Not in the first one that is looked at."""

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Loss) -> torch.Tensor:
        by = int(torch.rand(()) < 0.4)
        x, y = batch[0].roll((by, by), (0, 1)), batch[1].roll(by if labels_too else 0)
        return update(loss(model(x), y), optimizer)

    x = rows()
    loader = DataLoader(TensorDataset(x, classes(x)), 32)
    assert bool(asked(STEP_LABELS, normalized_layers(4), loader, loss=smoothed, step=step)) is not labels_too


def of_the_worst(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits, labels, reduction="none").topk(len(labels) // 4).values.mean()


def weighted(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """By how rare classes are in the batch."""
    return functional.cross_entropy(logits, labels, weight=1 / labels.bincount(minlength=4).clamp_min(1).float())


def of_pairs(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Each with the one behind it."""
    same = (labels == labels.roll(1)).float()
    return functional.binary_cross_entropy_with_logits(-(logits - logits.roll(1, 0)).square().sum(1), same)


@pytest.mark.parametrize("loss", [of_the_worst, weighted, of_pairs])
def test_losses_that_look_at_several_samples_at_once(loss: Loss) -> None:
    x = rows()
    loader = DataLoader(TensorDataset(x, classes(x)), 32)
    assert not asked(STEP_LABELS, normalized_layers(4), loader, loss=loss, step=loop)


@pytest.mark.parametrize("turned", [False, True])
def test_targets_of_quantities_belong_to_their_inputs(turned: bool) -> None:
    found = asked(
        STEP_LABELS,
        nn.Linear(16, 1),
        sums_of_three(),
        task="regress",
        **stepping(lambda o, y: functional.mse_loss(o, y.flip(0) if turned else y)),
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
    (lambda o, y: functional.cross_entropy(o.permute(0, 2, 1), y), ""),
    (lambda o, y: functional.cross_entropy(o.reshape(-1, 5), y.reshape(-1)), ""),
    (lambda o, y: functional.cross_entropy(o.transpose(0, 1).reshape(-1, 5), y.T.reshape(-1)), ""),
    (lambda o, y: functional.cross_entropy(o.transpose(0, 1).reshape(-1, 5), y.reshape(-1)), "data.step-labels"),
    (lambda o, y: functional.cross_entropy(o.reshape(-1, 5, o.shape[1]), y), "data.step-labels"),
    (lambda o, y: functional.cross_entropy(o[:, 0], y[:, 0]), "loss.wrong-for-task"),
]


def some(check: Any, model: nn.Module, loader: Any, step: Any) -> list[Any]:
    """What a check finds, nothing where it has nothing to look at."""
    with suppress(NoEvidence):
        return asked(check, model, loader, step=step)
    return []


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


@pytest.mark.parametrize("other", [True, False])
def test_signals_that_are_masked_and_blended(other: bool) -> None:
    torch.manual_seed(0)
    y, model = torch.arange(256) % 4, nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    x = torch.randn(256, 1, 64)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, y = batch[0].clone(), batch[1]
        x[:, :, 20:26] = 0
        partner = torch.randperm(len(y))
        out, second = model(0.3 * x + 0.7 * x[partner]), y[torch.randperm(len(y)) if other else partner]
        loss = 0.3 * functional.cross_entropy(out, y) + 0.7 * functional.cross_entropy(out, second)
        return stepped(loss, optimizer)

    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step}
    said = asked_in_script(STEP_LABELS, model, DataLoader(TensorDataset(x, y), 32, shuffle=True), **options)
    assert [one.code for one in said] == ["data.step-labels"] * other


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


def told(model: nn.Module, step: Any) -> list[Finding]:
    found: list[Finding] = []
    with suppress(NoEvidence):
        found = asked(STEP_LABELS, model, shuffled(), step=step)
    return found


def shuffled() -> DataLoader[Any]:
    return DataLoader(digits().dataset, 32, shuffle=True, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("blended", [False, True])
def test_labels_as_shares_are_blended_with_their_inputs(blended: bool, smoothing: float) -> None:
    def shares(y: Tensor) -> Tensor:
        return (1 - smoothing) * functional.one_hot(y, 10) + smoothing / 10

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, y = batch
        part = 0.8 if float(torch.rand(())) > 0.5 else 0.2
        target = part * shares(y) + (1 - part) * shares(y.flip(0) if blended else y)
        outputs = model(part * x + (1 - part) * x.flip(0))
        return stepped((-target * functional.log_softmax(outputs, -1)).sum(-1).mean(), optimizer)

    found = told(perceptron(), step)
    assert ["only gets the original labels" in one.measured for one in found] == [True] * (not blended)


def blending_losses(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> torch.Tensor:
    x, y = batch
    index, share = torch.randperm(len(x)), 0.8
    logits = model(share * x + (1 - share) * x[index])
    value = share * functional.cross_entropy(logits, y) + (1 - share) * functional.cross_entropy(logits, y[index])
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value


def test_labels_of_batches_of_one_class_are_in_no_other_order() -> None:
    x = more_rows(640)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long() * 2
    order = y.argsort()
    with pytest.raises(NoEvidence, match="all inputs or targets"):
        asked(STEP_LABELS, two_layers(8, 4), DataLoader(TensorDataset(x[order], y[order]), 64), step=blending_losses)


@pytest.mark.parametrize("order", ["clouds", "points", "both", "back"])
def test_clouds_that_are_shuffled_for_their_points(order: str) -> None:
    """Known again though each is turned, brought into another shape, and like no cloud of the batch."""
    x, y = torch.randn(96, 12, 3), torch.arange(96) % 3
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        clouds, labels = batch
        index = torch.as_tensor(np.random.permutation(clouds.shape[order == "points"]))
        clouds = clouds[:, index] if order == "points" else clouds[index]
        labels = labels[index] if order == "both" else labels
        turns = torch.linalg.qr(torch.as_tensor(np.random.randn(len(clouds), 3, 3)).float())[0]
        outputs = model((clouds @ turns).transpose(1, 2))
        outputs = outputs[index.argsort()] if order == "back" else outputs
        return stepped(functional.cross_entropy(outputs, labels), optimizer)

    options: Any = {"optimizer": torch.optim.SGD(model.parameters(), 0.01), "step": step}
    said = asked_in_script(STEP_LABELS, model, DataLoader(TensorDataset(x, y), 32), **options)
    assert [one.code for one in said] == ["data.step-labels"] * (order == "clouds")


def test_samples_and_labels_in_one_order_that_numpy_draws() -> None:
    model = perceptron()

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        index = np.random.permutation(len(batch[0]))
        return stepped(functional.cross_entropy(model(batch[0][index]), batch[1][index]), optimizer)

    options: Any = {"optimizer": torch.optim.SGD(model.parameters(), 0.01), "step": step}
    train = DataLoader(TensorDataset(torch.randn(96, 1, 8, 8), torch.arange(96) % 10), 32)
    assert not asked_in_script(STEP_LABELS, model, train, **options)


@pytest.mark.parametrize("order", ["captions", "both", "half"])
def test_captions_that_are_sorted_without_their_images(order: str) -> None:
    """But not where half of the pairs are right: the others may be there to be told apart."""
    assert said_of_captions(STEP_LABELS, order) == ["data.step-labels"] * (order == "captions")


@pytest.mark.parametrize("apart", [True, False])
def test_labels_of_other_partners_in_a_collate_function(apart: bool) -> None:
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(480, 1, 8, 8), torch.arange(480) % 10)

    def collate(samples: list[Any]) -> tuple[Tensor, Tensor]:
        x, y = default_collate(samples)
        shares, share = functional.one_hot(y, 10).float(), float(torch.rand(()) * 0.4 + 0.55)
        others = shares.flip(0) if apart else shares.roll(1, 0)
        return share * x + (1 - share) * x.roll(1, 0), share * shares + (1 - share) * others

    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    options: Any = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.Adam(model.parameters(), 1e-3)}
    said = asked_in_script(STEP_LABELS, model, DataLoader(data, 32, shuffle=True, collate_fn=collate), **options)
    assert [one.where for one in said] == ["the collate function"] * apart


@pytest.mark.parametrize(
    ("numbers", "wrong"), [(torch.tensor([0, 1, 2, 3]), False), (torch.tensor([1, 1, 2, 3]), True)]
)
def test_the_numbers_of_rows_are_no_labels(numbers: Tensor, wrong: bool) -> None:
    assert _are_row_numbers(numbers) is not wrong


def blending(exchanged: bool, soft: bool | str, cut: bool, apart: bool = False) -> Any:
    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, y = batch
        lam, index = float(torch.rand(()) * 0.4 + 0.55), torch.randperm(len(x))
        if cut:
            width = round(lam * x.shape[-1])
            blended = torch.cat([x[..., :width], x[index][..., width:]], -1)
            lam = width / x.shape[-1]
        else:
            blended = lam * x + (1 - lam) * x[index]
        index = torch.randperm(len(x)) if apart else index
        share = 1 - lam if exchanged else lam
        outputs = model(blended)
        if soft:
            one, other = (functional.one_hot(t, 10).float() for t in (y, y[index]))
            shares = share * one + (1 - share) * other
            own = (-shares * functional.log_softmax(outputs, -1)).sum(-1).mean()
            loss = own if soft == "own" else functional.cross_entropy(outputs, shares)
        else:
            loss = share * functional.cross_entropy(outputs, y) + (1 - share) * functional.cross_entropy(
                outputs, y[index]
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(("soft", "cut"), [(False, False), (True, False), ("own", False), (False, True)])
@pytest.mark.parametrize("exchanged", [False, True])
def test_shares_of_blended_samples_are_those_of_their_labels(exchanged: bool, soft: bool | str, cut: bool) -> None:
    found = told(perceptron(), blending(exchanged, soft, cut))
    assert ["count" in finding.measured for finding in found] == [True] * exchanged


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("soft", [False, True, "own"])
@pytest.mark.parametrize("apart", [False, True])
def test_the_second_label_is_that_of_the_partner(apart: bool, soft: bool | str) -> None:
    found = told(perceptron(), blending(False, soft, False, apart))
    assert ["as the second label" in finding.measured for finding in found] == [True] * apart


def test_shares_of_the_captions_in_a_batch_are_none_of_classes() -> None:
    """As of images and words that belong together: a row for each image, a column for each caption."""

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        scores = model(batch[0]) @ torch.randn(10, len(batch[1]))
        same = (batch[1][:, None] == batch[1][None]).float().fill_diagonal_(1).roll(7, 1)
        loss = functional.cross_entropy(scores, same / same.sum(1, keepdim=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    assert not told(perceptron(), step)


def of_an_earlier_cell(y: Tensor | None) -> Any:
    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        loss = functional.cross_entropy(model(batch[0]), batch[1] if y is None else y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


@pytest.mark.parametrize("stale", [False, True])
def test_labels_of_an_earlier_batch_are_named(stale: bool) -> None:
    earlier = next(iter(shuffled()))[1] if stale else None
    found = told(perceptron(), of_an_earlier_cell(earlier))
    assert ["same 32 labels" in finding.measured for finding in found] == [True] * stale


def test_targets_that_number_the_samples_of_a_batch_are_let_pass() -> None:
    """As of contrastive losses: the k-th is the partner of the k-th."""
    assert not told(nn.Sequential(perceptron(), nn.Linear(10, 32)), of_an_earlier_cell(torch.arange(32)))


@pytest.mark.parametrize("cut", [False, True])
def test_one_number_is_no_target_of_all_samples(cut: bool) -> None:
    x = rows()
    y = torch.sigmoid(x[:, :1])

    def step(net: nn.Module, batch: Any, optimizer: Any, _: object) -> Tensor:
        target = batch[1].long().float() if cut else batch[1]
        return update(functional.mse_loss(net(batch[0]), target), optimizer)

    found = asked(STEP_LABELS, normalized_layers(1), DataLoader(TensorDataset(x, y), 32), step=step)
    assert [one.code for one in found] == ["data.step-labels"] * cut


@pytest.mark.parametrize("right", [True, False])
def test_as_many_positions_as_classes(right: bool) -> None:
    x = rows(320, 6 * 6)
    y = x.reshape(-1, 6, 6).argmax(2)

    def step(net: nn.Module, batch: Any, optimizer: Any, _: object) -> Tensor:
        out = net(batch[0]).reshape(-1, 6, 6)
        targets = batch[1] if right else batch[1].T
        return update(functional.cross_entropy(out.flatten(0, 1), targets.flatten()), optimizer)

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(36, 64), nn.ReLU(), nn.Linear(64, 36), nn.Unflatten(1, (6, 6)))
    found = asked(STEP_LABELS, net, DataLoader(TensorDataset(x, y), 32), step=step)
    assert [one.code for one in found] == ["data.step-labels"] * (not right)
