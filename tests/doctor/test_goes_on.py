"""A script in which nothing was found goes on: what its own run shows is told, and nothing is written."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from quick import few_quick
from striate.doctor.checks.own_run import findings_of
from striate.doctor.evidence.own_run import Watcher, number_of_weights
from striate.records import Finding

SCRIPT = """
import copy, math
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
centers = 20 * torch.randn(4, 6)
y = torch.arange(4).repeat(80)
x = centers[y] + torch.randn(len(y), 6)
order = torch.randperm(len(y))
x, y = x[order], y[order]
split, scale = 230, 20.0
x_train, y_train, x_val, y_val = x[:split] / scale, y[:split], x[split:] / scale, y[split:]
train_loader = DataLoader(TensorDataset(x_train, y_train), 32, shuffle=True)
val_loader = DataLoader(TensorDataset(x_val, y_val), 64)
model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 4))
average = copy.deepcopy(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / 5))


def evaluate(net):
    net.eval()
    right, seen = 0, 0
    with torch.no_grad():
        for xb, yb in val_loader:
            right += (net(xb).argmax(1) == yb).sum().item()
            seen += len(yb)
    return right / seen


for epoch in range(6):
    model.train()
    for xb, yb in train_loader:
        loss = F.cross_entropy(model(xb), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for p, a in zip(model.parameters(), average.parameters()):
                a.lerp_(p, 0.5)
    print(f"epoch {epoch}: loss {loss.item():.4f}, {evaluate(average):.4f}")
"""
FAULTS: dict[str, list[tuple[str, str]]] = {
    "data.shift": [("x[split:] / scale", "x[split:]")],
    "model.evaluates-untrained": [("a.lerp_(p, 0.5)", "a = 0.5 * p + 0.5 * a")],
    "model.mode": [("    model.train()\n", ""), ("evaluate(average)", "evaluate(model)")],
    "optim.no-step": [("        optimizer.step()", "        optimizer.zero_grad()\n        optimizer.step()")],
    "optim.lr-schedule": [("(step + 1) / 5", "(step + 1) / 500")],
    "data.missing-class": [
        ("x[:split] / scale, y[:split]", "x[:split][y[:split] < 3] / scale, y[:split][y[:split] < 3]")
    ],
    "data.label-map": [("y[split:]\n", "(y[split:] + 1) % 4\n")],
    "eval.wrong-count": [("right / seen", "right / len(train_loader.dataset)")],
    "eval.wrong-count of own tensors": [
        ("for xb, yb in val_loader:", "for xb, yb in zip(x_val.split(64), y_val.split(64)):"),
        ("seen += len(yb)", "seen += 64"),
    ],
    "eval.worst-kept": [
        ("for epoch in range(6):", "best, kept = 1.0, None\nfor epoch in range(6):"),
        (
            '    print(f"epoch {epoch}: loss {loss.item():.4f}, {evaluate(average):.4f}")',
            "    accuracy = evaluate(model)\n    if accuracy < best:\n"
            "        best, kept = accuracy, copy.deepcopy(model.state_dict())\n"
            "model.load_state_dict(kept)\nevaluate(model)",
        ),
    ],
    "eval.batch-means": [
        ("right += (net(xb).argmax(1) == yb).sum().item()", "right += (net(xb).argmax(1) == yb).float().mean().item()"),
        ("seen += len(yb)", "seen += 1"),
        ("split, scale = 230", "split, scale = 250"),
    ],
    "optim.missing-zero-grad": [
        ("        optimizer.zero_grad()", "        if epoch % 5 == 4:\n            optimizer.zero_grad()")
    ],
    "model.graph-detached": [
        (
            "loss = F.cross_entropy(model(xb), yb)",
            "model(xb)\n        loss = F.cross_entropy(model[1:](model[0](xb).detach()), yb)",
        ),
    ],
    "loss.not-finite": [("loss.backward()", "(loss / (0 if epoch > 1 else 1)).backward()")],
}


EXAMINE = """
import json, os, sys
from pathlib import Path
from striate.doctor.diagnosis import Diagnosis
from striate.doctor.script import examined_step, run_script
examined_step.diagnose_setup = lambda *_: Diagnosis(())
for line in sys.stdin:
    folder, run_script._GOES_ON = json.loads(line)
    child = os.fork()
    if not child:
        os.chdir(folder)
        found = run_script.diagnose_script(Path("train.py"))
        print(json.dumps([finding.code for finding in found.diagnosis.findings]), flush=True)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        print("null", flush=True)
"""

Examine = Callable[..., Any]


@pytest.fixture(scope="module")
def went_on() -> Iterator[Examine]:
    """`went_on(folder, text, share=0.25)` gives the codes of what is found of a script that goes on, as if nothing had
    been found before; each in a fork of a process that has loaded the program."""
    with subprocess.Popen([sys.executable, "-c", EXAMINE], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        hears, tells = program.stdin, program.stdout
        assert hears is not None
        assert tells is not None

        def examine(folder: Path, text: str, share: float = 0.25) -> Any:
            (folder / "train.py").write_text(text)
            hears.write(f"{json.dumps([str(folder), share])}\n".encode())
            hears.flush()
            return json.loads(tells.readline())

        yield examine
        hears.close()


@pytest.mark.parametrize("code", few_quick([*FAULTS], ["eval.wrong-count"]))
def test_a_fault_shows_itself_in_the_script_s_own_run(code: str, went_on: Examine, tmp_path: Path) -> None:
    text = SCRIPT
    for old, new in FAULTS[code]:
        assert old in text
        text = text.replace(old, new)
    assert went_on(tmp_path, text) == code.split()[:1]


WRITES = [
    "open('left.txt', 'w').write('x')",
    "torch.save(model.state_dict(), 'left.pt')",
    "import os; os.makedirs('left')",
    "from pathlib import Path; Path('left.txt').write_text('x')",
    "import numpy; numpy.save('left.npy', numpy.zeros(2))",
    "import os; os.replace('train.py', 'left.py')",
    "import subprocess, sys; subprocess.run([sys.executable, '-c', 'open(\"left\", \"w\")'])",
    "import logging; logging.FileHandler('left.log')",
]


@pytest.mark.parametrize("write", few_quick(WRITES, WRITES[:1]))
def test_a_script_without_a_fault_comes_to_its_end_and_writes_nothing(
    write: str, went_on: Examine, tmp_path: Path
) -> None:
    assert went_on(tmp_path, f"{SCRIPT}    {write}\n") == []
    assert [file.name for file in tmp_path.iterdir()] == ["train.py"]


READ_AGAIN = [
    "os.makedirs('out/it', exist_ok=True); torch.save(model.state_dict(), 'out/it/best.pt');"
    " assert os.path.exists('out/it/best.pt'); model.load_state_dict(torch.load('out/it/best.pt'))",
    "Path('log.csv').open('a').write('x'); assert len(Path('log.csv').read_text()) == epoch + 1",
    "json.dump([epoch], open('log.json', 'w')); assert json.load(open('log.json')) == [epoch]",
]


@pytest.mark.parametrize("write", few_quick(READ_AGAIN, READ_AGAIN[:1]))
def test_a_script_reads_what_it_wrote_and_goes_on(write: str, went_on: Examine, tmp_path: Path) -> None:
    """Three evaluations show that it counts wrongly."""
    text = f"import json, os\nfrom pathlib import Path\n{SCRIPT}    {write}\n"
    for old, new in FAULTS["eval.wrong-count"]:
        text = text.replace(old, new)
    assert went_on(tmp_path, text) == ["eval.wrong-count"]
    assert [file.name for file in tmp_path.iterdir()] == ["train.py"]


@pytest.mark.slow
def test_a_script_that_waits_is_ended(went_on: Examine, tmp_path: Path) -> None:
    went_on(tmp_path, f"{SCRIPT}    import time; time.sleep(600)\n", share=0.05)


@pytest.mark.slow
def test_it_goes_on_as_it_would_have(tmp_path: Path) -> None:
    """Behind a whole diagnosis, with dropout and batch norm, losses are those of the script run by itself."""
    kept = "\nimport sys\nprint([round(value, 6) for value in losses], file=sys.__stderr__)\n"
    text = SCRIPT.replace("loss.backward()", "loss.backward(); losses.append(loss.item())").replace(
        "for epoch in range(6):", "losses = []\nfor epoch in range(6):"
    )
    text = text.replace("nn.ReLU()", "nn.BatchNorm1d(32), nn.ReLU()").replace("lr=0.1", "lr=0.1, momentum=0.9")
    text = text.replace("evaluate(average)", "evaluate(model)").replace("average = copy.deepcopy(model)\n", "")
    text = text.replace(
        text[text.index("        with torch.no_grad():\n            for p") : text.index("    print(f")], ""
    )
    script = tmp_path / "train.py"
    script.write_text(text + kept)
    alone, examined = (
        subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path).stderr.splitlines()[-1]
        for command in (
            [sys.executable, "train.py"],
            [sys.executable, "-m", "striate.doctor", "train.py", "--seconds", "20"],
        )
    )
    assert alone.startswith("[1.")
    assert alone == examined


def rewards(still: str) -> list[Finding]:
    """What is found of 120 steps in which a critic learns from its target, and an actor."""
    torch.manual_seed(0)
    critic, actor = nn.Linear(3, 1), nn.Linear(3, 3)
    target = copy.deepcopy(critic)
    watcher = Watcher(float("inf"), {id(critic): "critic", id(actor): "actor", id(target): "target"})
    held = {"critic": critic, "actor": actor}
    optimizers = [torch.optim.SGD(net.parameters(), 0.01) for name, net in held.items() if name != still]

    def ask(network: nn.Module, *args: torch.Tensor) -> Any:
        watcher.enter(network, args)
        output = network(*args)
        watcher.leave(network, args, output)
        return output

    for network in (critic, actor, target):
        watcher.of(network).before = number_of_weights(network)
    for _ in range(60):
        x = torch.randn(8, 3)
        with torch.no_grad():
            values = ask(target, x)
        ((ask(critic, x) - values - 1) ** 2).mean().backward()
        (-ask(critic, ask(actor, x))).mean().backward()
        for optimizer in optimizers:
            watcher.stepping(optimizer)
            watcher.stepping(optimizer)
            optimizer.step()
            optimizer.zero_grad()
        if still != "target":
            for a, b in zip(target.parameters(), critic.parameters(), strict=True):
                a.data.lerp_(b.data, 0.1)
    watcher.run.ended = True
    return findings_of(watcher.run, of_rewards=True)


@pytest.mark.parametrize(
    ("still", "codes"), [("", []), ("target", ["reward.target-stale"]), ("actor", ["optim.parameters-missing"])]
)
def test_networks_of_rewards_that_never_change(still: str, codes: list[str]) -> None:
    assert [finding.code for finding in rewards(still)] == codes
