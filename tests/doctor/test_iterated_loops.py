"""Loops that take their batches from iterators or by numbers of samples: each trial is given batches, and the same."""

from __future__ import annotations

import ast
import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import perceptron
from striate.doctor.script import training_loop
from striate.doctor.script.drawn_batches import find_drawn_batches
from striate.doctor.script.examined_step import Weights
from striate.doctor.script.iterated_loop import count_index_batches
from striate.doctor.script.network_calls import weights_alone
from striate.doctor.script.run_script import RATE_TEST
from striate.doctor.script.training_loop import TrainingLoop, find_loop, user_frames
from striate.doctor.setup.recorded_iterators import draws_own_batches
from striate.doctor.setup.replicas import make_replica
from striate.doctor.setup.training_setup import make_setup

X = torch.randn(96, 1, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(96) % 10


class Caught(Exception):
    """With the loop that makes a step."""


def loaders() -> tuple[DataLoader[Any], DataLoader[Any]]:
    return DataLoader(TensorDataset(X, Y), 16, shuffle=True), DataLoader(TensorDataset(X + 1, Y), 32, shuffle=True)


def cycle(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def halved(loader: Any) -> Iterator[Any]:
    while True:
        for x, y in loader:
            yield x / 100, y


def stepped(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def loss_of(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(model(x), y)


def again_at_the_end(model: nn.Module, optimizer: Any, labeled: Any, unlabeled: Any) -> None:
    own, others = iter(labeled), iter(unlabeled)
    for _ in range(20):
        try:
            x, y = next(own)
        except StopIteration:
            own = iter(labeled)
            x, y = next(own)
        try:
            more, _ = next(others)
        except StopIteration:
            others = iter(unlabeled)
            more, _ = next(others)
        stepped(loss_of(model, x, y) + model(more).square().mean() * len(more), optimizer)


def without_end(model: nn.Module, optimizer: Any, labeled: Any, _: Any) -> None:
    batches = cycle(labeled)
    for _ in range(20):
        x, y = next(batches)
        stepped(loss_of(model, x, y), optimizer)


def changed_on_the_way(model: nn.Module, optimizer: Any, labeled: Any, _: Any) -> None:
    batches = halved(labeled)
    while True:
        x, y = next(batches)
        stepped(loss_of(model, x, y), optimizer)


def side_by_side(model: nn.Module, optimizer: Any, labeled: Any, unlabeled: Any) -> None:
    for i, ((x, y), (more, _)) in enumerate(zip(labeled, itertools.cycle(unlabeled), strict=False)):
        stepped(loss_of(model, x, y) + model(more).square().mean() * (i + 1), optimizer)


def by_numbers(model: nn.Module, optimizer: Any, _: Any, __: Any) -> None:
    total = 0.0
    for index in torch.randperm(len(X)).split(16):
        loss = loss_of(model, X[index], Y[index])
        stepped(loss, optimizer)
        total += loss.item() * len(index)


def by_rows_of_numbers(model: nn.Module, optimizer: Any, _: Any, __: Any) -> None:
    for index in torch.randperm(len(X)).view(-1, 16):
        x = X[index] + 1
        stepped(nn.functional.cross_entropy(model(x), Y[index]), optimizer)


def short_ones_left_out(model: nn.Module, optimizer: Any, _: Any, __: Any) -> None:
    for index in torch.arange(90).split(16):
        if len(index) < 16:
            continue
        x = X[index] + 1
        stepped(nn.functional.cross_entropy(model(x), Y[index]), optimizer)


def some(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.randint(len(X), (count,))
    return X[rows], Y[rows]


class Measuring(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = perceptron()

    def forward(self, x: torch.Tensor, y: torch.Tensor | None = None) -> Any:
        return self.net(x) if y is None else nn.functional.cross_entropy(self.net(x), y)


def drawn_as_it_is_called(model: nn.Module, optimizer: Any, _: Any, __: Any) -> None:
    for step in range(20):
        if step == 19:
            break
        stepped(model(*some(16)), optimizer)


def in_a_comprehension(model: nn.Module, optimizer: Any, labeled: Any, _: Any) -> None:
    def process(batch: Any) -> float:
        loss = loss_of(model, *batch)
        stepped(loss, optimizer)
        return loss.item()

    assert [process(batch) for batch in labeled]


def in_groups(model: nn.Module, optimizer: Any, labeled: Any, _: Any) -> None:
    batches = list(labeled)
    for start in range(0, len(batches), 2):
        optimizer.zero_grad()
        for x, y in batches[start : start + 2]:
            (loss_of(model, x, y) / 2).backward()
        optimizer.step()


def caught(train: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> tuple[TrainingLoop, Any, Any]:
    """The loop, with the network and optimizer, of a training that is stopped in its first step."""
    monkeypatch.setattr(training_loop, "written_by_user", lambda name: name == __name__)
    model: nn.Module = Measuring() if train is drawn_as_it_is_called else perceptron()
    both = loaders()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def stop(*_: Any) -> None:
        raise Caught(find_loop([frame for frame in user_frames() if frame.f_code is train.__code__]))

    handle = register_optimizer_step_pre_hook(stop)
    try:
        with pytest.raises(Caught) as raised:
            train(model, optimizer, *both)
    finally:
        handle.remove()
    loop = raised.value.args[0]
    assert loop is not None
    return loop, model, (optimizer, both[0])


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("train", "whose", "beside"),
    [
        (again_at_the_end, "loader", True),
        (without_end, "loader", False),
        (changed_on_the_way, "own", False),
        (side_by_side, "loader", True),
        (by_numbers, "own", False),
        (by_rows_of_numbers, "own", False),
        (short_ones_left_out, "own", False),
        (drawn_as_it_is_called, "own", False),
        (in_a_comprehension, "loader", False),
        (in_groups, "loader", False),
    ],
)
def test_trials_are_given_batches_and_the_same(
    train: Callable[..., None], whose: str, beside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, model, (optimizer, loader) = caught(train, monkeypatch)
    assert (loop.batches is loader) == (whose == "loader")
    batches = list(itertools.islice(loop.batches, 6))
    assert [tuple(batch[0].shape) for batch in batches] == [(16, 1, 8, 8)] * 6
    assert (float(batches[0][0].std()) < 0.1) == (train is changed_on_the_way)
    setup = make_setup(model, loop.batches, step=loop.step, optimizer=optimizer)
    losses = []
    for _ in range(2):
        twin = make_replica(setup)
        losses.append([float(twin.step(twin.model, batch, twin.optimizer, twin.loss)) for batch in batches])
    assert losses[0] == losses[1]
    assert draws_own_batches(loop.step) == beside


@pytest.mark.parametrize(
    ("body", "numbers"),
    [
        ("step(x[i], y[i], len(i))", True),
        ("step(x[order[i]], i.numel(), i.shape[0])", True),
        ("step(table(i), y[i])", False),
        ("step(i)", False),
    ],
)
def test_numbers_of_samples_are_told_from_inputs(body: str, numbers: bool) -> None:
    loop = ast.parse(f"for i in order.split(16):\n    {body}").body[0]
    assert isinstance(loop, ast.For)
    assert count_index_batches(loop, {"order": torch.arange(64)}) == 4 * numbers


def test_a_closure_that_is_made_before_the_loop_is_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(model: nn.Module, optimizer: Any, _: Any, __: Any) -> None:
        inputs, calls = X.flatten(1), 0

        def closure() -> torch.Tensor:
            nonlocal calls
            calls += 1
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), Y)
            loss.backward()
            return loss

        for _ in range(5):
            optimizer.step(closure)

    loop, model, (optimizer, _) = caught(train, monkeypatch)
    (batch,) = itertools.islice(loop.batches, 1)
    assert batch[0].shape == (96, 64)
    before = float(loop.step(model, batch, optimizer, None))
    assert float(loop.step(model, batch, optimizer, None)) < before


def weights_without_a_module() -> None:
    generator = torch.Generator().manual_seed(0)
    w1 = (torch.randn(64, 32, generator=generator) / 8).requires_grad_()
    w2 = (torch.randn(32, 10, generator=generator) / 6).requires_grad_()
    weights = [w1, w2]
    for _ in range(20):
        rows = torch.randint(len(X), (16,), generator=generator)
        x, y = X[rows].flatten(1), Y[rows]
        hidden = torch.tanh(x @ w1)
        loss = nn.functional.cross_entropy(hidden @ w2, y)
        for w in weights:
            w.grad = None
        loss.backward()
        frame = inspect.currentframe()
        assert frame is not None
        if stopped:
            raise Caught(find_loop([frame]), weights)
        for w in weights:
            assert w.grad is not None
            w.data -= 0.5 * w.grad


stopped = [True]
"""Emptied once the loop was found: its body is then a step."""


def test_weights_without_a_module_are_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_loop, "written_by_user", lambda name: name == __name__)
    with pytest.raises(Caught) as raised:
        weights_without_a_module()
    loop, weights = raised.value.args
    stopped.clear()
    batches = list(itertools.islice(loop.batches, 4))
    assert [tuple(x.shape) for x, _ in batches] == [(16, 64)] * 4
    model = Weights(weights_alone(loop.names))
    assert [p is w for p, w in zip(model.parameters(), weights, strict=True)] == [True, True]
    setup = make_setup(model, loop.batches, step=loop.step, optimizer=torch.optim.SGD(model.parameters(), 0.1))
    twin = make_replica(setup)
    losses = [float(twin.step(twin.model, batches[0], twin.optimizer, twin.loss)) for _ in range(5)]
    stopped.append(True)
    assert losses[-1] < losses[0]
    assert not torch.equal(next(iter(twin.model.parameters())), weights[0])


def test_parameters_are_no_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(model: nn.Module, optimizer: Any, labeled: Any, _: Any) -> None:
        batches = iter(labeled)
        for _ in range(20):
            device = next(model.parameters()).device
            x, y = next(batches)
            stepped(loss_of(model, x.to(device), y), optimizer)

    loop, _, (_, loader) = caught(train, monkeypatch)
    assert loop.batches is loader


OF_AN_ESTIMATOR = """
for index in torch.randperm(len(X)).split(16):
    total += self.train_step(X[index], Y[index]) * len(index)
"""


@pytest.mark.parametrize("running", [frozenset({"train_step", "fit"}), frozenset[str]()])
def test_batches_that_a_method_of_the_scripts_own_is_given(running: frozenset[str]) -> None:
    (loop,) = ast.parse(OF_AN_ESTIMATOR).body
    assert isinstance(loop, ast.For)
    found = find_drawn_batches(loop, {"torch": torch, "X": X, "Y": Y, "total": 0.0, "self": object()}, running)
    assert (found is not None) == bool(running)
    if found is not None:
        one, other = found[2](), found[2]()
        assert [len(part) for part in (*one, *other)] == [16] * 4
        assert not torch.equal(one[0], other[0])


@pytest.mark.parametrize("trains", [False, True])
def test_what_trains_draws_no_batches(trains: bool) -> None:
    steps: list[int] = []
    text = "for epoch in range(9):\n    rows = X + 1\n    schedule.step()\n    model(rows)"
    (loop,) = ast.parse(text if trains else text.replace("    schedule.step()\n", "")).body
    assert isinstance(loop, ast.For)
    schedule = type("Schedule", (), {"step": lambda _: steps.append(1)})()
    found = find_drawn_batches(loop, {"X": X, "schedule": schedule, "model": perceptron()})
    assert (found is None) == trains
    assert not steps


@pytest.mark.parametrize(
    ("name", "tries"),
    [("lr_find", True), ("find_lr", True), ("range_test", True), ("lr_range_test", True), ("train", False),
     ("find_latent", False), ("evaluate_ranges", False), ("test", False)],
)  # fmt: skip
def test_functions_that_try_rates_before_the_training(name: str, tries: bool) -> None:
    assert bool(RATE_TEST.search(name)) is tries


def order_in_parts(model: nn.Module, optimizer: Any, *_: Any) -> None:
    order = torch.randperm(96)
    for part in range(3):
        x, y = X[order[part * 32 : (part + 1) * 32]], Y[order[part * 32 : (part + 1) * 32]]
        stepped(loss_of(model, x, y), optimizer)


def test_an_order_that_is_gone_through_is_gone_through_again(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, _, _ = caught(order_in_parts, monkeypatch)
    batches = list(loop.batches)
    assert {len(x) for x, _ in batches} == {32}
    numbers = [[int((one == X).flatten(1).all(1).nonzero()) for one in x] for x, _ in batches]
    assert all(torch.equal(Y[rows], y) for rows, (_, y) in zip(numbers, batches, strict=True))


def test_places_of_batches_are_gone_over_again() -> None:
    loop = ast.parse("for start in range(0, 96, 32):\n    xb = X[start : start + 32]\n    model(xb)").body[0]
    assert isinstance(loop, ast.For)
    found = find_drawn_batches(loop, {"X": torch.arange(96.0)[:, None], "model": nn.Linear(1, 1)})
    assert found is not None
    assert [int(found[2]()[0][0]) for _ in range(6)] == [0, 32, 64, 0, 32, 64]
