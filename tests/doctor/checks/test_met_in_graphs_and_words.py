"""Nodes of a graph that are held out and counted, or measured on; ends of sentences that are padding; with twins."""

from __future__ import annotations

import ast
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from asked import asked
from torch import Tensor, nn
from torch.nn import functional

from striate.doctor.checks.data.splits.held_out_labels import HELD_OUT_LABELS
from striate.doctor.checks.eval.wrong_count import WRONG_COUNT
from striate.doctor.checks.loss.counted.ignored import IGNORED_CLASS
from striate.doctor.script.drawn_batches import never_drawn, with_attributes_named
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


@pytest.mark.parametrize(
    ("names", "tags", "end", "wrong"),
    [
        ({"EOS": 0}, False, 0, True),
        ({"vocab": {"<pad>": 0, "</s>": 0}}, False, 0, True),
        ({"cfg": SimpleNamespace(eos_id=0)}, False, 0, True),
        ({"end": 0}, False, 0, False),
        ({"EOS": 0}, False, 2, False),
        ({"EOS": 0}, True, 0, False),
    ],
)
def test_an_end_of_sentences_that_is_padding_is_never_learned(
    names: dict[str, Any], tags: bool, end: int, wrong: bool
) -> None:
    numbers = torch.Generator().manual_seed(0)
    rows = torch.zeros(24, 9, dtype=torch.long)
    for number, row in enumerate(rows):
        length = 3 + number % 5
        row[0], row[1 + length] = 1, end
        row[1 : 1 + length] = torch.randint(3, 9, (length,), generator=numbers)
    wanted = torch.where(rows > 0, rows * 5 % 7 + 1, 0)[:, :-1] if tags else rows[:, 1:]

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        value = functional.cross_entropy(model(batch[0]).transpose(1, 2), batch[1], ignore_index=0)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.detach()

    source = ScriptSource({"train.py": ast.parse("step()")}, names, ("train.py", 1, 1), 5)
    model = nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 9))
    found = asked(IGNORED_CLASS, model, [(rows[:, :-1], wanted)] * 3, step=step, source=source)
    assert [f.code for f in found] == ["loss.ignored-class"] * wrong


@pytest.mark.parametrize(
    ("share", "wrong"),
    [("sum() / len(y)", True), ("sum() / mask.sum()", False), ("float().mean()", False)],
)
def test_an_accuracy_of_a_part_of_the_nodes_is_not_divided_by_all(share: str, wrong: bool) -> None:
    numbers = torch.Generator().manual_seed(0)
    y = torch.randint(0, 3, (60,), generator=numbers)
    x, train = torch.randn(60, 5, generator=numbers), torch.arange(60) < 20
    model = nn.Linear(5, 3)
    names: dict[str, Any] = {"x": x, "y": y, "train_mask": train, "val_mask": torch.arange(60) > 40, "model": model}
    script = f"""
def test():
    right = model(x).argmax(1) == y
    return [float(right[mask].{share}) for mask in (train_mask, val_mask)]
for epoch in range(5):
    step(model, (x, y), optimizer, criterion)
    train_acc, val_acc = test()
"""
    exec(script.split("for epoch")[0], names)
    source = ScriptSource({"train.py": ast.parse(script)}, names, ("train.py", 5, 6), 5)
    found = asked(WRONG_COUNT, model, [(x, y)] * 3, source=source)
    assert [f.code for f in found] == ["eval.wrong-count"] * wrong


HELD = """
for epoch in range(100):
    optimizer.zero_grad()
    out = model(data.x, data.edge_index)
    loss = functional.cross_entropy(out[data.train_mask], data.y[data.train_mask])
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize("moves", [False, True])
def test_what_an_object_holds_for_all_samples_is_a_batch(moves: bool) -> None:
    """As `data.x` and `data.y` of a graph; but not what the loop itself gives the object anew."""
    data = SimpleNamespace(x=torch.randn(40, 5), y=torch.arange(40) % 3, train_mask=torch.arange(40) < 20)
    data.edge_index = torch.zeros(2, 90, dtype=torch.long)
    text = HELD + "    data.x = data.x + 1\n" * moves
    names = {"data": data, "model": nn.Linear(5, 3), "functional": functional}
    (loop,) = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.For))
    made, named = with_attributes_named(loop, names)
    found = never_drawn(made, named)
    if moves:
        assert (made, found) == (loop, None)
        return
    assert found is not None
    drawn = found[1]()
    assert [any(part is one for part in drawn) for one in (data.x, data.y, data.train_mask)] == [True] * 3
    assert len(drawn) == 3
    assert "data.edge_index" in ast.unparse(made)
