"""`data.label-map`: does validation number the classes as training does?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from for_checks.asked import asked, asked_in_script, parts, perceptron, quick_adam, read, said, stepped
from for_checks.networks import convolutions
from for_checks.steps import told
from striate.doctor.checks.data.labels.label_map import LABEL_MAP, ModelPredictions, regrouped


def fast(parameters: object) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=5e-3)  # type: ignore[arg-type]


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("order", [[0, 1, 5, 3, 4, 2, 6, 7, 8, 9], [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]], ids=str)
def test_validation_with_classes_in_another_order(order: list[int]) -> None:
    train, (x, y) = parts()
    (finding,) = asked(LABEL_MAP, convolutions(), train, val=(x, torch.tensor(order)[y]), optimizer=fast)
    assert f"{order[2]} → 2" in finding.measured
    assert "with renumbered classes" in finding.measured


@pytest.mark.slow
def test_classes_that_look_like_others_are_not_renumbered() -> None:
    train, (x, y) = parts()
    others = (y != 3) & (y != 7)
    looks = torch.cat([x[others], x[y == 5], x[y == 2]])
    labels = torch.cat([y[others], y[y == 5] - 2, y[y == 2] + 5])
    assert not asked(LABEL_MAP, convolutions(), train, val=(looks, labels), optimizer=fast)


@pytest.mark.slow
def test_mistakes_of_a_weak_network_are_no_other_order() -> None:
    train, val = parts()
    assert not asked(LABEL_MAP, convolutions(), train, val=val, optimizer=fast)
    upside_down = val[0].flip(2), val[1]
    assert not asked(LABEL_MAP, convolutions(), train, val=upside_down, optimizer=fast)


class Masks(Dataset[Any]):
    def __init__(self, mask_values: list[Any]) -> None:
        self.mask_values = mask_values

    def __len__(self) -> int:
        return 64

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return torch.full((1, 8, 8), float(number)), number % 3


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("other", "wrong"), [([0, 255], False), ([255, 0], True), ([0, 127, 255], False)])
def test_values_of_masks_are_numbered_once(other: list[int], wrong: bool) -> None:
    train, val = (DataLoader(Masks(part), 16) for part in ([0, 255], other))
    assert ["`mask_values`" in one.measured for one in said(LABEL_MAP, perceptron(), train, val=val)] == [True] * wrong


class Vocabulary:
    def __init__(self, words: str) -> None:
        self.index = {word: number for number, word in enumerate(words.split())}


class Named(Dataset[Any]):
    def __init__(self, words: str) -> None:
        self.vocabulary = Vocabulary(words)

    def __len__(self) -> int:
        return 64

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        return torch.randn(1, 8, 8), torch.tensor(number % 10)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("words", "same"), [("cat dog bird", True), ("cat dog bird fish", True), ("bird cat dog", False)]
)
def test_names_are_numbered_once(words: str, same: bool) -> None:
    train, val = Named("cat dog bird"), Subset(Named(words), list(range(32)))
    found = told(LABEL_MAP, perceptron(), DataLoader(Subset(train, list(range(64))), 16), val=DataLoader(val, 16))
    assert ["`dataset.vocabulary.index`" in finding.measured for finding in found] == [True] * (not same)


BUILT = """
class Drawn:
    def __init__(self, pictures, classes):
        self.y = [classes.index(name) for _, name in pictures]

train_data = Drawn(pictures, CLASSES)
val_data = Drawn(others, {given})

for x, y in loader:
    pass
"""


class Drawn(Dataset[Any]):
    """Pictures that do not keep the names of their classes."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        return torch.randn(1, 8, 8), torch.tensor(number % 10)


@pytest.mark.parametrize(
    ("given", "wrong"), [("CLASSES", False), ("sorted(COLORS)", True), ("list(COLORS)", False), ("CLASSES[:2]", False)]
)
def test_names_are_given_in_one_order(given: str, wrong: bool) -> None:
    names = {"CLASSES": ["plain", "disc", "box"], "COLORS": {"plain": 0, "disc": 1, "box": 2}}
    options: Any = {"val": DataLoader(Drawn(), 16), "names": {**names, "Drawn": Drawn}}
    found = read(BUILT.format(given=given), LABEL_MAP, perceptron(), DataLoader(Drawn(), 16), **options)
    assert ["two orders" in finding.measured for finding in found] == [True] * wrong


@pytest.mark.parametrize("case", ["same", "by two", "weak", "one for all"])
def test_classes_that_validation_puts_together_of_others(case: str) -> None:
    """Of ten digits five classes: by what is left over after five, or by halves."""
    digits = np.arange(300) % 10
    told, labels = digits % 5, digits // 2 if case == "by two" else digits % 5
    if case == "weak":
        told = np.random.default_rng(0).integers(0, 5, 300)
    elif case == "one for all":
        told = np.where(np.arange(300) % 7 > 0, 3, 1)
    finding = regrouped(ModelPredictions("the network", digits % 5, digits % 5, told, labels))
    assert (finding is not None) == (case == "by two")


