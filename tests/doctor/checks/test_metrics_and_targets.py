"""Metrics by batch, callbacks in the wrong mode, scores that a loss returns; boxes, targets and inputs that are scaled;
embeddings that fall into one point; batches in parts."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from asked import asked, digits, perceptron
from test_source_checks import source_of, values
from test_source_of_validation import codes
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.augmentation.exchanged import moved_back
from striate.doctor.checks.data.inputs.not_normalized import NOT_NORMALIZED
from striate.doctor.checks.data.moved.targets_moved import LEFT_BEHIND
from striate.doctor.checks.data.shift.fitted_anew import FITTED_ANEW
from striate.doctor.checks.data.shift.shift import SHIFT
from striate.doctor.checks.eval.best import WORST_KEPT
from striate.doctor.checks.eval.ranked_by_batch import RANKED_BY_BATCH
from striate.doctor.checks.loss.pairs.pairs_swapped import CHECK as PAIRS_SWAPPED
from striate.doctor.checks.loss.sign.added_scores import score_added
from striate.doctor.checks.model.unit_outputs import COLLAPSED
from striate.doctor.checks.optim.accumulation import is_divided
from striate.doctor.checks.optim.rate_too_high import LR_TOO_HIGH
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.simple_models import consult
from striate.doctor.setup.training_setup import make_setup
from striate.records import Finding


def said(check: Check, model: nn.Module, train: Any, **options: Any) -> list[Finding]:
    """What a check finds; nothing where it is not asked."""
    with suppress(NoEvidence):
        return asked(check, model, train, **options)
    return []


LOOP = """
for x, y in loader:
    pass
def evaluate():
    {total}
    for x, y in val_loader:
        {line}
    return {mean}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("total", "line", "mean", "wrong"),
    [
        ("total = 0", "total += average_precision_score(y, net(x))", "total / len(val_loader)", True),
        ("found = []", "found.append(roc_auc_score(y, net(x)))", "sum(found) / len(found)", True),
        ("found = []", "f1 = f1_score(y, net(x))\n        found.append(f1)", "np.mean(found)", True),
        ("found = []", "found.append(net(x))", "roc_auc_score(targets, torch.cat(found))", False),
        ("total = 0", "total += map_values(net(x)).sum()", "total", False),
        ("found = []", "found.append(accuracy_of(y, net(x)) * len(x))", "sum(found) / len(found)", False),
    ],
)
def test_what_ranks_samples_is_computed_of_all(total: str, line: str, mean: str, wrong: bool) -> None:
    names = values() | {"val_loader": DataLoader(TensorDataset(torch.randn(60, 3), torch.zeros(60)), 20)}
    text = LOOP.format(total=total, line=line, mean=mean)
    assert codes(text, names, RANKED_BY_BATCH) == ["eval.batch-means"] * wrong


@pytest.mark.parametrize("mean", ["sum(parts) / len(parts)", "parts"])
def test_what_ranks_samples_is_not_computed_of_parts(mean: str) -> None:
    line = "parts = [auc(s, t) for s, t in zip(scores.split(12), truth.split(12))]"
    text = f"for x, y in loader:\n    pass\ndef score(scores, truth):\n    {line}\n    return {mean}\n"
    assert codes(text, values(), RANKED_BY_BATCH) == ["eval.batch-means"] * (mean != "parts")


CALLBACKS = """
class Monitor:
    def __init__(self, monitor="val_loss", mode="min"):
        self.monitor, self.mode = monitor, mode
class ReduceLROnPlateau(Monitor):
    def __init__(self, factor=0.3, **options):
        super().__init__(**options)
class Keeper(Monitor):
    pass
callback = {call}
for x, y in loader:
    pass
"""


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("ReduceLROnPlateau(monitor='val_balanced_accuracy', factor=0.1)", "optim.scheduler-calls"),
        ("ReduceLROnPlateau(monitor='val_balanced_accuracy', mode='max')", ""),
        ("ReduceLROnPlateau(monitor='val_loss')", ""),
        ("Keeper('val_f1')", "eval.worst-kept"),
    ],
)
def test_callbacks_of_the_scripts_own_have_a_mode_that_fits(call: str, code: str) -> None:
    assert codes(CALLBACKS.format(call=call), values(), WORST_KEPT) == [code] * bool(code)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("valid_rows = self.binarizer.fit_transform(rows)", "data.label-map"),
        ("train_rows = self.binarizer.fit_transform(rows)", ""),
        ("y_val = encoder.fit_transform(names_of(val))", "data.shift"),
    ],
)
def test_labels_are_numbered_once(line: str, code: str) -> None:
    assert codes(f"{line}\nfor x, y in loader:\n    pass\n", values(), FITTED_ANEW) == [code] * bool(code)


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ("return dice_coeff(p, y)", True),
        ("return 1 - dice_coeff(p, y)", False),
        ("dice = 2 * (p * y).sum() / (p + y).sum()\n    return dice.mean()", True),
        ("dice = 1 - 2 * (p * y).sum() / (p + y).sum()\n    return dice.mean()", False),
        ("dice = 2 * (p * y).sum() / (p + y).sum()\n    return -dice.log()", False),
    ],
)
def test_a_loss_that_returns_a_score(body: str, wrong: bool) -> None:
    text = f"def dice_loss(p, y):\n    {body}\nfor x, y in loader:\n    loss = bce\n    loss += dice_loss(p, y)\n"
    assert (score_added(source_of(text)) is not None) is wrong


