"""Meters that forget how many samples a value is of, roots of batches, zeros that count as right; outputs of several
quantities; curves of the rate that are over; columns and masks that tell too much or too little."""

from __future__ import annotations

import ast
import math
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from asked import asked, perceptron
from test_source_checks import SCRIPT, found, values
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.labels.class_balance import MISSING_CLASS
from striate.doctor.checks.data.shift.shift import SHIFT
from striate.doctor.checks.data.targets.target_in_input import TARGET_IN_INPUT
from striate.doctor.checks.data.targets.target_scale import TARGET_SCALE
from striate.doctor.checks.eval.batch_means import BATCH_MEANS
from striate.doctor.checks.eval.wrong_count import WRONG_COUNT
from striate.doctor.checks.loss.sign.sign import SIGN
from striate.doctor.checks.optim.lr_schedule import _ends_early
from striate.doctor.checks.optim.rate_functions import rates_of_steps
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.setup.script_source import ScriptSource


def codes(check: Check, model: nn.Module, train: Any, **options: Any) -> list[str]:
    with suppress(NoEvidence):
        return [finding.code for finding in asked(check, model, train, **options)]
    return []


class Meter:
    def __init__(self) -> None:
        self.avg = self.sum = self.count = 0.0

    def update(self, value: float, n: int = 1) -> None:
        self.sum, self.count = self.sum + value * n, self.count + n
        self.avg = self.sum / self.count


class Deaf(Meter):
    def update(self, value: float, n: int = 1) -> None:
        super().update(value, min(n, 1))


@pytest.mark.parametrize(("kind", "wrong"), [(Meter, False), (Deaf, True)])
def test_a_meter_weighs_a_value_by_its_samples(kind: type[Meter], wrong: bool) -> None:
    text = SCRIPT.replace(
        "total += len(y)\n", "total += len(y)\n            top1.update(accuracy_of(outputs, y), len(y))\n"
    )
    assert list(found(text, values() | {"Meter": kind}, [BATCH_MEANS])) == ["eval.batch-means"] * wrong


ROOTS = """
for x, y in loader:
    loss = criterion(model(x), y)
total = 0.0
for x, y in val_loader:
    mse = {squared}
    total += {root}
rmse = total / len(val_loader)
"""


@pytest.mark.parametrize(
    ("squared", "root", "apart", "wrong"),
    [
        ("functional.mse_loss(model(x), y)", "mse.sqrt().item()", 10.0, True),
        ("((model(x) - y) ** 2).mean()", "float(mse ** 0.5)", 10.0, True),
        ("functional.mse_loss(model(x), y)", "mse.sqrt().item()", 0.0, False),
        ("functional.mse_loss(model(x), y)", "mse.item()", 10.0, False),
        ("((model(x) - y) ** 2).mean((1, 2)).sum()", "mse.sqrt()", 10.0, False),
    ],
)
def test_roots_of_batches_are_not_averaged(squared: str, root: str, apart: float, wrong: bool) -> None:
    x, y = torch.randn(80, 3), torch.randn(80, 1) + apart * (torch.arange(80)[:, None] >= 60)
    data = DataLoader(TensorDataset(x, y), 20)
    model, criterion = nn.Linear(3, 1), nn.MSELoss()
    names = values() | {"model": model, "loader": data, "val_loader": data, "criterion": criterion}
    names |= {"optimizer": torch.optim.SGD(model.parameters(), 0.01), "functional": functional}
    text = ROOTS.format(squared=squared, root=root)
    assert (
        list(found(text, names | {"val_loader": DataLoader(data.dataset, 20)}, [BATCH_MEANS]))
        == ["eval.batch-means"] * wrong
    )


def each_by_itself(y_true: Tensor, y_pred: Tensor) -> Tensor:
    return ((y_pred > 0.5).float() == y_true).float().mean(1)


def largest(y_true: Tensor, y_pred: Tensor) -> Tensor:
    return (y_pred.argmax(1) == y_true.argmax(1)).float()


