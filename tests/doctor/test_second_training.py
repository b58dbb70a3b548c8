"""A script that trains in several loops: each is examined in its turn, or by its number."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.script.training_loop import TrainingLoop
from striate.doctor.script.validation_data import are_of_another_training, find_validation
from striate.doctor.setup.script_source import ScriptSource

TEACHER_AND_STUDENT = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(512, 8)
y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
train_loader = DataLoader(TensorDataset(x[:384], y[:384]), 32, shuffle=True)
val_loader = DataLoader(TensorDataset(x[384:], y[384:]), 128)


def fit(teacher):
    optimizer = torch.optim.Adam(teacher.parameters(), lr=1e-2)
    for epoch in range(3):
        for xb, yb in train_loader:
            loss = nn.functional.cross_entropy(teacher(xb), yb)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def distill(student, teacher):
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for epoch in range(3):
        for xb, yb in train_loader:
            with torch.no_grad():
                wanted = teacher(xb).softmax(1)
            loss = nn.functional.cross_entropy(student(xb), wanted)
            optimizer.zero_grad()
            loss.backward()
        wrong = (student(x[384:]).argmax(1) != y[384:]).sum().item()


def never_called(model):
    for xb, yb in train_loader:
        model(xb).sum().backward()


teacher = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 3))
fit(teacher)
distill(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)), teacher)
"""
WITH_STEPS = TEACHER_AND_STUDENT.replace(
    "            loss.backward()\n        wrong",
    "            loss.backward()\n            optimizer.step()\n        wrong",
)
DETACHED = WITH_STEPS.replace("student(xb), wanted)", "student(xb).detach().requires_grad_(), wanted)")
UNTAUGHT = WITH_STEPS.replace(
    "nn.Linear(16, 3)), teacher)", "nn.Linear(16, 3)), nn.Sequential(nn.Linear(8, 64), nn.Linear(64, 3)))"
)
OTHER_EVALUATED = WITH_STEPS.replace("wrong = (student(", "wrong = (teacher(")
RIVALS = """
for real in loader:
    for _ in range(5):
        critic(real).mean().backward()
        d_optimizer.step()
    critic(generator(z)).mean().backward()
    g_optimizer.step()
"""
HELPER = """
def take(loss):
    loss.backward()

for x, y in loader:
    take(model(x).sum())
    optimizer.step()
"""
IN_ONE_FILE = """
for x, y in loader:
    model(x).sum().backward()
for x, y in loader:
    tuned(x).sum().backward()
"""


AGAIN = """
def fit(net, optimizer):
    for epoch in range(3):
        for xb, yb in train_loader:
            loss = nn.functional.cross_entropy(net(xb), yb)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 3))
fit(net, torch.optim.Adam(net.parameters(), lr=1e-2))
net[0].requires_grad_(False)
optimizer = torch.optim.Adam(net[2].parameters(), lr=1e-2)
net[2] = nn.Linear(64, 3)
fit(net, optimizer)
"""
CALLED_TWICE = """
def epoch(model):
    for x, y in loader:
        model(x).sum().backward()

def fit(model):
    for _ in range(3):
        epoch(model)

def unused():
    fit(other)

for fold in range(3):
    fit(folds[fold])
fit(tuned)
"""


def others(text: str, line: int, end: int) -> list[str]:
    return ScriptSource({"a.py": ast.parse(text)}, {}, ("a.py", line, end), None).other_trainings()


@pytest.mark.parametrize(
    ("text", "loop", "expected"),
    [
        (TEACHER_AND_STUDENT, (16, 20), ["a.py, line 26"]),
        (TEACHER_AND_STUDENT, (26, 31), ["a.py, line 16"]),
        (RIVALS, (3, 5), []),
        (RIVALS, (2, 7), []),
        (HELPER, (5, 7), []),
        (IN_ONE_FILE, (2, 3), ["a.py, line 4"]),
    ],
)
def test_other_loops_that_train_are_named(text: str, loop: tuple[int, int], expected: list[str]) -> None:
    assert others(text, *loop) == expected


def test_a_function_that_is_called_again_trains_again() -> None:
    calling = frozenset({("a.py", 4), ("a.py", 8), ("a.py", 14)})
    source = ScriptSource({"a.py": ast.parse(CALLED_TWICE)}, {}, ("a.py", 3, 4), None, calling=calling)
    assert source.other_trainings() == ["a.py, line 15"]


