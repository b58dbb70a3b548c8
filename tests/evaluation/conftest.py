"""Stand-ins for the tasks: a class of `Task` in a few lines, with scikit-learn for the numbers."""

from __future__ import annotations

import pytest
from sklearn.metrics import accuracy_score, f1_score, root_mean_squared_error, top_k_accuracy_score
from torch.nn import functional

from striate.statistics.intervals import wilson
from striate.tasks.classify.assess import table_of_classes
from striate.tasks.metric import Metric
from striate.tasks.task import Task


class Classify(Task):
    name = "classify"
    metrics = (Metric("accuracy", unit="share"),)
    outputs = 0

    def __init__(self, classes: int) -> None:
        self.outputs = classes
        self.classes = tuple("abcd"[:classes])

    def loss_sum(self, outputs, targets):
        return functional.cross_entropy(outputs, targets, reduction="sum")

    def decode(self, outputs):
        return outputs.softmax(1)

    def measure(self, decoded, targets):
        labels = range(self.outputs)
        return {
            "accuracy": accuracy_score(targets, decoded.argmax(1)),
            "top5": top_k_accuracy_score(targets, decoded, k=min(5, self.outputs - 1), labels=labels),
            "macro_f1": f1_score(targets, decoded.argmax(1), labels=labels, average="macro", zero_division=0),
        }

    def table_of_classes(self, decoded, targets, groups=()):
        return table_of_classes(decoded.argmax(1), targets, self.classes, groups)

    def interval(self, decoded, targets, groups=()):
        del groups
        ends = wilson(int((decoded.argmax(1) == targets).sum()), len(targets))
        return {"accuracy_interval": [ends.low, ends.high]}


class Regress(Task):
    name = "regress"
    metrics = (Metric("rmse", higher_is_better=False),)
    outputs = 1

    def loss_sum(self, outputs, targets):
        return ((outputs - targets) ** 2).sum()

    def measure(self, decoded, targets):
        return {"rmse": root_mean_squared_error(targets, decoded)}


@pytest.fixture
def classify():
    return Classify


@pytest.fixture
def regress():
    return Regress
