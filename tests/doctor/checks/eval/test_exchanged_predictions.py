"""Scores that stay 1 where samples get the right predictions of others."""

from __future__ import annotations

import ast
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import said
from striate.doctor.checks.eval.counts.wrong_count import WRONG_COUNT
from striate.doctor.setup.script_source import ScriptSource

F1_OF_TAGS = """
def runs(tags):
    found, start = set(), 0
    for place in range(1, len(tags) + 1):
        if place == len(tags) or tags[place] != tags[start]:
            if tags[start]:
                found.add((start, place, tags[start]))
            start = place
    return found

def evaluate(net, data):
    gold, told, number = set(), set(), 0
    with torch.no_grad():
        for x, y in data:
            for wanted, tags in zip(y.tolist(), net(x).argmax(-1).tolist()):
                wanted, tags = ([tag for tag, true in zip(row, wanted) if true >= 0] for row in (wanted, tags))
                gold{collects_wanted}
                told{collects_tags}
                number += 1
    right = len(gold & told)
    return {{"f1": 2 * right / (len(gold) + len(told))}}

for epoch in range(3):
    for x, y in loader:
        loss = loss_function(model(x), y)
        loss.backward()
        optimizer.step()
    found = evaluate(model, val_loader)
"""


def tagged(padded: bool) -> dict[str, Any]:
    """Sentences of six words, or of five and one of padding, each with the tag that its word has."""
    tokens = torch.randint(0, 12, (240, 6), generator=torch.Generator().manual_seed(0))
    tags = tokens // 4
    if padded:
        tags[::2, -1] = -100
    loaders = [DataLoader(TensorDataset(tokens[a:b], tags[a:b]), 40) for a, b in ((0, 160), (160, 240))]
    model = nn.Sequential(nn.Embedding(12, 8), nn.Linear(8, 3))
    return {"model": model, "loader": loaders[0], "val_loader": loaders[1]}


def loss_of_tags(outputs: Tensor, tags: Tensor) -> Tensor:
    return functional.cross_entropy(outputs.flatten(0, 1), tags.flatten())


def found_in(text: str, padded: bool) -> list[str]:
    names, tree = tagged(padded), ast.parse(text)
    namespace: dict[str, Any] = {"torch": torch}
    functions = ast.Module([node for node in tree.body if isinstance(node, ast.FunctionDef)], [])
    exec(compile(functions, "t.py", "exec"), namespace)
    names |= {name: namespace[name] for name in ("evaluate", "runs")}
    model, optimizer = names["model"], torch.optim.Adam(names["model"].parameters(), 0.05)
    loop = next(n for n in ast.walk(tree) if isinstance(n, ast.For) and ast.unparse(n.iter) == "loader")
    source = ScriptSource({"t.py": tree}, names, ("t.py", loop.lineno, loop.end_lineno or 0), 3)
    given = {"loss": loss_of_tags, "optimizer": optimizer, "val": names["val_loader"], "source": source}
    return [finding.code for finding in said(WRONG_COUNT, model, names["loader"], **given)]


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize(
    ("collects", "wrong"),
    [
        (" |= runs({})", True),
        (".update(runs({}))", True),
        (" |= {{(number, *run) for run in runs({})}}", False),
    ],
)
def test_what_is_found_belongs_to_its_sample(collects: str, wrong: bool, padded: bool) -> None:
    text = F1_OF_TAGS.format(collects_wanted=collects.format("wanted"), collects_tags=collects.format("tags"))
    assert found_in(text, padded) == ["eval.wrong-count"] * wrong
