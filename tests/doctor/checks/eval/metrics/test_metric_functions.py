"""Metrics that a script computes itself, asked for what is known beforehand."""

from __future__ import annotations

import ast
import textwrap
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import digits, perceptron, read, stepped
from for_checks.scripts import SCRIPT, values
from striate.doctor.checks.eval.metrics.known_inputs import picks_rows
from striate.doctor.checks.eval.metrics.metric_functions import wrong_metrics


def test_neighbors_are_no_predictions() -> None:
    text = SCRIPT + textwrap.dedent("""
        def knn_accuracy(features, labels):
            near = (features @ features.T).fill_diagonal_(-2).argmax(1)
            return (labels[near] == labels).float().mean().item()
        """)
    names = values()
    exec(text[text.index("def knn_accuracy") :], names)
    model = perceptron()
    assert not read(text, SimpleNamespace(run=wrong_metrics), model, digits(), names=names)


CONCORDANCE = """
def concordance(risk, times, died):
    first = (times[:, None] < times[None, :]) & (died[:, None] == 1)
    higher = (risk[:, None] > risk[None, :]) + 0.5 * (risk[:, None] == risk[None, :])
    return (higher * first).sum() / COUNT
for x, y in loader:
    pass
"""


@pytest.mark.parametrize("count", ["first.size", "first.sum()", "max(first.sum(), 1)"])
def test_a_concordance_is_one_where_all_risks_are_in_order(count: str) -> None:
    names: dict[str, Any] = {"np": np}
    text = CONCORDANCE.replace("COUNT", count)
    exec(text[: text.index("for x")], names)
    said = read(text, SimpleNamespace(run=wrong_metrics), perceptron(), digits(), names=names)
    assert ["0.4286 at most" in one.measured for one in said] == [True] * (count == "first.size")


RETRIEVAL = """
def retrieval(embedded, labels):
    scores = (embedded @ embedded.T).fill_diagonal_(-2.0)
    order = scores.argsort(dim=1, descending=True)
    hits = (labels[order] == labels[:, None]).float()
    NAME = []
    for row, label in zip(hits, labels):
        count = int((labels == label).sum()) - 1
        row = row[:count]
        NAME.append((PRECISION * row).sum() / count)
    return hits[:, 0].mean(), float(np.mean(NAME))
for x, y in loader:
    pass
"""


@pytest.mark.parametrize("name", ["maps", "gaps"])
@pytest.mark.parametrize(
    ("precision", "right"),
    [
        ("row.cumsum(0) / torch.arange(1, count + 1)", True),
        ("row.cumsum(0) / count", False),
        ("row[:10].sum() / min(count, 10)", True),
        ("(row.cumsum(0) / torch.arange(1, count + 1)) * (torch.arange(count) < 50) * count / min(count, 50)", True),
        ("(row.cumsum(0) / torch.arange(1, count + 1)) * (torch.arange(count) < 50) * count / 50", True),
    ],
)
def test_an_average_precision_is_one_of_clusters(precision: str, right: bool, name: str) -> None:
    names: dict[str, Any] = {"np": np, "torch": torch}
    text = RETRIEVAL.replace("PRECISION", precision).replace("NAME", name)
    exec(text[: text.index("for x,")], names)
    said = read(text, SimpleNamespace(run=wrong_metrics), perceptron(), digits(), names=names)
    assert ["5 clusters far apart" in one.measured for one in said] == [True] * (not right and name == "maps")


SCORED = """
def average_precision(scores, relevant):
    order = scores.flatten().argsort(descending=True)
    hits = relevant[order % len(relevant)].float()
    return ((hits.cumsum(0) / torch.arange(1, len(hits) + 1)) * hits).sum() / hits.sum() / 2
for x, y in loader:
    pass
"""


def test_an_average_precision_of_scores_is_not_asked_for_neighbors() -> None:
    names: dict[str, Any] = {"torch": torch}
    exec(SCORED[: SCORED.index("for x,")], names)
    assert not read(SCORED, SimpleNamespace(run=wrong_metrics), perceptron(), digits(), names=names)


LOOP = "for x, y in loader:\n    pass\n"


CONFUSION = """
class ConfusionMatrix:
    def __init__(self, classes):
        self.classes, self.counts = classes, np.zeros((classes, classes))
    def update(self, predicted, labels):
        places = self.classes * labels.numpy() + predicted.numpy()
        self.counts += np.bincount(places, minlength=self.classes ** 2).reshape(self.counts.shape)
    def compute(self):
        both = np.diag(self.counts)
        iu = both / (UNION)
        return RETURNED
def evaluate(model, loader, classes):
    seen = ConfusionMatrix(classes)
    for x, y in loader:
        seen.update(model(x).argmax(1), y)
    return seen.compute()
evaluate(model, val_loader, classes=10)
"""


SUMS = "self.counts.sum(1) + self.counts.sum(0)"


