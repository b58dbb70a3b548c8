"""Metrics kept by objects, hooks that keep the best, labels that are not blended, and batches of the same classes:
faults that were met in scripts, and their healthy twins."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from asked import digits, perceptron
from test_met_in_second_heads import stepped
from test_met_in_vision_scripts import read
from test_step_labels import told
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Sampler

from striate.doctor.checks.data.same_order import SAME_ORDER
from striate.doctor.checks.eval.best import WORST_KEPT
from striate.doctor.checks.eval.metric_functions import untrue_metrics

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


def scores_said(text: str) -> list[str]:
    names: dict[str, Any] = {"np": np, "val_loader": digits(), "model": perceptron()}
    exec(text[: text.index("def evaluate")], names)
    said = read(text + LOOP, SimpleNamespace(run=untrue_metrics), perceptron(), digits(), val=digits(), names=names)
    return [one.measured for one in said]


@pytest.mark.parametrize("returned", ["both.sum() / self.counts.sum(), iu", "{'mean IoU': iu.mean()}", "1 - iu"])
@pytest.mark.parametrize("union", [f"{SUMS} - both", SUMS])
def test_an_object_for_a_score_is_asked_for_right_answers(union: str, returned: str) -> None:
    """But not where it gives a loss."""
    said = scores_said(CONFUSION.replace("UNION", union).replace("RETURNED", returned))
    assert ["0.5" in one for one in said] == [True] * (union == SUMS and returned != "1 - iu")


def test_right_answers_may_be_maps_of_zeros_and_ones() -> None:
    assert not scores_said(OF_MAPS)


KEEPER = """
class CheckpointHook:
    def __init__(self, save_best, rule):
        self.save_best, self.rule, self.best = save_best, rule, None
    def after_val_epoch(self, metrics):
        score = {sign}metrics[self.save_best]
        if self.best is None or (score < self.best if self.rule == "less" else score > self.best):
            self.best = score
hook = CheckpointHook("{metric}", "{rule}")
"""


@pytest.mark.parametrize(
    ("sign", "metric", "rule", "wrong"),
    [
        ("", "NME", "greater", True),
        ("", "NME", "less", False),
        ("", "PCK", "less", True),
        ("-", "NME", "greater", False),
        ("", "other", "less", False),
    ],
)
def test_a_hook_looks_up_what_it_keeps_the_best_of(sign: str, metric: str, rule: str, wrong: bool) -> None:
    text = KEEPER.format(sign=sign, metric=metric, rule=rule)
    names: dict[str, Any] = {"__name__": "script"}
    exec(text, names)
    said = read(text + LOOP, WORST_KEPT, perceptron(), digits(), names=names)
    assert [one.code for one in said] == ["eval.worst-kept"] * wrong


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("blended", [False, True])
def test_labels_as_shares_are_blended_with_their_inputs(blended: bool, smoothing: float) -> None:
    def shares(y: Tensor) -> Tensor:
        return (1 - smoothing) * functional.one_hot(y, 10) + smoothing / 10

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, y = batch
        part = 0.8 if float(torch.rand(())) > 0.5 else 0.2
        target = part * shares(y) + (1 - part) * shares(y.flip(0) if blended else y)
        outputs = model(part * x + (1 - part) * x.flip(0))
        return stepped(model, (-target * functional.log_softmax(outputs, -1)).sum(-1).mean(), optimizer)

    found = told(perceptron(), step)
    assert ["labels alone" in one.measured for one in found] == [True] * (not blended)


class Balanced(Sampler[list[int]]):
    """Batches of classes, drawn by the epoch."""

    def __init__(self) -> None:
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(640, generator=torch.Generator().manual_seed(self.epoch))
        return iter(order[:320].view(-1, 32).tolist())


class OfEpochs(DataLoader[Any]):
    """As Accelerate's, which tells its sampler the epoch."""

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("kind", "begun"), [(DataLoader, "pass"), (DataLoader, "sampler.set_epoch(epoch)"), (OfEpochs, "pass")]
)
def test_a_sampler_of_batches_is_told_its_epoch(kind: Any, begun: str) -> None:
    loader = kind(digits().dataset, batch_sampler=Balanced())
    text = f"for epoch in range(5):\n    {begun}\n{textwrap.indent(LOOP, '    ')}"
    said = read(text, SAME_ORDER, perceptron(), loader)
    assert ["320 of 640 samples" in one.measured for one in said] == [True] * (kind is DataLoader and begun == "pass")
