"""`data.leak` of full-batch training: does the loss count labels that evaluation holds out?"""

from __future__ import annotations

import ast
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from for_checks.asked import asked
from striate.doctor.checks.data.splits.held_out_labels import HELD_OUT_LABELS
from striate.doctor.setup.script_source import ScriptSource

NODES = """
for epoch in range(5):
    loss = step(model, (x, y), optimizer, criterion)
    for mask in (train_mask, val_mask):
        print((model(x).argmax(1)[mask] == y[mask]).float().mean())
"""


LISTS = """
def accuracy(split):
    right = model(x).argmax(1) == y
    return right[split].float().mean()
for epoch in range(5):
    loss = step(model, (x, y), optimizer, criterion)
    print(accuracy(data.idx["train"]), accuracy(data.idx["valid"]))
"""


def _entropy(logits: Tensor) -> Tensor:
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()


@pytest.mark.parametrize(
    ("script", "kind"),
    [(NODES, "all"), (LISTS, "all"), (NODES, "mask"), (NODES, "entropy"), (NODES, "pseudo"), ("step(x, y)", "all")],
)
def test_labels_of_nodes_that_are_measured_on_are_not_counted(script: str, kind: str) -> None:
    numbers = torch.Generator().manual_seed(0)
    y = torch.randint(0, 3, (60,), generator=numbers)
    x = torch.randn(60, 5, generator=numbers) + y[:, None]
    train = torch.arange(60) < 20
    data = SimpleNamespace(idx={"train": list(range(20)), "valid": list(range(20, 40))})

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        out, wanted = model(batch[0]), batch[1]
        if kind == "pseudo":
            wanted = torch.where(train, wanted, out.argmax(1))
        each = functional.cross_entropy(out, wanted, reduction="none")
        value = each.mean() if kind in ("all", "pseudo") else (each * train).sum() / train.sum()
        value = value + _entropy(out) if kind == "entropy" else value
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.detach()

    names = {"x": x, "y": y, "train_mask": train, "val_mask": ~train, "data": data}
    source = ScriptSource({"train.py": ast.parse(script)}, names, ("train.py", 2, 3), 5)
    found = asked(HELD_OUT_LABELS, nn.Linear(5, 3), [(x, y)] * 3, step=step, source=source)
    assert [(f.code, f.severity) for f in found] == [("data.leak", "error")] * (
        kind == "all" and script != "step(x, y)"
    )
