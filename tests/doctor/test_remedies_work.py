"""The code in a remedy is pasted into the faulty setup and run: the fault is gone then."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from for_checks.asked import digits, perceptron
from quick import few_quick
from striate.doctor.checks.every import every_check
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.preserved_state import state_preserved
from striate.doctor.setup.training_setup import make_setup
from striate.records import Finding

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from doctor_stranger import DEVELOPMENT, FOLDER, scripts

SETUP = """
x, y = digits(most=640).dataset.tensors
model = perceptron()
loss = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)

def step(model, batch, optimizer, loss):
    x, y = batch
    optimizer.zero_grad()
    out = model(x)
    value = loss(out, y)
    value.backward()
    optimizer.step()
    return value.detach()
"""
TOKENS = """
torch.manual_seed(0)
rows = torch.randint(3, 20, (256, 12)).cumsum(1) % 17 + 3
x, y = rows[:, :-1], rows[:, 1:]
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn = nn.Embedding(20, 16), nn.LSTM(16, 16, batch_first=True, bidirectional=False)
        self.head = nn.LazyLinear(20)
    def forward(self, tokens):
        return self.head(self.rnn(self.embed(tokens))[0])
model = Net()
model(x[:2])
loss = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)

def step(model, batch, optimizer, loss):
    tokens, targets = batch
    optimizer.zero_grad()
    value = loss(model(tokens).flatten(0, 1), targets.flatten())
    value.backward()
    optimizer.step()
    return value.detach()
"""
TRIPLETS = """
x, y = digits(most=640).dataset.tensors
order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
same = torch.stack([(y == k).nonzero()[i % 20, 0] for i, k in enumerate(y.tolist())])
other = torch.stack([(y != k).nonzero()[i % 300, 0] for i, k in enumerate(y.tolist())])
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16))
loss = None
optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
loader = DataLoader(TensorDataset(x, x[same], x[other]), batch_size=64, shuffle=True)

def step(model, batch, optimizer, loss):
    anchor, positive, negative = map(model, batch)
    optimizer.zero_grad()
    value = nn.TripletMarginLoss()(anchor, positive, negative)
    value.backward()
    optimizer.step()
    return value.detach()
