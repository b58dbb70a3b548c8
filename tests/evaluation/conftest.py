"""Stand-ins for the tasks: the protocol in a few lines, with scikit-learn for the numbers."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, root_mean_squared_error, top_k_accuracy_score
from torch.nn import functional


class Classify:
    name = "classify"

    def __init__(self, classes: int) -> None:
        self.outputs = classes

    def tally(self, outputs, targets):
        loss = functional.cross_entropy(outputs, targets, reduction="sum")
        return torch.stack([loss.double(), torch.tensor(float(len(outputs))).double()])

    def summarize(self, tally):
        return {"loss": float(tally[0] / tally[1])}

    def decode(self, outputs):
        return outputs.softmax(1)

    def metrics(self, decoded, targets):
        labels = range(self.outputs)
        return {
            "accuracy": accuracy_score(targets, decoded.argmax(1)),
            "top5": top_k_accuracy_score(targets, decoded, k=min(5, self.outputs - 1), labels=labels),
            "macro_f1": f1_score(targets, decoded.argmax(1), labels=labels, average="macro", zero_division=0),
        }


class Regress:
    name = "regress"
    outputs = 1

    def tally(self, outputs, targets):
        loss = ((outputs - targets) ** 2).sum()
        return torch.stack([loss.double(), torch.tensor(float(len(outputs))).double()])

    def summarize(self, tally):
        return {"loss": float(tally[0] / tally[1])}

    def decode(self, outputs):
        return outputs.float()

    def metrics(self, decoded, targets):
        return {"rmse": root_mean_squared_error(targets, decoded)}


@pytest.fixture
def classify():
    return Classify


@pytest.fixture
def regress():
    return Regress
