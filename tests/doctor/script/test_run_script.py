"""A script is diagnosed at its first optimizer step, or after some updates that it makes itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from striate.doctor.script import run_script
from striate.errors import UsageError


@pytest.mark.parametrize(
    ("optimizer", "of_inputs", "expected"), [(False, False, 1), (True, False, 0), (False, True, 0)]
)
def test_gradients_of_weights_are_a_training_unless_an_optimizer_is_to_make_it(
    monkeypatch: pytest.MonkeyPatch, optimizer: bool, of_inputs: bool, expected: int
) -> None:
    found = list[Any]()
    monkeypatch.setattr(run_script._Catch, "_diagnose", lambda _, given: found.append(given))
    monkeypatch.setattr(run_script, "_has_optimizer", lambda: optimizer)
    network, x = nn.Linear(3, 1), torch.ones(2, 3, requires_grad=True)
    with run_script._Catch(60).watching():
        for _ in range(70):
            torch.autograd.grad(network(x).sum(), x if of_inputs else network.parameters())
    assert found == [None] * expected


def test_an_optimizer_that_exists_is_found() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))])
    assert run_script._has_optimizer()
    assert optimizer.state_dict()


def weights_of(number: int) -> list[Tensor]:
    return [torch.ones(1, requires_grad=True) for _ in range(number)]


def test_several_tensors_with_gradients_are_weights_too() -> None:
    assert run_script._are_weights(weights_of(2))
    assert not run_script._are_weights(weights_of(1))
    assert not run_script._are_weights([2 * weight for weight in weights_of(2)])
    assert run_script._are_weights(nn.Parameter(torch.ones(1)))


OWN_ADAM = """
import torch
from torch import nn
from torch.autograd import grad
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(768, 10)
y = (x[:, 0] + x[:, 1] > 0).long()
loader = DataLoader(TensorDataset(x, y), 32, shuffle=True)
net = nn.Sequential(nn.Linear(10, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2))
weights = list(net.parameters())
first, second, step = [torch.zeros_like(w) for w in weights], [torch.zeros_like(w) for w in weights], 0
for epoch in range(10):
    for xb, yb in loader:
        loss = nn.functional.cross_entropy(net(xb), LABELS)
        step += 1
        for number, (w, g) in enumerate(zip(weights, grad(loss, weights))):
            first[number] = 0.9 * first[number] + 0.1 * g
            second[number] = 0.999 * second[number] + 0.001 * g * g
            scale = (second[number] / (1 - 0.999**step)).sqrt() + 1e-8
            w.data -= 1e-3 * first[number] / (1 - 0.9**step) / scale
"""


@pytest.mark.slow
@pytest.mark.parametrize(("labels", "code"), [("yb", None), ("yb[torch.randperm(len(yb))]", "data.step-labels")])
def test_a_script_that_updates_its_weights_itself(tmp_path: Path, labels: str, code: str | None) -> None:
    script = tmp_path / "own.py"
    script.write_text(OWN_ADAM.replace("LABELS", labels))
    words = [sys.executable, "-m", "striate", "doctor", str(script), "--seconds", "30", "--json"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    document = json.loads(done.stdout)
    assert ", no optimizer, no validation data found; run as it is until some of its steps" in document["subject"]
    loud = [one["code"] for one in document["findings"] if one["severity"] != "note"]
    assert loud[:1] == ([] if code is None else [code])


@pytest.mark.parametrize(
    ("name", "got", "remedy"),
    [
        ("trian.py", "which does not exist", "striate doctor 'my folder/train.py'"),
        ("else.py", "which does not exist", "check the path: ls 'my folder'"),
        ("kept.py", "a folder", "check the path: ls 'my folder'"),
    ],
)
def test_a_script_that_does_not_exist_is_named_with_one_of_a_near_name(
    name: str, got: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("my folder")
    (folder / "kept.py").mkdir(parents=True)
    (folder / "train.py").touch()
    with pytest.raises(UsageError) as caught:
        run_script.diagnose_script(folder / name)
    assert caught.value.got == f"{folder / name}, {got}, seen from {tmp_path}"
    assert caught.value.remedy == remedy


LOADING = """
import torch
from torch.utils.data import DataLoader, TensorDataset

def main():
    net, data = torch.nn.Linear(3, 2), TensorDataset(torch.randn(SAMPLES, 3), torch.zeros(SAMPLES).long())
    loader = DataLoader(data, batch_size=64, drop_last=True)
    for x, y in loader:
        torch.nn.functional.cross_entropy(net(x), y).backward()

main()
"""


@pytest.mark.parametrize(
    ("samples", "where", "got"),
    [
        (0, "training loader", "no batch of 0 samples"),
        (40, "training loader", "no batch of 40 samples: batches of 64, and drop_last drops the only one"),
        (80, "script", "ends after 1 backward pass and no optimizer step"),
    ],
)
@pytest.mark.each_nth(1)
def test_a_loader_without_a_batch_is_named_though_the_script_has_ended(
    samples: int, where: str, got: str, tmp_path: Path
) -> None:
    script = tmp_path / "short.py"
    script.write_text(LOADING.replace("SAMPLES", str(samples)))
    with pytest.raises(UsageError) as caught:
        run_script.diagnose_script(script)
    assert caught.value.where == where
    assert got in caught.value.got


TRAINS_IN_A_LOOP_OVER_METRICS = """
import torch
from torch import nn

x = torch.randn(256, 8)
y = (x[:, 0] > 0).long()
model = nn.Linear(8, 2)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
history = {"loss": [], "accuracy": []}


def run():
    with open("calls.txt", "a") as calls:
        calls.write("run\\n")
    for first in range(0, 256, 32):
        outputs = model(x[first : first + 32])
        loss = nn.functional.cross_entropy(outputs, y[first : first + 32])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item(), (outputs.argmax(1) == y[first : first + 32]).float().mean().item()


for name, value in zip(history, run()):
    history[name].append(value)
"""


def test_the_function_that_trains_is_not_called_to_count_the_epochs(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAINS_IN_A_LOOP_OVER_METRICS)
    command = [sys.executable, "-m", "striate", "doctor", "train.py", "--seconds", "5"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert (tmp_path / "calls.txt").read_text() == "run\n"
