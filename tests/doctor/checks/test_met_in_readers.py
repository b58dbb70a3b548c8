"""Readers, students of several teachers, contours and sharpness: what was met in scripts, and healthy twins."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from asked import asked, digits, loop, perceptron
from test_met_in_vision_scripts import read
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from striate.doctor.checks.data.labels.labels_random import LABELS_RANDOM
from striate.doctor.checks.data.moved.targets_moved import LEFT_BEHIND
from striate.doctor.checks.data.splits.repeated_samples import LEAK
from striate.doctor.checks.eval.modes import MODE
from striate.doctor.checks.model.evaluates_untrained import CHECK as EVALUATES_UNTRAINED
from striate.doctor.evidence.clock import NoEvidence
from striate.records import Finding


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.look, self.words, self.say = nn.Linear(64, 12), nn.Embedding(12, 12), nn.Linear(12, 12)

    def forward(self, image: Tensor, tokens: Tensor) -> Tensor:
        return self.say(torch.relu(self.look(image.flatten(1)))[:, None] + self.words(tokens))


@pytest.mark.parametrize(("first", "words", "wrong"), [(0, 0, True), (100, 0, False), (0, 1, False)])
def test_images_with_their_questions_are_in_both_parts(first: int, words: int, wrong: bool) -> None:
    """All of a sample has to be the same: there may be several questions about an image."""
    images = torch.randn(160, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    questions, answers = torch.arange(160 * 4).reshape(2, 160, 2) % 12
    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def step(image: Tensor, question: Tensor, answer: Tensor) -> Tensor:
        loss = functional.cross_entropy(model(image, question).flatten(0, 1), answer.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    train = DataLoader(TensorDataset(images[first:], questions[first:], answers[first:]), 20)
    val = DataLoader(TensorDataset(images[:60], (questions[:60] + words) % 12, answers[:60]), 20)
    said: list[Finding] = []
    with suppress(NoEvidence):
        said = asked(LEAK, model, train, val=val, step=step)
    assert [one.code for one in said] == ["data.leak"] * wrong


@pytest.mark.parametrize(("students", "wrong"), [("student", False), ("teacher", True)])
def test_evaluation_is_of_several_networks(students: str, wrong: bool) -> None:
    text = f"""
    def fit(model):
        for x, y in loader:
            loss = criterion(model(x), y)
    @torch.no_grad()
    def infer(network, x):
        network.eval()
        return network(x)
    infer(teacher, test_x)
    infer({students}, test_x)
    model.train()
    for x, y in test_loader:
        with torch.no_grad():
            model(x)
    """
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    names = {
        "model": model,
        "student": model,
        "teacher": perceptron(),
        "test_loader": digits(),
        "network": perceptron(),
    }
    said = read(text, MODE, model, digits(), names=names)
    assert ["no code calls `.eval()`" in one.measured for one in said] == [True] * wrong


@pytest.mark.parametrize(("copied", "wrong"), [(True, True), (False, False)])
def test_offsets_in_a_list_are_no_copy_of_the_network(copied: bool, wrong: bool) -> None:
    """The step of a sharpness-aware optimizer keeps what it added to each weight."""
    model = perceptron()
    held = [p.detach().clone() if copied else 0.01 * torch.randn_like(p) for p in model.parameters()]

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        value = loop(model, batch, optimizer, loss)
        return value if held else value * 2

    said = asked(EVALUATES_UNTRAINED, model, digits(16), step=step, loss=nn.CrossEntropyLoss())
    assert [one.code for one in said] == ["model.evaluates-untrained"] * wrong


class Contoured(Dataset[Any]):
    """Ovals, now and then mirrored, with a contour on one side of each border; the masks of some are symmetric."""

    def __init__(self, moves: bool) -> None:
        self.moves = moves
        self.images = torch.rand(24, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        self.masks = torch.zeros(24, 16, 16).long()
        for number, mask in enumerate(self.masks):
            mask[4:9, 5 : 11 if number % 4 == 0 else 9] = 1
        self.flips = torch.Generator().manual_seed(1)

    def __len__(self) -> int:
        return 24

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        image, mask = self.images[number], self.masks[number].clone()
        if torch.rand((), generator=self.flips) < 0.5:
            image, mask = image.flip(-1), mask.flip(-1) if self.moves else mask
        edge = torch.zeros_like(mask, dtype=torch.bool)
        edge[:, 1:] = mask[:, 1:] != mask[:, :-1]
        return image, mask.masked_fill(edge, 255)


@pytest.mark.parametrize(("moves", "wrong"), [(True, False), (False, True)])
def test_contours_drawn_after_a_flip(moves: bool, wrong: bool) -> None:
    model = nn.Conv2d(1, 2, 1)
    loss = nn.CrossEntropyLoss(ignore_index=255)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    said = asked(LEFT_BEHIND, model, DataLoader(Contoured(moves), 8), loss=loss, optimizer=optimizer)
    assert [one.code for one in said] == ["data.targets-left-behind"] * wrong


@pytest.mark.parametrize("wrong", [True, False])
def test_pairs_of_images_apart_from_their_labels(wrong: bool) -> None:
    """Who is linked by pairs that are called the same is of one class."""
    x, y = next(iter(digits(640)))
    numbers = torch.Generator().manual_seed(0)
    y = y[torch.randperm(len(y), generator=numbers)] if wrong else y
    rows = {int(label): (y == label).nonzero().flatten() for label in y.unique()}

    def drawn(label: int) -> int:
        return int(rows[label][torch.randint(len(rows[label]), (), generator=numbers)])

    same = torch.arange(2 * len(x)) % 2
    others = [drawn(int(y[k // 2]) if k % 2 else (int(y[k // 2]) + 3) % 10) for k in range(len(same))]
    pairs = TensorDataset(x.repeat_interleave(2, 0), x[others], same.float())
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def step(one: Tensor, other: Tensor, alike: Tensor) -> Tensor:
        apart = (model(one) - model(other)).norm(dim=1)
        loss = (alike * apart**2 + (1 - alike) * functional.relu(1 - apart) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    said = asked(LABELS_RANDOM, model, DataLoader(pairs, 64, shuffle=True), step=step)
    assert [one.code for one in said] == ["data.labels-random"] * wrong