class Boxes(Dataset[Any]):
    """Images with one box (class, x1, y1, x2, y2), mirrored at chance."""

    def __init__(self, exchanged: bool) -> None:
        self.columns = [3, 1] if exchanged else [1, 3]

    def __len__(self) -> int:
        return 40

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(number)
        low, size = torch.rand(2, generator=generator) * 0.5, 0.1 + 0.3 * torch.rand(2, generator=generator)
        image, box = torch.zeros(1, 16, 16), torch.cat([torch.zeros(1), low, low + size])
        left, top, right, bottom = (16 * box[1:]).int().tolist()
        image[:, top : bottom + 1, left : right + 1] = 1.0
        if torch.rand(()) < 0.5:
            image = image.flip(-1)
            box[[1, 3]] = 1 - box[self.columns]
        return image, box


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("exchanged", [True, False])
def test_the_edges_of_a_box_are_exchanged_as_they_are_mirrored(exchanged: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 5))
    found = said(LEFT_BEHIND, model, DataLoader(Boxes(exchanged), 8), loss=nn.MSELoss(), task="regress")
    assert ["right edge" in one.measured for one in found] == [True] * (not exchanged)


def amounts(shift: float, scale: float) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(int(shift))
    x = torch.rand(300, 1, 6, 6, generator=generator)
    y = 1000 * x.mean((1, 2, 3)) + 200 * x[:, 0, 0, 0]
    return DataLoader(TensorDataset((x - shift) / scale, y), 30)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("prepared", [True, False])
def test_predictions_are_compared_with_targets_as_the_step_scales_them(prepared: bool) -> None:
    train, val = amounts(0.5, 0.25), amounts(0.5, 0.25) if prepared else amounts(0.0, 1.0)

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        value: Tensor = loss(model(batch[0])[:, 0], (batch[1] - 600) / 80)
        value.backward()
        optimizer.step()
        return value.detach()

    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 1))
    options: Any = {"loss": nn.MSELoss(), "step": step, "task": "regress", "optimizer": rapid}
    evidence = Evidence(make_setup(model, train, val, **options), Clock(60.0))
    scale = evidence.target_scale
    assert scale is not None
    assert float(scale.times) == pytest.approx(1 / 80, rel=1e-3)
    assert evidence.after.targets is not None
    assert abs(float(evidence.after.targets.mean())) < 1
    assert [one.code for one in said(SHIFT, model, train, val=val, **options)] == ["data.shift"] * (not prepared)


def rapid(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.03)