"""


@dataclass(frozen=True)
class Pasted:
    """`fault`: pairs of texts that plant it in `setup`. `paste`: pairs of what is taken out and what is put there, in
    which `{0}`, `{1}` are the pieces of code of the remedy."""

    code: str
    fault: tuple[tuple[str, str], ...]
    paste: tuple[tuple[str, str], ...]
    setup: str = SETUP
    name: str = ""
    task: str = "classify"
    also: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.code} {self.name}".strip()


OPTIMIZER = "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)"
CASES = [
    Pasted("optim.lr-too-high", (("lr=0.1", "lr=1000.0"),), ((OPTIMIZER.replace("0.1", "1000.0"), "{0}"),)),
    Pasted("optim.lr-too-low", (("lr=0.1", "lr=1e-6"),), ((OPTIMIZER.replace("0.1", "1e-6"), "{0}"),)),
    Pasted(
        "optim.missing-zero-grad",
        (("    optimizer.zero_grad()\n", ""),),
        (("    value.backward()", "    {0}\n    value.backward()"),),
    ),
    Pasted("optim.no-step", (("    optimizer.step()\n", ""),), (("    return", "    {0}\n    return"),)),
    Pasted(
        "optim.parameters-missing",
        (("model.parameters()", "model[3].parameters()"),),
        ((OPTIMIZER.replace("model.p", "model[3].p"), "{0}"),),
    ),
    Pasted(
        "optim.clip-too-small",
        (
            (
                "    optimizer.step()",
                "    torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-6)\n    optimizer.step()",
            ),
        ),
        (("    torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-6)", "    {0}"),),
    ),
    Pasted(
        "optim.weight-decay-too-high",
        (("lr=0.1", "lr=0.1, weight_decay=3.0"),),
        ((OPTIMIZER.replace("0.1", "0.1, weight_decay=3.0"), "{0}"),),
    ),
    Pasted(
        "model.symmetric-init",
        (("loss = nn", "for p in model.parameters(): nn.init.zeros_(p)\nloss = nn"),),
        (("loss = nn", "{0}\nloss = nn"),),
    ),
    Pasted(
        "model.frozen-parameters",
        (("loss = nn", "model[1].requires_grad_(False)\nloss = nn"),),
        (("loss = nn", "{0}\nloss = nn"),),
    ),
    Pasted(
        "data.not-shuffled",
        (
            ("model = ", "x, y = x[y.argsort()], y[y.argsort()]\nmodel = "),
            ("shuffle=True", "shuffle=False"),
        ),
        (
            (
                "loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=False)",
                "dataset = TensorDataset(x, y)\nloader = {0}",
            ),
        ),
    ),
    Pasted("data.label-range", (("model = ", "y = y + 1\nmodel = "),), (("model = ", "{0}\nmodel = "),)),
    Pasted("data.not-normalized", (("model = ", "x = x * 60 + 500\nmodel = "),), (("model = ", "{0}\nmodel = "),)),
    Pasted(
        "loss.sign",
        (("value.backward()", "value = -value\n    value.backward()"),),
        (("value = -value\n    value.backward()", "loss = value = -value\n    {0}"),),
    ),
    Pasted(
        "loss.ignored-class",
        (("CrossEntropyLoss()", "CrossEntropyLoss(ignore_index=3)"),),
        (("nn.CrossEntropyLoss(ignore_index=3)", "{0}"),),
    ),
    Pasted(
        "loss.padding-counted",
        (("x, y = rows", "rows[torch.arange(12) > torch.randint(4, 12, (256, 1))] = 0\nx, y = rows"),),
        (("nn.CrossEntropyLoss()", "{0}"),),
        setup=TOKENS,
    ),
    Pasted(
        "model.sees-future",
        (("bidirectional=False", "bidirectional=True"),),
        (("bidirectional=True", "{2}"),),
        setup=TOKENS,
    ),
    Pasted(
        "data.target-in-input",
        (("x, y = rows[:, :-1], rows[:, 1:]", "tokens = rows\nx, y = tokens, tokens"),),
        (("x, y = tokens, tokens", "{0}\nx, y = inputs, targets"),),
        setup=TOKENS,
    ),
    Pasted(
        "loss.pairs-swapped",
        (("(anchor, positive, negative)", "(anchor, negative, positive)"),),
        (("nn.TripletMarginLoss()(anchor, negative, positive)", "{0}"),),
        setup=TRIPLETS,
    ),
    Pasted(
        "optim.scaler-order",
        (
            ("loss = nn", "scaler = torch.amp.GradScaler('cpu')\nloss = nn"),
            ("value.backward()", "scaler.scale(value).backward()"),
        ),
        (("    optimizer.step()", "    {0}\n    scaler.update()"),),
        name="its own step",
    ),
    Pasted(
        "optim.scaler-order",
        (
            ("loss = nn", "scaler = torch.amp.GradScaler('cpu')\nloss = nn"),
            ("value.backward()", "with torch.autocast('cpu'):\n        scaler.scale(value).backward()"),
            ("optimizer.step()", "scaler.step(optimizer)\n    scaler.update()"),
        ),
        (("with torch.autocast('cpu'):\n        scaler.scale(value).backward()", "scaler.scale(value).backward()"),),
        name="within autocast",
    ),
    Pasted(
        "loss.broadcast",
        (
            ("x, y = digits(most=640).dataset.tensors", "x, y = digits(most=640).dataset.tensors\ny = y.float()"),
            ("perceptron()", "nn.Sequential(nn.Flatten(), nn.Linear(64, 1))"),
            ("CrossEntropyLoss", "MSELoss"),
            ("lr=0.1", "lr=0.001"),
            ("loss(out, y)", "loss(out, y)"),
        ),
        (("value = loss(out, y)", "outputs = out\n    value = loss({0}, y)"),),
        task="regress",
    ),
    Pasted(
        "data.target-scale",
        (
            (
                "x, y = digits(most=640).dataset.tensors",
                "x, y = digits(most=640).dataset.tensors\ny = 1e6 + 1e5 * y.float()[:, None]",
            ),
            ("perceptron()", "nn.Sequential(nn.Flatten(), nn.Linear(64, 1))"),
            ("CrossEntropyLoss", "MSELoss"),
            ("SGD", "Adam"),
            ("lr=0.1", "lr=0.001"),
        ),
        (("model = ", "{0}\ny = {1}\nmodel = "),),
        task="regress",
    ),
    Pasted(
        "model.double-softmax",
        (("perceptron()", "nn.Sequential(*perceptron(), nn.Softmax(1))"),),
        (("nn.Sequential(*perceptron(), nn.Softmax(1))", "perceptron()"),),
    ),
    Pasted(
        "model.dropout-too-high",
        (("perceptron()", "nn.Sequential(nn.Flatten(), nn.Dropout(0.97), nn.Linear(64, 10))"),),
        (("nn.Dropout(0.97)", "{0}"),),
    ),
    Pasted(
        "model.last-layer-clipped",
        (("perceptron()", "nn.Sequential(*perceptron(), nn.ReLU())"),),
        (("nn.Sequential(*perceptron(), nn.ReLU())", "perceptron()"),),
    ),
    Pasted(
        "data.imbalance",
        (
            ("model = ", "keep = (y == 0) | (torch.arange(len(y)) % 13 == 0)\nx, y = x[keep], y[keep]\nmodel = "),
            ("batch_size=32", "batch_size=8"),
        ),
        (
            (
                "loader = DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True)",
                "counts = torch.bincount(y)\nloader = DataLoader(TensorDataset(x, y), batch_size=8, sampler={0})",
            ),
        ),
    ),
]


def planted(case: Pasted) -> str:
    text = case.setup
    for old, new in case.fault:
        assert old in text, old
        text = text.replace(old, new)
    return text


def asked(case: Pasted, text: str) -> list[Finding]:
    torch.manual_seed(0)
    names: dict[str, Any] = {
        "torch": torch, "nn": nn, "digits": digits, "perceptron": perceptron, "DataLoader": DataLoader,
        "TensorDataset": TensorDataset, "WeightedRandomSampler": WeightedRandomSampler,
    }  # fmt: skip
    exec(compile(text, "setup.py", "exec"), names)
    checks = [check for check in every_check() if case.code in check.codes and not check.of_source]
    setup = make_setup(
        names["model"], names["loader"], None, loss=names["loss"], optimizer=names["optimizer"], step=names["step"],
        task=case.task,
    )  # fmt: skip
    with state_preserved(setup):
        evidence, found = Evidence(setup, Clock(60.0)), []
        for check in checks:
            with suppress(NoEvidence):
                found += check.run(evidence)
    return [finding for finding in found if finding.code == case.code and finding.severity != "note"]


def pasted(case: Pasted, remedy: str) -> str:
    """The faulty setup with the remedy's code in it."""
    pieces, text = re.findall(r"`([^`]+)`", remedy), planted(case)
    for old, new in case.paste:
        assert old in text, old
        put = re.sub(r"\{(\d)\}", lambda found: pieces[int(found[1])], new)
        text = text.replace(old, put)
    return text


