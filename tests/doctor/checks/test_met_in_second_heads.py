"""Second outputs, numbers of samples that are asked for, gradings and mazes: faults that were met in scripts, and their
healthy twins."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from asked import asked, digits, perceptron
from test_met_in_galleries import Embedding, triplets
from test_met_in_vision_scripts import read
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.labels.labels_random import LABELS_RANDOM
from striate.doctor.checks.data.moved.targets_moved import LEFT_BEHIND
from striate.doctor.checks.data.shift.shift import SHIFT
from striate.doctor.checks.data.targets.target_scale import TARGET_SCALE
from striate.doctor.checks.eval.batch_means import BATCH_MEANS
from striate.doctor.checks.eval.best import WORST_KEPT
from striate.doctor.checks.eval.modes import MODE
from striate.doctor.checks.eval.predicted import THRESHOLD
from striate.doctor.checks.eval.wrong_count import WRONG_COUNT
from striate.doctor.checks.model.evaluates_untrained import CHECK as EVALUATES_UNTRAINED
from striate.doctor.checks.reward.bootstrap import TARGET_STALE, TERMINAL_LOST
from striate.doctor.evidence.answering import predicts_targets
from striate.doctor.script.training_loop import find_loop


class TwoHeads(nn.Module):
    def __init__(self, first: int = 2, second: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU())
        self.first, self.second = nn.Linear(32, first), nn.Linear(32, second)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.body(x)
        return self.first(hidden), self.second(hidden).squeeze(1)


def stepped(model: Any, loss: Tensor, optimizer: Any) -> Tensor:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


@pytest.mark.parametrize(("size", "scale", "wrong"), [(2000.0, 1.0, True), (2000.0, 500.0, False), (1.0, 1.0, False)])
def test_a_large_target_drowns_the_one_beside_it(size: float, scale: float, wrong: bool) -> None:
    """But not where the step scales it."""
    torch.manual_seed(0)
    x = torch.randn(256, 1, 8, 8)
    place, area = x[:, 0, 0, :2].tanh(), size * (1 + 0.5 * x[:, 0, 4, 4].tanh())

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        image, place, area = batch
        found, large = model(image)
        loss = functional.mse_loss(found, place) + functional.mse_loss(large, area / scale)
        return stepped(model, loss, optimizer)

    model = TwoHeads()
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 2e-3), "step": step}
    said = asked_or_silent(TARGET_SCALE, model, DataLoader(TensorDataset(x, place, area), 32), **options)
    assert [one.code for one in said] == ["data.target-scale"] * wrong


def asked_or_silent(check: Any, model: nn.Module, train: Any, **options: Any) -> list[Any]:
    return read("for x, y in loader:\n    pass\n", check, model, train, **options)


@pytest.mark.parametrize("moved", [False, True])
def test_boxes_beside_classes_stay_where_the_step_mirrors(moved: bool) -> None:
    torch.manual_seed(0)
    places = torch.randint(0, 7, (240,))
    x = 0.1 * torch.randn(240, 1, 8, 8)
    x[torch.arange(240), 0, :, places] += 1
    across, kinds = (places.float() / 7)[:, None], torch.arange(240) % 3

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        image, kinds, across = batch
        chosen = torch.rand(len(image)) < 0.5
        image = torch.where(chosen[:, None, None, None], image.flip(-1), image)
        across = torch.where(chosen[:, None], 1 - across, across) if moved else across
        logits, found = model(image)
        loss = functional.cross_entropy(logits, kinds) + functional.mse_loss(found[:, None], across)
        return stepped(model, loss, optimizer)

    model, parts = TwoHeads(3), (x, kinds, across)
    train, val = (
        DataLoader(TensorDataset(*(part[rows] for part in parts)), 20) for rows in (slice(160), slice(160, 240))
    )
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    said = asked_or_silent(LEFT_BEHIND, model, train, val=val, optimizer=optimizer, step=step)
    assert ["that some of 6 steps mirror" in one.measured for one in said] == [True] * (not moved)


def test_points_are_no_targets_of_logits_beside_them() -> None:
    """Though there are as many of both."""
    said: list[bool] = []
    x, points, kinds = torch.randn(64, 1, 8, 8), torch.rand(64, 3), torch.arange(64) % 3

    class Heads(TwoHeads):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            hidden = self.body(x)
            return self.first(hidden), self.second(hidden)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        image, kinds, points = batch
        logits, found = model(image)
        return stepped(model, functional.cross_entropy(logits, kinds) + functional.mse_loss(found, points), optimizer)

    def run(evidence: Any) -> Iterator[Any]:
        said.append(predicts_targets(evidence))
        yield from ()

    model = Heads(3, 3)
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step}
    asked(SimpleNamespace(run=run), model, DataLoader(TensorDataset(x, kinds, points), 16), **options)
    assert said == [False]


@pytest.mark.parametrize("apart", [True, False])
def test_labels_of_which_a_sample_has_several_and_none_belongs(apart: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    y = (torch.rand(400, 4, generator=generator) < 0.4).float()
    x = 0.2 * torch.randn(400, 1, 8, 8, generator=generator)
    x[:, 0, 0, :4] += y
    y = y[torch.randperm(400, generator=generator)] if apart else y
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    options: Any = {"loss": nn.BCEWithLogitsLoss(), "optimizer": torch.optim.Adam(model.parameters(), 1e-2)}
    said = asked_or_silent(LABELS_RANDOM, model, DataLoader(TensorDataset(x, y), 40), **options)
    assert [one.code for one in said] == ["data.labels-random"] * apart


@pytest.mark.parametrize("as_is", [True, False])
def test_queries_of_an_embedding_are_prepared_otherwise(as_is: bool) -> None:
    torch.manual_seed(0)
    patterns, labels = torch.rand(6, 1, 8, 8), torch.arange(360) % 6
    x = (patterns[labels] + 0.15 * torch.randn(360, 1, 8, 8)).clamp(0, 1)
    scaled = (x - 0.5) / 0.1 + 12
    model = Embedding()
    train = DataLoader(TensorDataset(scaled[:240], labels[:240]), 24)
    val = DataLoader(TensorDataset((x if as_is else scaled)[240:], labels[240:]), 40)
    options: Any = {"loss": triplets, "optimizer": torch.optim.Adam(model.parameters(), 1e-3), "val": val}
    said = asked_or_silent(SHIFT, model, train, **options)
    assert [one.code for one in said] == ["data.shift"] * as_is


def test_numbers_of_samples_may_be_asked_for(tmp_path: Path) -> None:
    """By `index = next(batches)`: the batches are what the loop takes with them."""
    file = tmp_path / "script.py"
    file.write_text(
        "def run(model, data, batches):\n"
        "    for step in range(9):\n"
        "        index = next(batches)\n"
        "        loss = model(data[0][index]).logsumexp(1).mean() + data[1][index].sum()\n"
        "        found.append(inspect.currentframe())\n"
        "        return\n"
    )
    x, labels = torch.randn(60, 1, 8, 8), torch.arange(60) % 10
    found: list[Any] = []
    names: dict[str, Any] = {"__name__": "__main__", "found": found, "inspect": inspect}
    exec(compile(file.read_text(), str(file), "exec"), names)
    names["run"](perceptron(), (x, labels), iter(Numbers()))
    (frame,) = found
    loop = find_loop([frame])
    assert loop is not None
    shown, wanted = next(iter(loop.batches))
    assert shown.shape == (12, 1, 8, 8)
    assert wanted.shape == (12,)


class Numbers:
    def __iter__(self) -> Iterator[Tensor]:
        return (torch.randperm(60)[:12] for _ in itertools.count())


@pytest.mark.parametrize(("put", "wrong"), [("torch.sigmoid(out)", True), ("out", False)])
def test_what_a_function_gives_beside_labels_is_a_probability(put: str, wrong: bool) -> None:
    text = f"""
    def predict(batches):
        outs, ys = [], []
        for x, y in batches:
            outs.append(torch.sigmoid(model(x)))
            ys.append(y)
        return torch.cat(outs), torch.cat(ys)
    def scores(batches):
        out, y = predict(batches)
        return ({put} > 0.5).float()
    for x, y in loader:
        pass
    scores(val_loader)
    """
    model = perceptron()
    said = read(text, THRESHOLD, model, digits(), names={"model": model, "val_loader": digits()})
    assert ["are probabilities already" in one.measured for one in said] == [True] * wrong


@pytest.mark.parametrize(("below", "wrong"), [("(len(batches) * 64)", True), ("len(batches.dataset)", False)])
def test_rows_that_are_right_in_all_places(below: str, wrong: bool) -> None:
    """In batches that Accelerate has prepared, whose sampler alone knows their size."""
    text = f"""
    def evaluate(batches):
        hits = 0
        for x, y in batches:
            right = (model(x) == y) | (y == 0)
            hits += right.all(dim=1).sum().item()
        return hits / {below}
    for x, y in loader:
        pass
    evaluate(val_loader)
    """
    data = TensorDataset(torch.randn(100, 1, 8, 8), torch.zeros(100, 3))
    by_rows = torch.utils.data.BatchSampler(torch.utils.data.SequentialSampler(data), 64, drop_last=False)
    names = {"model": perceptron(), "val_loader": DataLoader(data, batch_sampler=by_rows)}
    said = read(text, WRONG_COUNT, names["model"], digits(), names=names)
    assert ["times their size, of which the last is smaller" in one.measured for one in said] == [True] * wrong


@pytest.mark.parametrize(("metric", "mode", "wrong"), [("val_neg_error", "max", False), ("val_error", "max", True)])
def test_an_error_below_zero_is_best_where_it_is_highest(metric: str, mode: str, wrong: bool) -> None:
    text = f"keeper = ModelCheckpoint(monitor={metric!r}, mode={mode!r})\nfor x, y in loader:\n    pass\n"
    said = read(text, WORST_KEPT, perceptron(), digits())
    assert [one.code for one in said] == ["eval.worst-kept"] * wrong


@pytest.mark.parametrize(("before", "wrong"), [("pass", True), ("self.net.eval()", False)])
def test_evaluation_in_a_comprehension_over_parts(before: str, wrong: bool) -> None:
    text = f"""
    class Model:
        def call(self, x):
            return self.net(x)
        @torch.no_grad()
        def evaluate(self, x, y):
            {before}
            return torch.cat([self.call(part) for part in x.split(8)])
        def fit(self, loader, held):
            for epoch in range(5):
                self.net.train()
                for x, y in loader:
                    train(x, y)
                self.evaluate(*held)
    wrapped.fit(loader, held)
    """
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    wrapped = type("Model", (SimpleNamespace,), {})(net=network)
    said = read(text, MODE, network, digits(), names={"self": wrapped, "wrapped": wrapped, "held": (None, None)})
    assert ["no code calls `.eval()`" in one.measured for one in said] == [True] * wrong


@pytest.mark.parametrize(("update", "wrong"), [("pass", True), ("ema.update(model)", False)])
def test_an_average_that_a_function_returns(update: str, wrong: bool) -> None:
    text = f"""
    def fit(model, loader):
        ema = Average(model)
        for epoch in range(5):
            for x, y in loader:
                train(x, y)
                {update}
            evaluate(ema.module, val_loader)
        return ema
    def evaluate(network, batches):
        return sum(network(x).sum() for x, y in batches)
    ema = fit(teacher, loader)
    ema = fit(model, loader)
    evaluate(ema.module, val_loader)
    """
    model, ema = perceptron(), Average()
    names = {"model": model, "ema": ema, "val_loader": digits(), "Average": Average}
    options = {"names": names, "loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD(model.parameters(), 0.1)}
    said = read(text, EVALUATES_UNTRAINED, model, digits(), **options)
    assert [one.code for one in said] == ["model.evaluates-untrained"] * wrong


class Average(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.module = perceptron()


@pytest.mark.parametrize(("discount", "wrong"), [(0.9, True), (torch.tensor([0.9, 0.0]), False)])
def test_discounts_may_be_stored_with_transitions(discount: Any, wrong: bool) -> None:
    text = """
    for x, y in loader:
        next_obs, reward, terminated = env.step(action)
        best = target_network(next_obs).max(1).values
        target = reward + discount * best
        loss = criterion(model(x), target)
    """
    names = {"env": Corridor(), "model": perceptron(), "target_network": perceptron(), "discount": discount}
    said = read(text, TERMINAL_LOST, names["model"], digits(), names=names)
    assert [one.code for one in said] == ["reward.terminal-lost"] * wrong


class Corridor:
    action_space = 2

    def reset(self) -> int:
        return 0

    def step(self, _: int) -> tuple[int, float, bool]:
        return 0, 0.0, False


@pytest.mark.parametrize(("again", "wrong"), [("pass", True), ("model.train()", False)])
def test_the_training_before_has_its_own_mode(again: str, wrong: bool) -> None:
    text = f"""
    def pretrain(model, first):
        for epoch in range(5):
            model.train()
            for x in first:
                model(x).sum().backward()
    def evaluate(network, val_loader):
        network.eval()
        for x, y in val_loader:
            network(x)
    pretrain(model, first)
    model.train()
    for epoch in range(5):
        {again}
        for x, y in loader:
            model(x).sum().backward()
        evaluate(model, val_loader)
    """
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    said = read(text, MODE, model, digits(), names={"model": model, "first": digits(), "val_loader": digits()})
    assert ["no `.train()` after it" in one.measured for one in said] == [True] * wrong


@pytest.mark.parametrize(("each", "below", "wrong"), [("share", "batches", True), ("share * len(x)", "seen", False)])
def test_a_mean_of_means_that_have_a_name(each: str, below: str, wrong: bool) -> None:
    text = f"""
    def evaluate(val_loader):
        total, seen = 0.0, 0
        for x, y in val_loader:
            share = (model(x).argmax(1) == y).float().mean().item()
            total += {each}
            seen += len(x)
        return total / {"len(val_loader)" if below == "batches" else below}
    for x, y in loader:
        pass
    evaluate(val_loader)
    """
    data = TensorDataset(torch.randn(240, 1, 8, 8), torch.zeros(240).long())
    names = {"model": perceptron(), "val_loader": DataLoader(data, 100)}
    said = read(text, BATCH_MEANS, names["model"], digits(), names=names)
    assert [one.code for one in said] == ["eval.batch-means"] * wrong


@pytest.mark.parametrize(
    ("line", "wrong"), [("target = 0.01 * p + 0.99 * target", True), ("target.lerp_(p, 0.01)", False)]
)
def test_a_name_that_gets_the_average_is_no_update(line: str, wrong: bool) -> None:
    text = f"""
    for x, y in loader:
        next_obs, reward, terminated = env.step(action)
        best = target_network(next_obs).max(1).values
        loss = criterion(model(x), reward + gamma * best * (1 - terminated))
        for p, target in zip(model.parameters(), target_network.parameters()):
            {line}
    """
    names = {"env": Corridor(), "model": perceptron(), "target_network": perceptron(), "gamma": 0.9}
    said = read(text, TARGET_STALE, names["model"], digits(), names=names)
    assert [one.code for one in said] == ["reward.target-stale"] * wrong


@pytest.mark.parametrize("over", ["index in parts", "number, index in enumerate(parts)"])
def test_numbers_of_samples_beside_batches_that_are_asked_for(over: str, tmp_path: Path) -> None:
    """`for index in order.split(20)` with `next(labeled)` in it."""
    file = tmp_path / "script.py"
    file.write_text(
        "def run(model, x, labeled):\n"
        "    parts = torch.arange(60).split(20)\n"
        f"    for {over}:\n"
        "        xb, yb = next(labeled)\n"
        "        loss = model(xb).sum() + model(x[index]).sum()\n"
        "        found.append(inspect.currentframe())\n"
        "        return\n"
    )
    found: list[Any] = []
    names: dict[str, Any] = {"__name__": "__main__", "found": found, "inspect": inspect, "torch": torch}
    exec(compile(file.read_text(), str(file), "exec"), names)
    names["run"](perceptron(), torch.randn(60, 1, 8, 8), iter(digits()))
    loop = find_loop(found)
    assert loop is not None
    assert loop.steps == 3
    for _ in range(4):
        loop.step(perceptron(), next(iter(loop.batches)), None, None)
    assert len(found) == 5, "each step went to its end"
