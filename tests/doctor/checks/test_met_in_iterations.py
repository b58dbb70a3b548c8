"""Loops that count iterations, named tuples, scores and counts: faults that were met in scripts, and their twins."""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from asked import asked, digits, perceptron
from test_source_checks import SCRIPT, found, values
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.labels.class_balance import IMBALANCE, MISSING_CLASS
from striate.doctor.checks.data.labels.labels_random import LABELS_RANDOM
from striate.doctor.checks.data.splits.folds import SHARED_NETWORK
from striate.doctor.checks.eval.best import WORST_KEPT
from striate.doctor.checks.eval.modes import MODE
from striate.doctor.checks.eval.predicted import WRONG_AXIS
from striate.doctor.checks.eval.wrong_count import WRONG_COUNT
from striate.doctor.checks.optim.lr_schedule import LR_SCHEDULE
from striate.doctor.checks.optim.rate_too_low import LR_TOO_LOW
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.script.drawn_batches import Drawn, drawing, drawn_once
from striate.doctor.script.iterated_loop import number_batches
from striate.doctor.script.training_loop import TrainingLoop, find_loop, user_frames
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


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("divisor", "right"), [("n", False), ("(n + 1)", False), ("total", True), ("(n * len(y))", True)]
)
def test_what_enumerate_counts_are_batches(divisor: str, right: bool) -> None:
    text = SCRIPT.replace("for x, y in val_loader", "for n, (x, y) in enumerate(batches(), 1)")
    text = text.replace("accuracy = correct / total", f"accuracy = correct / {divisor}")
    assert list(found(text, values(), [WRONG_COUNT])) == ["eval.wrong-count"] * (not right)
    one_by_one = text.replace("batches()", "samples")
    assert not found(one_by_one, values() | {"samples": TensorDataset(torch.zeros(61, 1, 8, 8))}, [WRONG_COUNT])


@pytest.mark.parametrize(("step", "divisor", "right"), [("16", "n", False), ("16", "total", True), ("1", "n", True)])
def test_slices_are_batches(step: str, divisor: str, right: bool) -> None:
    text = SCRIPT.replace("for x, y in val_loader:", f"for i in range(0, 61, {step}):\n            x, y = X[i], Y[i]")
    text = text.replace("            total += len(y)\n", "            total += len(y)\n            n += 1\n")
    text = text.replace("accuracy = correct / total", f"accuracy = correct / {divisor}")
    assert list(found(text, values(), [WRONG_COUNT])) == ["eval.wrong-count"] * (not right)


@pytest.mark.parametrize(("mode", "right"), [("max", False), ("min", True)])
def test_a_configuration_says_which_way_is_better(mode: str, right: bool) -> None:
    text = f'config = {{"monitor": "val_loss", "mode": "{mode}"}}\n' + SCRIPT
    assert list(found(text, values(), [WORST_KEPT])) == ["eval.worst-kept"] * (not right)


class Keeper:
    def __init__(self, mode: str) -> None:
        self.mode, self.best = mode, 0.0

    def step(self, value: float) -> bool:
        return value > self.best if self.mode == "max" else value < self.best


@pytest.mark.parametrize(("mode", "value", "right"), [("max", "val_loss", False), ("min", "val_loss", True)])
def test_an_object_that_remembers_the_best_knows_which_way_is_better(mode: str, value: str, right: bool) -> None:
    text = SCRIPT + f"if keeper.step({value}):\n    pass\n"
    assert list(found(text, values() | {"keeper": Keeper(mode)}, [WORST_KEPT])) == ["eval.worst-kept"] * (not right)


@pytest.mark.parametrize(("axis", "right"), [(0, False), (1, True)])
def test_a_layer_of_softmax_goes_along_the_classes(axis: int, right: bool) -> None:
    text = SCRIPT.replace("outputs.argmax(dim=1)", f"nn.Softmax(dim={axis})(outputs).argmax(dim=1)")
    assert list(found(text, values() | {"nn": nn}, [WRONG_AXIS])) == ["eval.wrong-axis"] * (not right)


@pytest.mark.parametrize("ends", [True, False])
def test_gradients_may_be_turned_off_for_each_batch(ends: bool) -> None:
    text = SCRIPT[: SCRIPT.index("    model.eval()")] + ("    model.eval()\n" if ends else "")
    text += "    for x, y in val_loader:\n        with torch.no_grad():\n            outputs = model(x)\n"
    assert list(found(text, values(), [MODE])) == ["eval.mode"] * (not ends)


@pytest.mark.parametrize(("put_back", "right"), [("net.load_state_dict(untrained)", True), ("pass", False)])
def test_a_network_of_all_folds_may_be_put_back(put_back: str, right: bool) -> None:
    text = f"""
def one_fold(net, rows):
    {put_back}
    for x, y in loader:
        net(x)
for fold, (rows, others) in enumerate(folds.split(images)):
    one_fold(net, rows)
"""
    names = values()
    assert list(found(text, names | {"net": names["model"]}, [SHARED_NETWORK])) == ["data.leak"] * (not right)


@pytest.mark.parametrize(("returned", "right"), [("1 - score", True), ("0 * score", False)])
def test_what_is_taken_from_one_is_a_loss(returned: str, right: bool) -> None:
    text = f"def soft_dice(out, y):\n    score = (out.argmax(1) == y).float().mean()\n    return {returned}\n"
    names = values()
    names["val_loader"] = names["loader"]  # a score of classes is asked only where each occurs
    exec(text, names)
    assert list(found(text + SCRIPT, names, [WRONG_COUNT])) == ["eval.wrong-count"] * (not right)


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


@pytest.mark.each_nth(2)
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


@pytest.mark.each_nth(2)
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