@pytest.mark.parametrize(
    "case", few_quick(CASES, [case for case in CASES if case.code == "loss.ignored-class"]), ids=str
)
def test_the_fault_is_gone_once_the_remedy_is_pasted(case: Pasted) -> None:
    found = asked(case, planted(case))
    assert found, "the fault is not found"
    text = pasted(case, found[0].remedy)
    assert not asked(case, text), f"{found[0].remedy}\n{text}"


SCRIPTS = {
    "dev2-learner-schedule-never-stepped": (("            pass\n", "            {0}\n"),),
    "dev2-hook-clip-before-backward": (
        ('        nn.utils.clip_grad_norm_(runner.model.parameters(), **cfg["optimizer_config"]["grad_clip"])\n', ""),
        ("        runner.optimizer.step()\n", "        {0}\n        runner.optimizer.step()\n"),
    ),
    "dev2-updates-clip-after-step": (
        ("        torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)\n", ""),
        ("        optimizer.step()\n", "        {0}\n        optimizer.step()\n"),
    ),
    "dev2-denoise-warmup-without-end": (('lambda step: (step + 1) / config["warmup"] * 2', "{0}"),),
    "dev2-patch-one-batch": (
        ("        logits, loss = model(X, Y)\n", "        {0}\n        logits, loss = model(X, Y)\n"),
    ),
    "dev2-patch-cleared-between-micro-steps": (
        ("        {0}\n        loss.backward()\n", "        loss.backward()\n"),
    ),
    "dev2-learner-argmax-of-batch": (("self.learn.pred.argmax(0)", "{0}"),),
    "dev2-digits-nll-of-logits": (("loss = F.nll_loss(output", "loss = {0}(output"),),
}
"""By script with a fault, what is taken out of it and what is put there."""


def first_finding(text: str, folder: Path) -> dict[str, Any]:
    """What is found first in a script; nothing where nothing is but notes."""
    folder.mkdir()
    (folder / "toydata.py").symlink_to(FOLDER / "toydata.py")
    (folder / "train.py").write_text(text)
    command = [sys.executable, "-m", "striate.doctor", "train.py", "--json", "--seconds", "40"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    return next((found for found in json.loads(done.stdout)["findings"] if found["severity"] != "note"), {})


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_fault_of_a_script_is_gone_once_the_remedy_is_pasted(name: str, tmp_path: Path) -> None:
    _, _, text, codes = scripts(DEVELOPMENT)[name]
    found = first_finding(text, tmp_path / "faulty")
    assert found["code"] in codes
    pieces = re.findall(r"`([^`]+)`", str(found["remedy"]))
    for pair in SCRIPTS[name]:
        old, new = (re.sub(r"\{(\d)\}", lambda place: pieces[int(place[1])], part) for part in pair)
        assert old in text, old
        text = text.replace(old, new)
    assert first_finding(text, tmp_path / "mended").get("code") != found["code"]
