"""Labels that are wrong, random, out of range, or numbered differently in validation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn, optim
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from planted.case import Case, fault
from planted.parts import LeNet, batches, digits, draw, mlp, mnist, plain, signals, small_cnn, table, wave_net


@fault("data.labels-random")
def labels_in_the_order_of_another_list(seed: int, fixed: bool = False) -> Case:
    """The labels come from a file whose rows are sorted otherwise than the images."""
    data = digits(seed)
    if not fixed:
        data.y = data.y[draw(seed).permutation(len(data.y))]
        data.y_val = data.y_val[draw(seed, 1).permutation(len(data.y_val))]
    torch.manual_seed(seed)
    model = small_cnn(1, 10)
    return Case(
        model,
        batches(data.x, data.y, 32, seed),
        plain(data.x_val, data.y_val),
        nn.CrossEntropyLoss(),
        optim.Adam(model.parameters(), lr=3e-3),
    )


@fault("data.labels-random")
def images_shuffled_without_their_labels(seed: int, fixed: bool = False) -> Case:
    """`x = x[order]`, and `y` is forgotten; validation is right."""
    data = mnist(seed)
    if not fixed:
        data.x = data.x[draw(seed).permutation(len(data.x))]
    torch.manual_seed(seed)
    model = LeNet()
    return Case(
        model,
        batches(data.x / 127.5 - 1, data.y, 50, seed),
        plain(data.x_val / 127.5 - 1, data.y_val),
        functional.cross_entropy,
        lambda parameters: optim.SGD(parameters, lr=0.05, momentum=0.9),
    )


@fault("data.labels-random")
def target_column_sorted_alone(seed: int, fixed: bool = False) -> Case:
    """A table whose last column was sorted without the others."""
    data = table("breast_cancer", seed, 400, 160)
    if not fixed:
        data.y, data.y_val = data.y.sort().values, data.y_val.sort().values
    torch.manual_seed(seed)
    return Case(
        mlp(30, 32, 2, activation=nn.Tanh),
        batches(data.x, data.y, 25, seed),
        (data.x_val, data.y_val),
        nn.CrossEntropyLoss(),
        lambda parameters: optim.AdamW(parameters, lr=3e-3),
    )


@fault("data.label-noise")
def a_third_of_the_labels_is_wrong(seed: int, fixed: bool = False) -> Case:
    data = digits(seed)
    if not fixed:
        rng = draw(seed)
        wrong = torch.from_numpy(rng.random(len(data.y)) < 1 / 3)
        data.y[wrong] = (data.y[wrong] + torch.from_numpy(rng.integers(1, 10, int(wrong.sum())))) % 10
    torch.manual_seed(seed)
    return Case(
        small_cnn(1, 10, norm=True),
        batches(data.x, data.y, 64, seed),
        plain(data.x_val, data.y_val),
        nn.CrossEntropyLoss(),
        lambda parameters: optim.Adam(parameters, lr=3e-3),
    )


class _Crowd(Dataset):
    """Predictions of several people: some of them clicked anywhere."""

    def __init__(self, x: Tensor, y: Tensor, careless: float, rng: np.random.Generator) -> None:
        self.x = x
        who = rng.random(len(y)) < careless
        self.answers = np.where(who, rng.integers(0, 10, len(y)), y.numpy())

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.x[index].float().div(255).sub(0.13).div(0.31), int(self.answers[index])


@fault("data.label-noise")
def answers_of_careless_people(seed: int, fixed: bool = False) -> Case:
    """Two of five labels were clicked at random, in validation too."""
    data = mnist(seed, train=1200)
    careless = 0.0 if fixed else 0.4
    torch.manual_seed(seed)
    model = LeNet()
    return Case(
        model,
        DataLoader(_Crowd(data.x, data.y, careless, draw(seed)), batch_size=40, shuffle=True, drop_last=True),
        DataLoader(_Crowd(data.x_val, data.y_val, careless, draw(seed, 1)), batch_size=100),
        nn.CrossEntropyLoss(),
        optim.SGD(model.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4),
    )


@fault("data.label-noise")
def diagnoses_flipped_in_a_quarter_of_the_rows(seed: int, fixed: bool = False) -> Case:
    data = table("breast_cancer", seed, 420, 140)
    if not fixed:
        for part, y in enumerate((data.y, data.y_val)):
            flipped = torch.from_numpy(draw(seed, part).random(len(y)) < 0.25)
            y[flipped] = 1 - y[flipped]
    torch.manual_seed(seed)
    model = mlp(30, 24, 1)

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        x, y = batch
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return value

    return Case(
        model,
        batches(data.x, data.y.float()[:, None], 32, seed),
        plain(data.x_val, data.y_val.float()[:, None]),
        nn.BCEWithLogitsLoss(),
        optim.Adam(model.parameters(), lr=5e-3),
        step,
    )


@fault("data.label-range")
def classes_counted_from_one(seed: int, fixed: bool = False) -> Case:
    data = digits(seed)
    offset = 0 if fixed else 1
    torch.manual_seed(seed)
    model = small_cnn(1, 10)
    return Case(
        model,
        batches(data.x, data.y + offset, 64, seed),
        plain(data.x_val, data.y_val + offset),
        nn.CrossEntropyLoss(),
        optim.Adam(model.parameters(), lr=3e-3),
    )


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = wave_net(1, 4)

    def forward(self, x: Tensor) -> Tensor:
        return functional.log_softmax(self.body(x), dim=-1)


@fault("data.label-range")
def minus_one_for_unknown(seed: int, fixed: bool = False) -> Case:
    """One signal in twelve has the label −1: nobody knew what it is."""
    x, y = signals(seed, [150] * 4)
    if not fixed:
        y[torch.from_numpy(draw(seed).random(len(y)) < 1 / 12)] = -1
    torch.manual_seed(seed)
    return Case(
        _Net(),
        batches(x[:480], y[:480], 16, seed),
        batches(x[480:], y[480:].clamp(min=0), 60, seed),
        functional.nll_loss,
        lambda parameters: optim.Adam(parameters, lr=3e-3),
    )


@fault("data.label-range", also=("loss.degenerate", "loss.wrong-for-task"))
def plus_and_minus_one_for_a_binary_cross_entropy(seed: int, fixed: bool = False) -> Case:
    """Labels as for a support vector machine: the loss has no lower bound."""
    data = table("breast_cancer", seed, 400, 160)
    y, y_val = data.y.float(), data.y_val.float()
    if not fixed:
        y, y_val = 2 * y - 1, 2 * y_val - 1
    torch.manual_seed(seed)
    model = nn.Sequential(mlp(30, 16, 1), nn.Flatten(0))
    return Case(
        model,
        batches(data.x, y, 40, seed),
        plain(data.x_val, y_val),
        nn.BCEWithLogitsLoss(),
        optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
    )


NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@fault("data.label-map")
def names_sorted_in_validation_only(seed: int, fixed: bool = False) -> Case:
    """In training the classes are numbered as listed, in validation by their sorted names."""
    data = digits(seed)
    ranks = torch.tensor([sorted(NAMES).index(name) for name in NAMES])
    torch.manual_seed(seed)
    model = small_cnn(1, 10)
    return Case(
        model,
        batches(data.x, data.y, 32, seed),
        plain(data.x_val, data.y_val if fixed else ranks[data.y_val]),
        nn.CrossEntropyLoss(),
        optim.Adam(model.parameters(), lr=3e-3),
    )


@fault("data.label-map")
def a_folder_missing_in_validation(seed: int, fixed: bool = False) -> Case:
    """No validation image of class 2, so that the folders there are numbered 0 to 8."""
    data = mnist(seed, train=1000, val=400)
    kept = data.y_val != 2
    data.x_val, data.y_val = data.x_val[kept], data.y_val[kept]
    if not fixed:
        data.y_val = torch.unique(data.y_val, return_inverse=True)[1]
    torch.manual_seed(seed)
    return Case(
        LeNet(),
        batches(data.x / 255, data.y, 50, seed),
        plain(data.x_val / 255, data.y_val),
        functional.cross_entropy,
        lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9),
    )


@fault("data.label-map")
def background_is_class_zero_in_training_only(seed: int, fixed: bool = False) -> Case:
    """Signals are numbered from 1 in training (0 is kept for noise alone), from 0 in validation."""
    x, y = signals(seed, [140, 160, 150, 150])
    quiet = torch.from_numpy(draw(seed).normal(0, 0.3, (120, 1, 64)).astype(np.float32))
    train_x, train_y = torch.cat([x[:450], quiet]), torch.cat([y[:450] + 1, torch.zeros(120, dtype=torch.long)])
    torch.manual_seed(seed)
    return Case(
        wave_net(1, 5),
        batches(train_x, train_y, 30, seed),
        plain(x[450:], y[450:] + (1 if fixed else 0)),
        nn.CrossEntropyLoss(label_smoothing=0.05),
        lambda parameters: optim.AdamW(parameters, lr=3e-3, weight_decay=0.01),
    )


@fault("data.step-labels", also=("fit.cannot-overfit-batch", "fit.underfit", "data.labels-random"))
def pictures_mixed_in_one_order_labels_in_another(seed: int, fixed: bool = False) -> Case:
    """The step blends pairs of pictures, and blends the labels of other pairs."""
    data = digits(seed)

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        x, y = batch
        order = torch.randperm(len(x))
        share = 0.9
        mixed = share * x + (1 - share) * x[order]
        one_hot = functional.one_hot(y, 10).float()
        if not fixed:
            mixed, one_hot = mixed[torch.randperm(len(x))], one_hot[torch.randperm(len(x))]
        targets = share * one_hot + (1 - share) * one_hot[order]
        optimizer.zero_grad()
        value = loss(model(mixed), targets)
        value.backward()
        optimizer.step()
        return value

    torch.manual_seed(seed)
    return Case(
        small_cnn(1, 10),
        batches(data.x, data.y, 50, seed),
        plain(data.x_val, data.y_val),
        nn.CrossEntropyLoss(),
        lambda parameters: optim.AdamW(parameters, lr=3e-3),
        step,
    )


@fault("data.step-labels", also=("fit.cannot-overfit-batch", "fit.underfit", "data.labels-random"))
def labels_by_turns_of_views_one_after_the_other(seed: int, fixed: bool = False) -> Case:
    """Two views of a batch are put together one behind the other, and the labels as pairs."""
    data = digits(seed)

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        x, y = batch
        views = torch.cat([x + 0.1 * torch.randn_like(x) for _ in range(2)])
        value = loss(model(views), y.repeat(2) if fixed else y.repeat_interleave(2))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value

    torch.manual_seed(seed)
    return Case(
        small_cnn(1, 10),
        batches(data.x, data.y, 50, seed),
        plain(data.x_val, data.y_val),
        nn.CrossEntropyLoss(),
        lambda parameters: optim.AdamW(parameters, lr=3e-3),
        step,
    )
