"""Overlaps that turn out to be recalls or the like, for predictions of which a known part is wrong."""

from __future__ import annotations

import ast
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import read
from striate.doctor.checks.eval.counts.wrong_count import WRONG_COUNT
from striate.doctor.checks.eval.metrics.metric_functions import wrong_metrics

EVALUATED = """
def evaluate(net, data):
    hist = torch.zeros(3, 3, dtype=torch.long)
    for x, y in data:
        keep = y != 255
        places = 3 * y[keep] + net(x).argmax(1)[keep]
        hist += torch.bincount(places, minlength=9).view(3, 3)
    inter = hist.diag().double()
    iou = inter / (UNION).clamp(min=1)
    return iou.mean().item(), iou.tolist()

for x, y in loader:
    loss = loss_function(model(x), y)
    loss.backward()
    optimizer.step()
NAME, of_classes = evaluate(model, val_loader)
"""

FUNCTION = """
def mean_iou(predicted, labels):
    scores = []
    for number in range(3):
        told, true = predicted == number, labels == number
        scores.append((told & true).sum() / (UNION).sum())
    return torch.stack(scores).mean()

for x, y in loader:
    pass
"""


def maps(ignored: bool, sparse: bool = False) -> dict[str, Any]:
    """Images whose pixels tell their class, three of them; some pixels have none. `sparse`: one or two in an image."""
    labels = (torch.rand(48, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2.6).long()
    if sparse:
        labels = labels.clamp(max=1) * (torch.arange(48) % 3)[:, None, None, None]
    noise = 0.1 * torch.randn(48, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    if ignored:
        labels[:, :, 0] = 255
    data = [TensorDataset((labels + noise)[a:b], labels[a:b, 0]) for a, b in ((0, 32), (32, 48))]
    model = nn.Sequential(nn.Conv2d(1, 8, 1), nn.ReLU(), nn.Conv2d(8, 3, 1))
    return {"model": model, "loader": DataLoader(data[0], 8), "val_loader": DataLoader(data[1], 6)}


def measured(text: str, check: Any, *, ignored: bool, sparse: bool = False) -> list[str]:
    names = maps(ignored, sparse) | {"torch": torch}
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef):
            exec(ast.unparse(node), names)
    optimizer = torch.optim.Adam(names["model"].parameters(), 0.02)

    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(outputs, labels, ignore_index=255)

    given = {"val": names["val_loader"], "names": names, "loss": loss, "optimizer": optimizer}
    return [one.measured for one in read(text, check, names["model"], names["loader"], **given)]


@pytest.mark.parametrize("ignored", [True, False])
@pytest.mark.parametrize(
    ("union", "name", "said"),
    [
        ("hist.sum(0) + hist.sum(1) - inter", "miou", ""),
        ("hist.sum(1)", "miou", "their recall, and not their IoU"),
        ("hist.sum(0)", "miou", "their precision, and not their IoU"),
        ("(hist.sum(0) + hist.sum(1)) / 2", "miou", "their Dice, and not their IoU"),
        ("(hist.sum(0) + hist.sum(1)) / 2", "dice", ""),
        ("hist.sum(1)", "recall", ""),
    ],
)
def test_an_evaluation_gives_what_it_names(union: str, name: str, said: str, ignored: bool) -> None:
    text = EVALUATED.replace("UNION", union).replace("NAME", name)
    found = measured(text, WRONG_COUNT, ignored=ignored)
    assert [said in one for one in found] == [True] * bool(said)


@pytest.mark.parametrize(("union", "wrong"), [("told | true", False), ("true", True), ("told", True)])
def test_a_function_gives_what_it_is_named_for(union: str, wrong: bool) -> None:
    """Which of its arguments are the labels is unknown."""
    found = measured(FUNCTION.replace("UNION", union), SimpleNamespace(run=wrong_metrics), ignored=False)
    assert ["their precision or recall, and not their IoU" in one for one in found] == [True] * wrong


EACH_IMAGE = """
def mean_iou(predicted, labels):
    scores = []
    for told, true in zip(predicted, labels):
        for number in range(3):
            inter = ((told == number) & (true == number)).sum().item()
            union = ((told == number) | (true == number)).sum().item()
            SCORED
    return sum(scores) / len(scores)

for x, y in loader:
    pass
"""


@pytest.mark.parametrize(
    ("scored", "sparse", "wrong"),
    [
        ("scores.append((inter + 1e-6) / (union + 1e-6))", True, True),
        ("scores.append(inter / union if union else 1.0)", True, True),
        ("scores.append((inter + 1e-6) / (union + 1e-6))", False, False),
        ("scores += [inter / union] if union else []", True, False),
    ],
)
def test_absent_classes_do_not_count_as_found(scored: str, sparse: bool, wrong: bool) -> None:
    text = EACH_IMAGE.replace("SCORED", scored)
    found = measured(text, SimpleNamespace(run=wrong_metrics), ignored=False, sparse=sparse)
    assert ["over the classes that each image has or gets" in one for one in found] == [True] * wrong
