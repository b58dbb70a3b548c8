"""Galleries of a search, folds, teachers and buffers: faults that were met in scripts, and their healthy twins."""

from __future__ import annotations

import textwrap
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from asked import asked, digits, perceptron
from test_met_in_plates_and_buffers import frame_of
from test_met_in_vision_scripts import read
from test_source_checks import SCRIPT, values
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from striate.doctor.checks.data.labels.class_balance import MISSING_CLASS
from striate.doctor.checks.data.labels.labels_random import LABELS_RANDOM
from striate.doctor.checks.data.moved.targets_moved import LEFT_BEHIND
from striate.doctor.checks.data.splits.folds import SHARED_NETWORK
from striate.doctor.checks.eval.metric_functions import untrue_metrics
from striate.doctor.checks.eval.modes import MODE as EVALUATION_MODE
from striate.doctor.checks.eval.predicted import THRESHOLD
from striate.doctor.checks.loss.degenerate.degenerate import DEGENERATE
from striate.doctor.checks.model.evaluates_untrained import CHECK as EVALUATES_UNTRAINED
from striate.doctor.checks.optim.low_precision import LOW_PRECISION
from striate.doctor.checks.reward.recorded import recorded
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.script.library_loop import _validation_loader
from striate.doctor.script.training_loop import TrainingLoop
from striate.doctor.script.validation_data import find_validation


def test_a_column_of_rewards_is_read() -> None:
    """Whose rows are arrays of one number."""
    rows = np.random.default_rng(0).normal(size=(61, 4)).astype(np.float32)
    buffer = SimpleNamespace(
        observations=rows[:-1], next_observations=rows[1:], rewards=np.ones((60, 1)), dones=np.zeros((60, 1))
    )
    read_there = recorded({"rb": buffer})
    assert read_there is not None
    assert read_there[1].rewards.shape == (60,)


class Labeled(Dataset[Any]):
    def __init__(self, images: Tensor) -> None:
        self.images, self.labels = images, torch.arange(len(images)) % 3

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        return self.images[number], self.labels[number]


def test_a_gallery_is_no_validation() -> None:
    images = torch.randn(24, 1, 8, 8)
    train, gallery, queries = (DataLoader(Labeled(part)) for part in (images, images.clone(), images + 1))
    assert _validation_loader([gallery, queries], train) is queries
    assert _validation_loader([queries, gallery], train) is queries
    assert _validation_loader([gallery], train) is gallery
    assert _validation_loader(gallery, train) is gallery


@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_a_data_set_without_a_loader_is_validation(shift: float, tmp_path: Path) -> None:
    """Where its inputs are like those of training: else something scales them first."""
    file = tmp_path / "script.py"
    file.write_text("pass\n")
    x, y = torch.randn(64, 4), torch.arange(64) % 3
    names = {"val_ds": TensorDataset(x + shift, y), "train_ds": TensorDataset(x, y)}
    frame = frame_of(str(file), **names)
    batches = DataLoader(names["train_ds"], 16)
    val = find_validation(TrainingLoop(print, batches, "here", {}), [frame], x[:16], y[:16])
    assert (val is not None and val.dataset is names["val_ds"]) is (shift == 0)