def told(folder: Path, text: str, *words: str) -> tuple[int, dict[str, Any]]:
    (folder / "train.py").write_text(text)
    command = [sys.executable, "-m", "striate", "doctor", "train.py", "--seconds", "20", "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    document: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, document


NUMBER_2 = ("--training", "2")


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), NUMBER_2])
@pytest.mark.parametrize(
    ("text", "code"),
    [
        (WITH_STEPS, None),
        (DETACHED, "model.graph-detached"),
        (UNTAUGHT, "model.frozen-parameters"),
        (OTHER_EVALUATED, "model.evaluates-untrained"),
    ],
)
def test_the_second_is_examined_after_the_first(
    tmp_path: Path, text: str, code: str | None, words: tuple[str, ...]
) -> None:
    _, document = told(tmp_path, text, *words)
    assert ("line 16" in document["subject"]) is not bool(words)
    assert "line 26" in document["subject"]
    assert "the first step of its 2nd loop" in document["subject"]
    assert next((found["code"] for found in document["findings"] if found["severity"] != "note"), None) == code
    assert document["elsewhere"] == ["train.py, line 16"] * bool(words)


@pytest.mark.slow
def test_a_training_after_a_faulty_one_is_named_only(tmp_path: Path) -> None:
    text = WITH_STEPS.replace("cross_entropy(teacher(xb), yb)", "cross_entropy(teacher(xb).detach(), yb)")
    text = text.replace("            loss.backward()\n", "            loss.requires_grad_().backward()\n", 1)
    _, document = told(tmp_path, text)
    assert document["elsewhere"] == ["train.py, line 26"]
    assert "line 16" in document["subject"]
    assert "line 26" not in document["subject"]
    assert document["findings"][0]["code"] == "model.graph-detached"


UNEVEN = """
def accuracy(model, loader):
    right = 0.0
    with torch.no_grad():
        for xb, yb in loader:
            right += (model(xb).argmax(1) == yb).float().mean().item()
    return right / len(loader)


def distill"""


@pytest.mark.slow
def test_a_training_that_is_only_measured_wrongly_does_not_hide_the_next(tmp_path: Path) -> None:
    text = DETACHED.replace("y[384:]), 128)", "y[384:]), 100)").replace("def distill", UNEVEN.lstrip(), 1)
    text = text.replace("step()\n", "step()\n        print(accuracy(teacher, val_loader))\n", 1)
    _, document = told(tmp_path, text)
    codes = [finding["code"] for finding in document["findings"]]
    assert codes[0] == "model.graph-detached"
    assert "eval.batch-means" in codes


@pytest.mark.slow  # a number that is none is refused in the same way
def test_a_training_that_does_not_come_is_refused(tmp_path: Path) -> None:
    code, document = told(tmp_path, TEACHER_AND_STUDENT, "--training", "2")
    assert code == 2
    assert document["error"]["where"] == "--training"
    assert document["error"]["got"] == "train.py trains in 1 loop"
    assert document["error"]["remedy"] == "striate doctor train.py --training 1"


@pytest.mark.slow
def test_a_number_of_no_training_is_refused(tmp_path: Path) -> None:
    assert told(tmp_path, TEACHER_AND_STUDENT, "--training", "0")[0] == 2


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), NUMBER_2])
def test_the_second_call_of_a_function_that_trains_is_examined(tmp_path: Path, words: tuple[str, ...]) -> None:
    """A head that is put in after the optimizer was made, which the second training goes on with."""
    _, document = told(tmp_path, WITH_STEPS.split("def fit")[0] + AGAIN, *words)
    assert "the first step of its 2nd loop" in document["subject"]
    assert "optim.parameters-missing" in [finding["code"] for finding in document["findings"]]


COMPARED = """
def fit(net):
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4)
    for xb, yb in train_loader:
        loss = nn.functional.cross_entropy(net(xb), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return (net(x[384:]).argmax(1) == y[384:]).float().mean().item()


narrow = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
print(fit(narrow))
print(fit(nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 3))))
"""


@pytest.mark.slow
def test_a_network_that_an_earlier_training_hardly_changed_had_an_optimizer(tmp_path: Path) -> None:
    _, document = told(tmp_path, WITH_STEPS.split("def fit")[0] + COMPARED, "--training", "2")
    assert "optim.parameters-missing" not in [finding["code"] for finding in document["findings"]]