@pytest.mark.parametrize("column", [False, True])
def test_targets_of_validation_may_still_be_an_array(column: bool) -> None:
    names = {"X_val_t": torch.zeros(32, 4), "y_val": np.ones(32, np.int64)}
    frame = type("Frame", (), {"f_locals": names, "f_globals": {}})
    frame.f_code = test_arrays_are_validation_too.__code__  # type: ignore[attr-defined]
    like = torch.zeros(8, 1) if column else torch.zeros(8)
    val = find_validation(TrainingLoop(print, [], "here", {}), [frame], torch.zeros(8, 4), like)
    assert torch.equal(val.dataset.tensors[1], torch.ones(32, 1) if column else torch.ones(32))


@pytest.mark.parametrize("asked_so", ["net(torch.tensor(X_val).float())", "net(torch.tensor(scale(X_val)))"])
def test_arrays_are_validation_where_a_network_is_given_them_as_they_are(asked_so: str, tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text(f"print({asked_so})\n")
    names = {"X_val": np.zeros((32, 4)), "y_val": np.ones(32, np.int64), "net": torch.nn.Linear(4, 1)}
    code = SimpleNamespace(co_filename=str(file), co_firstlineno=1)
    frame = SimpleNamespace(f_locals=names, f_globals=names, f_code=code)
    gc.collect()
    val = find_validation(TrainingLoop(print, [], "here", {}), [frame], torch.zeros(8, 4), torch.zeros(8))
    given = val is not None and val.dataset.tensors[0].shape == (32, 4) and val.dataset.tensors[1].sum() == 32
    assert bool(given) is ("scale" not in asked_so)


def test_validation_of_another_kind_is_none() -> None:
    """Bytes that are prepared as the network is asked about them."""
    val_images, val_labels = torch.zeros(32, 1, 4, 4, dtype=torch.uint8), torch.zeros(32)
    frame = type("Frame", (), {"f_locals": {"val_images": val_images, "val_labels": val_labels}, "f_globals": {}})
    frame.f_code = test_arrays_are_validation_too.__code__  # type: ignore[attr-defined]
    gc.collect()
    val = find_validation(TrainingLoop(print, [], "here", {}), [frame], torch.zeros(8, 1, 4, 4))
    assert val is None or val.dataset.tensors[0] is not val_images


class Coloring(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("most", "missing"), [(1, True), (4, False)])
def test_maps_of_nothing_but_one_class_are_named(most: int, missing: bool) -> None:
    x = torch.randn(6000, 1, 6, 6)
    y = torch.randint(most, (6000, 6, 6))
    data = DataLoader(TensorDataset(x, y), 10, shuffle=True)  # more than is read
    said = asked(MISSING_CLASS, Coloring(), data, loss=LOSS, task="segment")
    assert [finding.code for finding in said] == ["data.missing-class"] * missing


class TwoTowers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(64, 8), nn.Embedding(100, 8)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        score: Tensor = (self.users(user) * self.items(item)).sum(1)
        return score


def ranked(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
    user, liked, other = batch
    optimizer.zero_grad()
    loss: Tensor = -nn.functional.logsigmoid(model(user, liked) - model(user, other)).mean()
    loss.backward()
    optimizer.step()
    return loss.detach()


def test_items_that_a_recommender_is_shown_are_no_classes() -> None:
    data = TensorDataset(torch.arange(64).repeat(10), torch.randint(50, (640,)), 50 + torch.randint(50, (640,)))
    model = TwoTowers()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for check in (LABELS_RANDOM, IMBALANCE, MISSING_CLASS):
        with pytest.raises(NoEvidence, match="given to the network"):
            asked(check, model, DataLoader(data, 32), step=ranked, optimizer=optimizer)


@pytest.mark.parametrize(("call", "makes"), [("graph(800, rng)", True), ("batch(data, rng)", False)])
def test_what_makes_up_all_data_is_told_from_what_draws_a_batch(call: str, makes: bool, tmp_path: Path) -> None:
    """Both give other numbers each time, and are called in front of the loop only."""
    file = tmp_path / "t.py"
    file.write_text(f"x, y = {call}\n")

    def graph(count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        return torch.randn(count, 4, generator=rng), torch.zeros(count)

    def batch(data: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(data), (16,), generator=rng)
        return data[rows], torch.zeros(16)

    rng, data = torch.Generator(), torch.randn(64, 4)
    names: dict[str, Any] = {"graph": graph, "batch": batch, "rng": rng, "data": data}
    names["x"], names["y"] = graph(800, rng) if makes else batch(data, rng)
    assert bool(drawn_once(str(file), ["x", "y"], names)) != makes


def test_samples_may_be_taken_out_of_a_list() -> None:
    names = {"order": torch.arange(64).split(16), "samples": list(range(64))}
    (loop,) = ast.parse("for i in order:\n    x = pad([samples[k] for k in i.tolist()])\n    len(i)").body
    assert isinstance(loop, ast.For)
    assert number_batches(loop, names) == 4


def of_a_step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
    """A loss that has no name of its own is called."""
    optimizer.zero_grad()
    loss: Tensor = nn.functional.cross_entropy(model(batch[0]), batch[1])
    loss.backward()
    optimizer.step()
    return loss.detach()


@pytest.mark.parametrize("most", [8, 10])
def test_outputs_without_a_class_are_told_whatever_calls_the_loss(most: int) -> None:
    x, y = torch.randn(400, 64), torch.arange(400) % most
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    said = asked(MISSING_CLASS, model, DataLoader(TensorDataset(x, y), 40), step=of_a_step, optimizer=optimizer)
    assert [finding.code for finding in said] == ["data.missing-class"] * (most < 10)


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