class Rescaling(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale - 1


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("twice", [True, False])
def test_a_network_that_rescales_what_was_scaled_already(twice: bool) -> None:
    torch.manual_seed(0)
    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    x = (x - x.min()) / (x.max() - x.min()) * (1 if twice else 255)
    model = nn.Sequential(
        Rescaling(1 / 127.5),
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(288, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )
    train = DataLoader(TensorDataset(x, y), 32, shuffle=True)
    found = said(NOT_NORMALIZED, model, train, optimizer=lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9))
    assert ["as the network rescales" in one.where for one in found] == [True] * twice


class Embedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(perceptron(), nn.Linear(10, 6))  # another number than there are classes

    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(self.body(x), dim=1)


class HardTriplets(nn.Module):
    """The farthest of the own class and the nearest of another one."""

    def __init__(self, swapped: bool) -> None:
        super().__init__()
        self.sign = -1 if swapped else 1

    def forward(self, z: Tensor, y: Tensor) -> tuple[Tensor, float]:
        apart = (2 - 2 * z @ z.T).clamp(min=1e-8).sqrt()
        same = y[:, None] == y[None]
        own, other = (apart * same).amax(1), (apart + 2 * same).amin(1)
        return functional.relu(self.sign * (own - other) + 0.1).mean(), 0.0


def of_pairs(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
    optimizer.zero_grad()
    value, _ = loss(model(batch[0]), batch[1])
    value.backward()
    optimizer.step()
    return value.detach()


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("swapped", [True, False])
def test_a_loss_that_is_soon_content_with_classes_apart(swapped: bool) -> None:
    options: Any = {"loss": HardTriplets(swapped), "step": of_pairs, "optimizer": rapid}
    found = said(PAIRS_SWAPPED, Embedding(), digits(), **options)
    assert [one.code for one in found] == ["loss.pairs-swapped"] * swapped


class Reconstructing(nn.Module):
    """Numbers that stand for an image, and the image again."""

    def __init__(self) -> None:
        super().__init__()
        self.code, self.image = nn.Linear(64, 10), nn.Linear(10, 64)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        code = self.code(x.flatten(1))
        return self.image(code), code


def test_labels_that_the_loss_does_not_get_are_not_asked_about() -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        optimizer.zero_grad()
        image, code = model(batch[0])
        value = (image - batch[0].flatten(1)).square().sum(1).mean() + code.square().sum(1).mean()
        value.backward()
        optimizer.step()
        return value.detach()

    assert said(PAIRS_SWAPPED, Reconstructing(), digits(), step=step, optimizer=rapid) == []


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("pulls_alone", [True, False])
def test_embeddings_that_fall_into_one_point(pulls_alone: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        optimizer.zero_grad()
        z = model(batch[0])
        apart = (z[:, None] - z[None]).square().sum(2)
        same = batch[1][:, None] == batch[1][None]
        value = apart.mean() if pulls_alone else apart[same].mean() + functional.relu(1 - apart[~same]).mean()
        value.backward()
        optimizer.step()
        return value.detach()

    found = said(COLLAPSED, Embedding(), digits(), step=step, optimizer=rapid)
    assert [one.code for one in found] == ["model.collapsed"] * pulls_alone


MICRO = """
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
x = torch.randn(2000, 20)
y = (x[:, :3].sum(1) > 0).long()

def get_batch():
    rows = torch.randint(2000, (4,))
    return x[rows], y[rows]

model = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
xb, yb = get_batch()
for number in range(400):
    for part in range(16):
        loss = F.cross_entropy(model(xb), yb) / 16
        xb, yb = get_batch()
        loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
"""


@pytest.mark.slow
def test_parts_of_a_step_that_draw_a_batch_each(tmp_path: Path) -> None:
    script = tmp_path / "parts.py"
    script.write_text(MICRO)
    words = [sys.executable, "-m", "striate.doctor", str(script), "--seconds", "60", "--json"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert [one["code"] for one in json.loads(done.stdout)["findings"] if one["severity"] != "note"] == []


@pytest.mark.parametrize("flips", [True, False])
def test_samples_that_look_like_another_class_until_they_are_flipped_back(flips: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = torch.zeros(2, 1, 8, 8)
    shapes[0, :, :, :3] = 1.0  # a bar at the left, and one at the right
    shapes[1, :, :, 5:] = 1.0
    labels = torch.arange(400) % 2
    x = shapes[labels] + 0.3 * torch.randn(400, 1, 8, 8, generator=generator)
    shown = x.clone()
    if flips:
        shown[:100] = shown[:100].flip(-1)
    found = moved_back(consult(x, labels, Clock(30.0)), shown, labels)
    assert found == (("flipped left to right", 0, 1) if flips else None)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("rate", "momentum", "far"), [(5e-4, 0.999, True), (1e-5, 0.999, False), (5e-4, 0.9, False)])
def test_momentum_adds_up_steps_of_one_length(rate: float, momentum: float, far: bool) -> None:
    def make(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(parameters, lr=rate, momentum=momentum)

    found = said(LR_TOO_HIGH, perceptron(), digits(), optimizer=make)
    assert ["adds up" in one.measured for one in found] == [True] * far


def test_embeddings_that_are_no_numbers_are_not_one_point() -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        optimizer.zero_grad()
        value = model(batch[0]).square().mean() * float("nan")
        value.backward()
        optimizer.step()
        return value.detach()

    assert said(COLLAPSED, Embedding(), digits(), step=step, optimizer=rapid) == []


class Heads(nn.Module):
    """Two answers for an image."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.one, self.other = nn.Flatten(), nn.Linear(64, 10), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.body(x)
        return self.one(x), self.other(x)


@pytest.mark.parametrize("divided", [True, False])
def test_of_several_losses_added_up_the_sum_is_divided(divided: bool) -> None:
    state = {"number": 0}

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        state["number"] += 1
        one, other = model(batch[0])
        loss = functional.cross_entropy(one, batch[1]) + functional.cross_entropy(other, 9 - batch[1])
        (loss / 2 if divided else loss).backward()
        if state["number"] % 2 == 0:
            optimizer.step()
            optimizer.zero_grad()
        return loss.detach()

    setup = make_setup(Heads(), digits(), step=step, optimizer=lambda p: torch.optim.SGD(p, lr=1.0))
    assert is_divided(Evidence(setup, Clock(60.0)), 2) is divided