@pytest.mark.parametrize(("function", "used", "wrong"), [(each_by_itself, True, True), (largest, True, False)])
def test_zeros_beside_the_one_are_no_right_answers(function: Any, used: bool, wrong: bool) -> None:
    text = SCRIPT + "def accuracy(y_true, y_pred):\n    return 0\n" + "print(accuracy(y, model(x)))\n" * used
    labels = functional.one_hot(torch.arange(61) % 10, 10).float()
    val = DataLoader(TensorDataset(torch.zeros(61, 1, 8, 8), labels), 20)
    names = values() | {"val_loader": val, "accuracy": function}
    assert list(found(text, names, [WRONG_COUNT])) == ["eval.wrong-count"] * wrong


class Boxes(nn.Module):
    """Classes and boxes, these as fractions of the image."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU())
        self.scores, self.box = nn.Linear(32, 3), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.features(x)
        return {"logits": self.scores(features), "boxes": self.box(features).sigmoid()}


def squares(side: float) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    corner = torch.randint(0, 5, (128, 2), generator=generator)
    x = torch.zeros(128, 1, 8, 8)
    for image, (top, left) in zip(x, corner.tolist(), strict=True):
        image[:, top : top + 3, left : left + 3] = 1
    boxes = torch.cat([corner, corner + 3], 1) / 8 * side
    data = [(image, {"boxes": box, "labels": int(box[0] > box[1])}) for image, box in zip(x, boxes, strict=True)]
    return DataLoader(data, 32, shuffle=True, generator=generator)  # type: ignore[arg-type]


def boxes_step(sign: float) -> Any:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        x, targets = batch
        outputs = model(x)
        away = (outputs["boxes"] - targets["boxes"]).abs().mean(1)
        value = functional.cross_entropy(outputs["logits"], targets["labels"])
        value = value + sign * (1 / (1 + away)).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.detach()

    return step


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, 1e-3)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("sign", "side", "code"), [(-1.0, 1.0, ""), (1.0, 1.0, "loss.sign"), (-1.0, 64.0, "")])
def test_right_boxes_cost_less_than_those_of_other_images(sign: float, side: float, code: str) -> None:
    told = codes(SIGN, Boxes(), squares(side), step=boxes_step(sign), optimizer=adam)
    assert told == [code] * bool(code)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("side", "code"), [(1.0, ""), (64.0, "data.target-scale")])
def test_boxes_in_pixels_are_out_of_reach_of_fractions(side: float, code: str) -> None:
    told = codes(TARGET_SCALE, Boxes(), squares(side), step=boxes_step(-1.0), optimizer=adam)
    assert told == [code] * bool(code)


def cosine(steps: int, over: int, floor: float) -> list[float]:
    falls = [floor + (1 - floor) * (1 + math.cos(math.pi * i / over)) / 2 for i in range(over)]
    return (falls + [floor] * steps)[:steps]


@pytest.mark.parametrize(
    ("rates", "wrong"),
    [
        (cosine(360, 36, 0.1), True),
        (cosine(360, 360, 0.1), False),
        (cosine(360, 180, 0.1), False),
        (cosine(360, 36, 0.5), False),
        ([1.0] * 36 + [0.1] * 324, False),  # a step down, as people mean it
        ([0.1 + 0.025 * i for i in range(36)] + [1.0] * 324, False),
    ],
)
def test_a_curve_that_is_over_early_was_meant_for_less(rates: list[float], wrong: bool) -> None:
    class Stub:
        trial = SimpleNamespace(rows=rates)
        setup = SimpleNamespace(source=None, train=range(len(rates)))

    found = _ends_early(Stub(), rates, [(rates, len(rates), "step")])  # type: ignore[arg-type]
    assert (found is not None) is wrong


def sales(told_by: float) -> DataLoader[Any]:
    """Rows whose last column is the target with noise of so many of its deviations."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, 6, generator=generator)
    y = x[:, :5].sum(1) + torch.randn(600, generator=generator)
    x[:, 5] = y + told_by * y.std() * torch.randn(600, generator=generator)
    return DataLoader(TensorDataset(x, y[:, None]), 32, shuffle=True, generator=generator)