def test_a_teacher_asked_in_order_is_no_validation(tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text("logits = predict(teacher, ordered)\n")
    x, y = torch.randn(64, 4), torch.randn(64, 3)
    train, taught = TensorDataset(x, torch.arange(64) % 3), TensorDataset(x, y)
    names = {"train_ds": train, "ordered": DataLoader(train, 16), "predict": _predict}
    frame = frame_of(str(file), **names)
    val = find_validation(TrainingLoop(print, DataLoader(taught, 16), "here", {}), [frame], x[:16], y[:16])
    assert val is not names["ordered"]


@torch.no_grad()
def _predict(net: nn.Module, loader: Any) -> Tensor:
    return torch.cat([net(x) for x, _ in loader])


@pytest.mark.parametrize(("inside", "wrong"), [("", True), ("model = make()", False)])
def test_folds_may_be_counted(inside: str, wrong: bool) -> None:
    text = f"""
    for n in range(CFG.n_folds):
        {inside}
        run(model, n)
    for x, y in loader:
        pass
    """
    model = perceptron()
    said = read(text, SHARED_NETWORK, model, digits(), names={"model": model})
    assert [one.code for one in said] == ["data.leak"] * wrong


@pytest.mark.parametrize(("by", "most", "wrong"), [("softmax", 2, True), ("softmax", 1, False), ("sigmoid", 2, False)])
def test_labels_that_are_there_at_once_are_no_rivals(by: str, most: int, wrong: bool) -> None:
    text = SCRIPT + textwrap.dedent(f"""
        @torch.no_grad()
        def infer(loader):
            for x, y in loader:
                yield torch.{by}(model(x), {"dim=1" if by == "softmax" else ""})
        for x, y in loader:
            pass
        """)
    labels = torch.zeros(60, 5)
    labels[torch.arange(60), torch.arange(60) % 5] = 1
    labels[torch.arange(60), (torch.arange(60) + 1) % 5] = float(most > 1)
    names = values() | {"criterion": nn.BCEWithLogitsLoss()}
    model, data = nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), TensorDataset(torch.randn(60, 1, 8, 8), labels)
    options = {"names": names | {"model": model}, "loss": nn.BCEWithLogitsLoss(), "task": "multilabel"}
    said = read(text, THRESHOLD, model, DataLoader(data, 20), **options)
    assert ["shares 1 among 5 labels" in one.measured for one in said] == [True] * wrong


def test_neighbors_are_no_predictions() -> None:
    text = SCRIPT + textwrap.dedent("""
        def knn_accuracy(features, labels):
            near = (features @ features.T).fill_diagonal_(-2).argmax(1)
            return (labels[near] == labels).float().mean().item()
        """)
    names = values()
    exec(text[text.index("def knn_accuracy") :], names)
    model = perceptron()
    assert not read(text, SimpleNamespace(run=untrue_metrics), model, digits(), names=names)


class Embedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 16)

    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(self.layer(x.flatten(1)), dim=1)


def triplets(outputs: Tensor, labels: Tensor) -> Tensor:
    """The mean over those that still violate the margin."""
    apart = 2 - 2 * outputs @ outputs.T
    same = labels[:, None] == labels
    hinge = functional.relu(apart[:, :, None] - apart[:, None, :] + 0.4)[same[:, :, None] & ~same[:, None, :]]
    return hinge.sum() / (hinge > 0).sum().clamp(min=1)