RETRIEVAL = """
def recall(model, loader, known, wanted):
    z, y = embedded(model, loader)
    {scores}
    return (wanted[scores.argmax(1)] == y).float().mean()

for x, y in loader:
    pass
"""


@pytest.mark.parametrize(
    ("scores", "wrong"),
    [
        ("scores = z @ z.T\n    scores.fill_diagonal_(-2.0)", False),
        ("scores = z @ z.T\n    scores[range(len(z)), range(len(z))] = -2.0", False),
        ("scores = z @ known.T", True),
    ],
)
def test_embeddings_that_are_compared_with_each_other_may_have_other_numbers(scores: str, wrong: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(4).repeat(40)
    x = 6 * torch.eye(8)[y] + torch.randn(160, 8, generator=generator)
    train, val = (DataLoader(TensorDataset(x, (y + moved) % 4), 32) for moved in (0, 1))
    model = nn.Linear(8, 16)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> torch.Tensor:
        z = functional.normalize(model(batch[0]))
        same = batch[1][:, None] == batch[1]
        return stepped(-((5 * z @ z.T).log_softmax(1) * same).mean(), optimizer)

    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 0.01), "step": step, "val": val}
    said = read(RETRIEVAL.format(scores=scores), LABEL_MAP, model, train, **options)
    assert [one.code for one in said] == ["data.label-map"] * wrong


@pytest.mark.parametrize(("numbers", "wrong"), [([4, 5, 6, 7], False), ([1, 2, 3, 0], True)])
def test_classes_of_which_training_has_none_are_not_renumbered(numbers: list[int], wrong: bool) -> None:
    """Prototypes tell classes apart that were never trained on: a new one looks like some known one."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(4).repeat(40)
    x = 6 * torch.eye(8)[y] + torch.randn(160, 8, generator=generator)
    train = DataLoader(TensorDataset(x, y), 32)
    val = DataLoader(TensorDataset(x + 0.1, torch.tensor(numbers)[y]), 32)
    model = nn.Linear(8, 16)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        z = model(batch[0]).view(8, 4, -1)
        distances = torch.cdist(z[4:].flatten(0, 1), z[:4].mean(0))
        return stepped(functional.cross_entropy(-distances, batch[1][16:]), optimizer)

    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    found = asked_in_script(LABEL_MAP, model, train, val=val, step=step, optimizer=optimizer)
    assert [one.code for one in found] == ["data.label-map"] * wrong


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0)])
def test_scores_with_an_axis_of_length_1_are_classes(order: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    y = torch.arange(240) % 3
    x = functional.one_hot(y, 3).float() + 0.1 * torch.randn(240, 3)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        return stepped(functional.cross_entropy(model(batch[0])[:, 0], batch[1]), optimizer)

    train, val = (DataLoader(TensorDataset(x, labels), 24) for labels in (y, torch.tensor(order)[y]))
    model = nn.Sequential(nn.Linear(3, 3), nn.Unflatten(1, (1, 3)))
    found = asked(LABEL_MAP, model, train, val=val, optimizer=quick_adam, step=step)
    assert [one.code for one in found] == ["data.label-map"] * (order != (0, 1, 2))
    assert not found or "the trial's network" in found[0].measured


class Packed(nn.Module):
    """Reads token sequences with their lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.read, self.out = nn.Embedding(9, 8), nn.GRU(8, 16, batch_first=True), nn.Linear(16, 3)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(self.embed(tokens), lengths, batch_first=True, enforce_sorted=False)
        scores: Tensor = self.out(self.read(packed)[1][0])
        return scores


def test_a_network_of_sequences_and_their_lengths() -> None:
    torch.manual_seed(0)
    labels, lengths = torch.arange(300) % 3, torch.randint(3, 7, (300,))
    tokens = (2 * labels[:, None] + torch.randint(1, 3, (300, 6))) * (torch.arange(6) < lengths[:, None])

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        return stepped(functional.cross_entropy(model(batch[0], batch[1]), batch[2]), optimizer)

    train = DataLoader(TensorDataset(tokens[:200], lengths[:200], labels[:200]), 20, shuffle=True)
    for order, findings in (([0, 1, 2], 0), ([1, 2, 0], 1)):
        val = DataLoader(TensorDataset(tokens[200:], lengths[200:], torch.tensor(order)[labels[200:]]), 20)
        assert len(asked(LABEL_MAP, Packed(), train, val=val, step=step, optimizer=quick_adam)) == findings
