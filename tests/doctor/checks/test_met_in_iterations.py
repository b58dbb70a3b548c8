"""Loops that count iterations, named tuples, scores and counts: faults that were met in scripts, and their twins."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from asked import asked, digits, perceptron
from test_source_checks import SCRIPT, found, values
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.class_balance import MISSING_CLASS
from striate.doctor.checks.eval.averages import WRONG_COUNT
from striate.doctor.checks.eval.best import WORST_KEPT
from striate.doctor.checks.eval.modes import MODE
from striate.doctor.checks.optim.learning_rate import LR_TOO_LOW
from striate.doctor.checks.optim.lr_schedule import LR_SCHEDULE
from striate.doctor.script.drawn_batches import Drawn, drawing
from striate.doctor.script.training_loop import TrainingLoop
from striate.doctor.script.validation_data import find_validation
from striate.doctor.setup.script_source import ScriptSource

LOSS = nn.CrossEntropyLoss()


@pytest.mark.parametrize(
    ("test", "right"), [("current > best", False), ("current < best", True), ("current > best + 1", False)]
)
def test_the_best_may_be_compared_by_another_name(test: str, right: bool) -> None:
    text = SCRIPT.replace(
        "    if accuracy > best_accuracy:\n        best_accuracy = accuracy\n",
        f"    current = val_loss\n    if {test}:\n        best = current\n",
    )
    assert list(found(text, values(), [WORST_KEPT])) == ["eval.worst-kept"] * (not right)


@pytest.mark.parametrize(
    ("divisor", "right"), [("n", False), ("(n + 1)", False), ("total", True), ("(n * len(y))", True)]
)
def test_what_enumerate_counts_are_batches(divisor: str, right: bool) -> None:
    text = SCRIPT.replace("for x, y in val_loader", "for n, (x, y) in enumerate(batches(), 1)")
    text = text.replace("accuracy = correct / total", f"accuracy = correct / {divisor}")
    assert list(found(text, values(), [WRONG_COUNT])) == ["eval.wrong-count"] * (not right)


@pytest.mark.parametrize(("ends", "now_and_then"), [(False, True), (True, True), (False, False)])
def test_what_runs_now_and_then_in_the_training_loop_is_evaluation(ends: bool, now_and_then: bool) -> None:
    call = "        if step % 100 == 0:\n            recall(model)\n" if now_and_then else "        recall(model)\n"
    text = SCRIPT[: SCRIPT.index("    model.eval()")] + call
    text += (
        f"@torch.no_grad()\ndef embed(net, images):\n    {'net.eval()' if ends else 'pass'}\n    return net(images)\n"
    )
    text += "def recall(net):\n    found = embed(net, images)\n    net.train()\n    return found\n"
    assert list(found(text, values(), [MODE])) == ["eval.mode"] * (now_and_then and not ends)


class Counting(Drawn):
    """Batches of a loop that draws so many."""

    def __init__(self, passes: int) -> None:
        whole = iter(digits()) if passes else None
        self.kept = list(whole or ())
        super().__init__(lambda: self.kept[0], passes=passes, count=len(self.kept))

    def __iter__(self) -> Iterator[Any]:
        return iter(self.kept)


@pytest.mark.parametrize(("warmup", "late"), [(2000, True), (60, False)])
def test_a_warmup_is_over_before_a_loop_that_counts(warmup: int, late: bool) -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    count = [0]

    def step(net: nn.Module, batch: Any, own: torch.optim.Optimizer, loss: Any) -> Tensor:
        count[0] += 1
        for group in own.param_groups:
            group["lr"] = 0.1 * min(1.0, count[0] / warmup)
        own.zero_grad()
        value: Tensor = loss(net(batch[0]), batch[1])
        value.backward()
        own.step()
        return value.detach()

    source = ScriptSource({"t.py": ast.parse("for i in range(300):\n    pass")}, {}, ("t.py", 1, 2), None)
    said = asked(LR_SCHEDULE, model, Counting(300), loss=LOSS, optimizer=optimizer, step=step, source=source)
    assert [finding.code for finding in said] == ["optim.lr-schedule"] * late


@pytest.mark.parametrize(("passes", "low"), [(100, True), (100_000, False)])
def test_a_rate_is_too_low_for_a_script_that_ends_before(passes: int, low: bool) -> None:
    model = perceptron()
    optimizer = torch.optim.Adam(model.parameters(), 1.5e-4)
    source = ScriptSource({"t.py": ast.parse("for i in range(300):\n    pass")}, {}, ("t.py", 1, 2), None)
    said = asked(LR_TOO_LOW, model, Counting(passes), loss=LOSS, optimizer=optimizer, source=source)
    assert [finding.code for finding in said] == ["optim.lr-too-low"] * low


class Batch(NamedTuple):
    image: Tensor
    label: Tensor


def draw(count: int) -> Batch:
    return Batch(torch.randn(count, 64), torch.randint(10, (count,)))


def test_a_function_may_draw_a_tuple_with_names() -> None:
    (loop,) = ast.parse("for i in range(9):\n    train_step(state, draw(16))").body
    assert isinstance(loop, ast.For)
    drawn = drawing(loop, {"draw": draw, "state": object()}, frozenset({"train_step"}))
    assert drawn is not None
    one, other = drawn[2](), drawn[2]()
    assert isinstance(one, Batch)
    assert one.image.shape == (16, 64)
    assert not torch.equal(one.image, other.image)


def test_arrays_are_validation_too() -> None:
    x_val, y_val = np.zeros((32, 4), np.float32), np.zeros(32, np.int64)
    frame = type("Frame", (), {"f_locals": {"x_val": x_val, "y_val": y_val}, "f_globals": {}})
    frame.f_code = test_arrays_are_validation_too.__code__  # type: ignore[attr-defined]
    val = find_validation(TrainingLoop(print, [], "here", {}), [frame], torch.zeros(8, 4))
    assert val is not None
    assert [tuple(part.shape) for part in val.dataset.tensors] == [(32, 4), (32,)]


class Coloring(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


@pytest.mark.parametrize(("most", "missing"), [(1, True), (4, False)])
def test_maps_of_nothing_but_one_class_are_named(most: int, missing: bool) -> None:
    x = torch.randn(6000, 1, 6, 6)
    y = torch.randint(most, (6000, 6, 6))
    data = DataLoader(TensorDataset(x, y), 10, shuffle=True)  # more than is read
    said = asked(MISSING_CLASS, Coloring(), data, loss=LOSS, task="segment")
    assert [finding.code for finding in said] == ["data.missing-class"] * missing