SCALES_FIRST = """
import torch
from torch import nn


class Estimator:
    def fit(self, x, y, x_val, y_val):
        self.mean, self.std = x.mean(0), x.std(0)
        self.net = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 1))
        optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-2)
        z = (x - self.mean) / self.std
        for epoch in range(40):
            for rows in torch.randperm(len(z)).split(32):
                loss = nn.functional.mse_loss(self.net(z[rows])[:, 0], y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            error = (self.predict(x_val) - y_val).abs().mean()
        return self

    @torch.no_grad()
    def predict(self, x):
        return self.net((x - self.mean) / self.std)[:, 0]


torch.manual_seed(0)
x_train, x_val = 500 + 40 * torch.randn(800, 4), 500 + 40 * torch.randn(200, 4)
y_train, y_val = (((x[:, 0] - 500) / 40).tanh() + (x[:, 1] - 500).abs() / 80 for x in (x_train, x_val))
model = Estimator().fit(x_train, y_train, x_val, y_val)
"""


@pytest.mark.slow
def test_validation_that_an_estimator_scales_before_it_asks_its_network(tmp_path: Path) -> None:
    script = tmp_path / "estimator.py"
    script.write_text(SCALES_FIRST)
    words = [sys.executable, "-m", "striate.doctor", str(script), "--seconds", "30", "--json"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert [one["code"] for one in json.loads(done.stdout)["findings"] if one["severity"] != "note"] == []


@pytest.mark.parametrize("scales", [False, True])
def test_a_method_that_is_given_validation_is_read(scales: bool) -> None:
    x = torch.zeros(16, 4)
    frame = Estimator(scales).fit(x, torch.zeros(16))
    loop = TrainingLoop(print, DataLoader(TensorDataset(torch.zeros(8, 4)), 8), "here", {})
    val = find_validation(loop, [frame], torch.zeros(8, 4))
    assert (val is not None and val.dataset.tensors[0] is x) is not scales


class Estimator:
    """As those of Keras are: what is kept for validation goes into a method of its own."""

    def __init__(self, scales: bool) -> None:
        self.ask = self.scaled if scales else self.evaluate

    def fit(self, x_val: Tensor, y_val: Tensor) -> Any:
        return self.ask(x_val, y_val)

    def evaluate(self, x: Tensor, y: Tensor) -> Any:
        return self.answers(torch.as_tensor(x)) or len(y)

    def answers(self, x: Tensor) -> Any:
        return next(sys._getframe(3) for _ in x.split(16))

    def scaled(self, x: Tensor, y: Tensor) -> Any:
        return self.answers(x / 255) or len(y)


def test_loaders_of_a_training_to_come_are_no_validation() -> None:
    loaders: list[DataLoader[Any]] = [DataLoader(TensorDataset(torch.zeros(8, 2), torch.zeros(8))) for _ in range(3)]
    first, second, val = loaders
    assert are_of_another_training({"train_loader": second, "val_loader": val}, first)
    assert not are_of_another_training({"train_loader": first, "val_loader": val}, first)
    assert not are_of_another_training({"val_loader": val}, first)
    assert not are_of_another_training({"train_loader": DataLoader(first.dataset, 4), "val_loader": val}, first)


@pytest.mark.parametrize(("trains", "found"), [("source_loader", False), ("icons", True)])
def test_validation_that_is_named_after_a_training_to_come_is_none(trains: str, found: bool) -> None:
    data = TensorDataset(torch.randn(64, 2), torch.zeros(64))
    source_loader, icons = DataLoader(data, 8), DataLoader(TensorDataset(*data.tensors), 8)
    icons_val = (torch.randn(32, 2), torch.zeros(32))
    (frame,) = [frame for frame in user_frames_here() if "icons_val" in frame.f_locals]
    batches = {"source_loader": source_loader, "icons": icons}[trains]
    loop = TrainingLoop(print, batches, "here", {})
    val = find_validation(loop, [frame], torch.zeros(8, 2))
    assert (val is not None and val.dataset.tensors[0] is icons_val[0]) == found


def user_frames_here() -> list[Any]:
    frame, found = sys._getframe(1), list[Any]()
    while frame is not None:
        found.append(frame)
        frame = frame.f_back  # type: ignore[assignment]
    return found
