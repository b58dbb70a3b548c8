"""The loop that a script trains in: found on the stack, and its body made a step that works on any batch."""

from __future__ import annotations

import ast
import inspect
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import digits, perceptron
from for_checks.pictures import frame_of
from striate.doctor.script.training_loop import TrainingLoop, _passes_left, find_loop, user_frames
from striate.doctor.script.validation_data import find_validation

STEPPED = """
class Trainer:
    def run_step(self, rate):
        batch = next(self.batches)
        found.append(inspect.currentframe())
        BEFORE
        return self.model(batch["x"]).sum() * rate

    def train(self):
        BESIDE
        found.append(inspect.currentframe())
        for self.iter in range(9):
            loss = self.run_step(2.0)
            loss.backward()
            return
"""


X = torch.randn(96, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("before", "beside", "read"),
    [("pass", "pass", True), ("if not batch: return None", "pass", False), ("pass", "batch = None", False)],
)
def test_a_method_of_the_loop_takes_the_batches(before: str, beside: str, read: bool, tmp_path: Path) -> None:
    """Not one that may end early, or that means something else by a name."""
    file = tmp_path / "script.py"
    file.write_text(STEPPED.replace("BEFORE", before).replace("BESIDE", beside))
    found: list[Any] = []
    names: dict[str, Any] = {"found": found, "inspect": inspect, "__name__": "__main__"}
    exec(compile(file.read_text(), str(file), "exec"), names)
    trainer = names["Trainer"]()
    loader = DataLoader(cast("Any", [{"x": row} for row in X]), 32)
    trainer.model, trainer.batches = nn.Linear(8, 1), iter(loader)
    trainer.train()
    loop = find_loop([found[1], found[0]])
    assert (loop is not None) == read
    if loop is not None:
        assert loop.batches is loader
        assert loop.steps == 9
        trainer.model.zero_grad()
        value = loop.step(trainer.model, {"x": torch.ones(4, 8)}, None, None)
        assert torch.allclose(trainer.model.weight.grad, torch.full((1, 8), 8.0))
        assert value.isfinite()
        assert trainer.iter == 1


@pytest.mark.parametrize(
    ("line", "passes"),
    [("together = min(4, len(loader) - first)", 5), ("together = 4", None)],
)
def test_batches_that_are_left_are_counted_by_what_is_made_of_their_number(line: str, passes: int | None) -> None:

    (loop,) = ast.parse(f"for i, (x, y) in enumerate(loader):\n    first = i - i % 4\n    {line}\n").body
    assert isinstance(loop, ast.For)
    assert _passes_left(loop, DataLoader(TensorDataset(torch.zeros(10)), 2)) == passes


def test_an_epoch_of_slices_is_as_long_as_they_are() -> None:
    model, images = perceptron(), torch.randn(96, 64)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    found: list[Any] = []

    def look(*_: Any) -> None:
        found.append(find_loop([frame for frame in user_frames() if "images" in frame.f_locals]))

    for i in range(0, 96, 16):
        rows = images[i : i + 16]
        optimizer.zero_grad()
        model(rows).sum().backward()
        look()
        break
    assert len(list(found[0].batches)) == 6


class Halves:
    """Numbers of the samples of each batch, in any order."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(torch.randperm(96)[:48].split(16))


def test_what_yields_numbers_of_samples_is_known() -> None:
    model, images, halves = perceptron(), torch.randn(96, 64), Halves()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    found: list[Any] = []

    def look(*_: Any) -> None:
        found.append(find_loop([frame for frame in user_frames() if "images" in frame.f_locals]))

    for index in halves:
        rows = images[index]
        optimizer.zero_grad()
        model(rows).sum().backward()
        look()
        break
    assert found[0].batches.sampler is halves


class Asked(BaseException):
    """Ends a step as soon as the network is called."""


def test_what_is_asked_only_makes_no_step(tmp_path: Path) -> None:
    """Else an evaluation at each so many steps comes between questions, with batches of its own."""
    file = tmp_path / "script.py"
    file.write_text(
        "def run(model):\n"
        "    for number in range(99):\n"
        "        numbers.append(number)\n"
        "        xb, yb = draw()\n"
        "        loss = model(xb) + yb\n"
        "        found.append(inspect.currentframe())\n"
        "        return\n"
    )
    found: list[Any] = []
    numbers: list[int] = []
    network = nn.Linear(2, 1)
    names = {"found": found, "inspect": inspect, "numbers": numbers, "draw": lambda: (torch.ones(4, 2), torch.ones(4))}
    names["__name__"] = "__main__"
    exec(compile(file.read_text(), str(file), "exec"), names)
    names["run"](network)
    loop = find_loop(found)
    assert loop is not None
    numbers.clear()

    def ask(*_: Any) -> None:
        raise Asked

    hook = network.register_forward_pre_hook(ask)
    for _ in range(3):
        with pytest.raises(Asked):
            loop.step(network, next(iter(loop.batches)), None, None)
    hook.remove()
    for _ in range(2):
        loop.step(network, next(iter(loop.batches)), None, None)
    assert numbers == [1, 1, 1, 1, 2]


class Numbers:
    def __iter__(self) -> Iterator[Tensor]:
        return (torch.randperm(60)[:12] for _ in itertools.count())


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


FITTED = """stem = pretrain(make_stem(), train_set.tensors[0])
{made}
{trainer}
"""


@pytest.mark.parametrize(
    ("made", "trainer", "own"),
    [
        ("model = Reader(stem)", "trainer.fit(model, DataLoader(train_set), DataLoader(val_set))", False),
        (
            "model = Reader(stem)",
            "val_dl = DataLoader(val_set)\ntrainer.fit(model, DataLoader(train_set), val_dl)",
            False,
        ),
        ("model = Reader(stem)", "trainer.test(model, DataLoader(val_set))", True),
        ("", "evaluate(stem, DataLoader(val_set))", True),
    ],
)
def test_a_data_set_that_a_later_network_is_fitted_with_is_no_validation(
    made: str, trainer: str, own: bool, tmp_path: Path
) -> None:
    x, y = torch.randn(64, 4), torch.arange(64) % 3
    names = {"train_set": TensorDataset(x, y), "val_set": TensorDataset(x + 0.01, y)}
    file = tmp_path / "script.py"
    file.write_text(FITTED.format(made=made, trainer=trainer))
    frame = frame_of(str(file), **names)
    loop = TrainingLoop(print, [(x[:16], y[:16])], "here", {})
    val = find_validation(loop, [frame], x[:16], y[:16])
    assert (val is not None and val.dataset is names["val_set"]) is own


def test_a_pass_that_only_evaluates_is_followed_by_one_that_trains(tmp_path: Path) -> None:
    file, network, frames = tmp_path / "script.py", nn.Linear(8, 3), list[Any]()
    file.write_text(
        "it = 0\nwhile it < 9:\n    it += 1\n    if it % 2 == 0:\n        continue\n    xb = X[torch.randperm(32)]\n"
        "    loss = model(xb).mean()\n    loss.backward()\n    frames.append(inspect.currentframe())\n    break\n"
    )
    names: dict[str, Any] = {"inspect": inspect, "model": network, "X": X, "torch": torch, "frames": frames}
    exec(compile(file.read_text(), str(file), "exec"), names | {"__name__": "__main__"})
    loop = find_loop(frames)
    assert loop is not None
    batch = next(iter(loop.batches))
    assert all(loop.step(network, batch, None, None) is not None for _ in range(4))