def scores_said(text: str) -> list[str]:
    names: dict[str, Any] = {"np": np, "val_loader": digits(), "model": perceptron()}
    exec(text[: text.index("def evaluate")], names)
    said = read(text + LOOP, SimpleNamespace(run=wrong_metrics), perceptron(), digits(), val=digits(), names=names)
    return [one.measured for one in said]


@pytest.mark.parametrize("returned", ["both.sum() / self.counts.sum(), iu", "{'mean IoU': iu.mean()}", "1 - iu"])
@pytest.mark.parametrize("union", [f"{SUMS} - both", SUMS])
def test_an_object_for_a_score_is_asked_for_right_answers(union: str, returned: str) -> None:
    """But not where it gives a loss."""
    said = scores_said(CONFUSION.replace("UNION", union).replace("RETURNED", returned))
    assert ["0.5" in one for one in said] == [True] * (union == SUMS and returned != "1 - iu")


OF_MAPS = """
class MeanIoU:
    def __init__(self):
        self.scores = []
    def update(self, maps, labels):
        both = (maps * labels).sum(0)
        self.scores.append(both / (maps.sum(0) + labels.sum(0) - both))
    def compute(self):
        return {"iou": sum(self.scores).mean() / len(self.scores)}
seen = MeanIoU()
def evaluate():
    pass
"""


def test_right_answers_may_be_maps_of_zeros_and_ones() -> None:
    assert not scores_said(OF_MAPS)


def test_rows_that_a_metric_looks_at_are_no_targets() -> None:
    def picks(text: str) -> bool:
        (node,) = ast.parse(text).body
        assert isinstance(node, ast.FunctionDef)
        return picks_rows(node)

    assert picks("def accuracy(logits, index):\n    return (logits[index].argmax(1) == labels[index]).float().mean()")
    assert not picks("def accuracy(logits, labels):\n    return (logits.argmax(1) == labels).float().mean()")


RECALLS = """
class Counts:
    def __init__(self):
        self.matrix = torch.zeros(10, 10)
    def update(self, GIVEN):
        self.matrix += torch.bincount(labels * 10 + predicted, minlength=100).view(10, 10)
    def recall_per_class(self):
        return self.matrix.diag() / self.matrix.sum(RECALL).clamp(min=1)
    def precision_per_class(self):
        return self.matrix.diag() / self.matrix.sum(0).clamp(min=1)
    def compute(self):
        return {"macro_recall": self.recall_per_class().mean().item()}
def evaluate(model, loader):
    seen = Counts()
    for x, y in loader:
        seen.update(CALLED)
    return seen.compute()
evaluate(model, val_loader)
"""


@pytest.mark.parametrize(
    ("given", "called", "axis", "wrong"),
    [
        ("predicted, labels", "model(x).argmax(1), y", 0, True),
        ("predicted, labels", "model(x).argmax(1), y", 1, False),
        ("labels, predicted", "y, model(x).argmax(1)", 0, True),
        ("labels, predicted", "y, model(x).argmax(1)", 1, False),
        ("predicted, labels", "y, model(x).argmax(1)", 0, False),  # exchanged twice
    ],
)
def test_a_recall_divides_by_the_samples_of_a_class(given: str, called: str, axis: int, wrong: bool) -> None:
    text = RECALLS.replace("GIVEN", given).replace("RECALL", str(axis)).replace("CALLED", called)
    names: dict[str, Any] = {"torch": torch, "val_loader": digits(), "model": perceptron()}
    exec(text[: text.index("def evaluate")], names)
    said = read(text + LOOP, SimpleNamespace(run=wrong_metrics), perceptron(), digits(), val=digits(), names=names)
    assert ["gives the precision" in one.measured for one in said] == [True] * wrong


DICE = """
def dice(maps, masks):
    both = 2 * (maps * masks).sum((-1, -2))
    return (both / (maps.sum((-1, -2)) + masks.sum((-1, -2)))).mean()
def evaluate(model, loader):
    for x, y in loader:
        given = (model(x)CHANNEL > 0).float()
        dice(given, y)
"""


@pytest.mark.parametrize("channel", ["", ".squeeze(1)"])
def test_maps_whose_channel_is_removed_before_they_are_compared(channel: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 1, 8, 8)
    data = TensorDataset(x, (x[:, 0] > 0.5).float())
    loader, text = DataLoader(data, 16), DICE.replace("CHANNEL", channel)
    names: dict[str, Any] = {"model": nn.Conv2d(1, 1, 3, padding=1)}
    exec(text[: text.index("def evaluate")], names)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> torch.Tensor:
        return stepped(loss(model(batch[0]).squeeze(1), batch[1]), optimizer)

    options: dict[str, Any] = {"loss": nn.BCEWithLogitsLoss(), "step": step, "val": loader, "names": names}
    said = read(text + LOOP, SimpleNamespace(run=wrong_metrics), names["model"], loader, **options)
    assert ["of shapes (64, 1, 8, 8) and (64, 8, 8)" in one.measured for one in said] == [True] * (not channel)