@pytest.mark.parametrize(("told_by", "wrong"), [(0.01, True), (0.3, False)])
def test_a_column_that_all_but_tells_the_target_is_asked_about(told_by: float, wrong: bool) -> None:
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
    told = asked(TARGET_IN_INPUT, model, sales(told_by), loss=nn.MSELoss())
    assert [(f.code, f.severity) for f in told] == [("data.target-in-input", "warning")] * wrong


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("divisor", "wrong"), [(85, False), (255, True)])
def test_masks_keep_the_classes_that_there_are_outputs_for(divisor: int, wrong: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(0, 4, (80, 8, 8), generator=generator)
    x = classes[:, None].float() + 0.1 * torch.randn(80, 1, 8, 8, generator=generator)
    loader = DataLoader(TensorDataset(x, classes * 85 // divisor), 8, shuffle=True, generator=generator)
    told = codes(MISSING_CLASS, nn.Conv2d(1, 4, 3, padding=1), loader, loss=nn.CrossEntropyLoss())
    assert told == ["data.missing-class"] * wrong


def test_heads_of_many_outputs_may_have_few_classes() -> None:
    data = TensorDataset(torch.randn(200, 1, 8, 8), torch.arange(200) % 5)
    assert codes(MISSING_CLASS, perceptron(), DataLoader(data, 20), loss=nn.CrossEntropyLoss()) == []


class Scenes(TensorDataset):
    """Squares as pixels of 0 to 1, or standardized, with their number and the index that nobody needs."""

    def __init__(self, count: int, *, standardized: bool) -> None:
        generator = torch.Generator().manual_seed(count)
        corner = torch.randint(0, 5, (count, 2), generator=generator)
        x = torch.rand(count, 1, 8, 8, generator=generator) * 0.1
        for image, (top, left) in zip(x, corner.tolist(), strict=True):
            image[:, top : top + 3, left : left + 3] += 0.5
        super().__init__((x - 0.15) / 0.2 if standardized else x, corner.float(), torch.arange(count))


def scenes_step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
    x, corner, _ = batch
    value = functional.smooth_l1_loss(model(x), corner) + 0.0 * corner.sum()
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value.detach()


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("standardized", [True, False])
def test_a_loss_of_more_than_outputs_and_targets_is_asked_of_the_step(standardized: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 2))
    val = DataLoader(Scenes(60, standardized=standardized), 30)
    train = DataLoader(Scenes(256, standardized=True), 32, shuffle=True)
    told = codes(SHIFT, model, train, val=val, step=scenes_step, optimizer=adam)
    assert told == ["data.shift"] * (not standardized)


COUNTED = """
def get_lr(it, most):
    return max(1e-5, 0.1 * 0.5 * (1 + math.cos(math.pi * min(it / most, 1))))
{loops}        for group in optimizer.param_groups:
            group["lr"] = lr
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
"""
LOOPS = {
    "epochs and batches": "for epoch in range(5):\n    for i, (x, y) in enumerate(loader):\n"
    "        it = epoch * len(loader) + i\n        lr = get_lr(it, most)\n",
    "a counter": "for epoch in range(5):\n    for x, y in loader:\n"
    "        lr = get_lr(steps, most)\n        steps += 1\n",
    "a range": "for steps in range(100):\n    for x, y in [draw()]:\n        lr = get_lr(steps, most)\n",
}


@pytest.mark.parametrize("loops", list(LOOPS))
@pytest.mark.parametrize(("most", "early"), [(10, True), (100, False)])
def test_a_function_that_gives_the_rate_of_each_step_is_asked_for_all(loops: str, most: int, early: bool) -> None:
    names: dict[str, Any] = values() | {"math": math, "most": most, "steps": 0}
    text = COUNTED.format(loops=LOOPS[loops])
    exec(text.partition("for ")[0], names)
    tree = ast.parse(text)
    loop = next(node for node in ast.walk(tree) if isinstance(node, ast.For))
    source = ScriptSource({"train.py": tree}, names, ("train.py", loop.lineno, loop.end_lineno or 0), 5)
    (rates,) = rates_of_steps(source, 100)
    assert len(rates) == 100
    assert rates[0] == pytest.approx(0.1)
    assert (rates[10] < 1e-4) is early


@pytest.mark.parametrize(("added", "wrong"), [("mean(1)", False), ("mean()[None]", True), ("mean(dim=-1)", False)])
def test_errors_of_each_sample_are_no_means_of_batches(added: str, wrong: bool) -> None:
    text = SCRIPT.replace("correct += (predicted == y).sum().item()", f"errors.append(outputs.abs().{added})")
    text = text.replace("    accuracy = correct / total\n", "    accuracy = torch.cat(errors).mean().item()\n")
    assert list(found(text, values(), [BATCH_MEANS])) == ["eval.batch-means"] * wrong