def test_classes_in_blocks_are_moved_by_chance() -> None:
    """Moved on by a block they only change names, which no triplet notices."""
    torch.manual_seed(0)
    batches = [(torch.randn(24, 1, 8, 8) + torch.arange(24).div(8)[:, None, None, None] // 1, torch.arange(24) // 8)]
    model = Embedding()
    options: Any = {"loss": triplets, "optimizer": torch.optim.Adam(model.parameters(), 1e-3)}
    assert not asked(DEGENERATE, model, batches * 12, **options)


def test_numbers_of_an_embedding_are_no_classes() -> None:
    model = Embedding()
    options: Any = {"loss": triplets, "optimizer": torch.optim.Adam(model.parameters(), 1e-3)}
    assert not asked(MISSING_CLASS, model, digits(), **options)


class Spot(Dataset[Any]):
    """A bright column, where it is, and how bright all is: the place stays when the picture is mirrored."""

    def __init__(self, first: int, flips: bool, moved: bool) -> None:
        self.first, self.flips, self.moved = first, flips, moved

    def __len__(self) -> int:
        return 120

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        drawn = torch.Generator().manual_seed(self.first + number)
        place = int(torch.randint(0, 15, (), generator=drawn))
        image = 0.1 * torch.randn(1, 8, 16, generator=drawn)
        image[:, :, place : place + 2] += 1
        size, across = image.sum(), (place - 7) / 7
        if self.flips and torch.rand(()) < 0.5:
            image, across = image.flip(-1), -across if self.moved else across
        return image, torch.tensor([across]), size


@pytest.mark.parametrize("moved", [False, True])
def test_one_of_several_targets_stays(moved: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(128, 2))

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        image, across, size = batch
        loss = functional.mse_loss(model(image), torch.cat([across, size[:, None]], 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    train, val = (DataLoader(Spot(first, not first, moved), 24, shuffle=not first) for first in (0, 1000))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    said = asked(LEFT_BEHIND, model, train, val=val, optimizer=optimizer, step=step, task="regress")
    assert ["ridge regression" in one.measured for one in said] == [True] * (not moved)


@pytest.mark.parametrize(("update", "wrong"), [("pass", True), ("ema.load_state_dict(model.state_dict())", False)])
def test_an_average_may_get_its_own_best_state_again(update: str, wrong: bool) -> None:
    text = f"""
    def fit(model, loader, ema):
        best = None
        for epoch in range(5):
            for x, y in loader:
                train(x, y)
            {update}
            score, best = evaluate(ema, val_loader), copy.deepcopy(ema.state_dict())
        ema.load_state_dict(best)
        return ema
    def evaluate(network, batches):
        return sum(network(x).sum() for x, y in batches)
    ema = perceptron()
    fit(model, loader, ema)
    """
    model, ema = perceptron(), perceptron()
    names = {"model": model, "ema": ema, "val_loader": digits()}
    options = {"names": names, "loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD(model.parameters(), 0.1)}
    said = read(text, EVALUATES_UNTRAINED, model, digits(), **options)
    assert [one.code for one in said] == ["model.evaluates-untrained"] * wrong


@pytest.mark.parametrize("apart", [True, False])
def test_labels_by_which_triplets_are_chosen(apart: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    images = 0.1 * torch.randn(300, 1, 8, 8, generator=generator)
    images[torch.arange(300), 0, labels] += 1

    class Triplets(Dataset[Any]):
        def __init__(self) -> None:
            self.images = images
            self.labels = (labels[torch.randperm(300, generator=generator)] if apart else labels).tolist()

        def __len__(self) -> int:
            return 300

        def __getitem__(self, number: int) -> Any:
            same = [at for at in range(300) if self.labels[at] == self.labels[number]]
            return self.images[number], self.images[same[number % len(same)]], self.images[(number + 1) % 300]

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        loss = functional.triplet_margin_loss(*(model(part) for part in batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    model = Embedding()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    said = list[Any]()
    with suppress(NoEvidence):
        said = asked(LABELS_RANDOM, model, DataLoader(Triplets(), 30), optimizer=optimizer, step=step)
    assert ["chooses what goes together" in one.measured for one in said] == [True] * apart


class Halved(nn.Module):
    """A network that makes its inputs half itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10, dtype=torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1).to(torch.bfloat16)).float()


def test_weights_that_cannot_be_widened() -> None:
    model = Halved()
    options: Any = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.AdamW(model.parameters(), 1e-4)}
    (said,) = asked(LOW_PRECISION, model, digits(), **options)
    assert "NaN" not in said.measured


@pytest.mark.parametrize("of_teacher", [True, False])
def test_the_mode_of_a_teacher_is_its_own(of_teacher: bool) -> None:
    text = f"""
    {"teacher" if of_teacher else "model"}.eval()
    @torch.no_grad()
    def evaluate(net, val_loader):
        for x, y in val_loader:
            net(x).argmax(1)
    for epoch in range(5):
        model.train()
        for x, y in loader:
            train(x, y)
        evaluate(model, val_loader)
    """
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    names = {"model": model, "teacher": perceptron(), "val_loader": digits()}
    said = read(text, EVALUATION_MODE, model, digits(), names=names)
    assert ["no code calls `.eval()`" in one.measured for one in said] == [True] * of_teacher
