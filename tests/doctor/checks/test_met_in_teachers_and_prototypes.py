"""Teachers and their students, prototypes of classes, learned variances and evaluations between steps: what was met in
scripts, and healthy twins."""

from __future__ import annotations

import ast
from typing import Any

import pytest
import torch
from asked import asked, digits, perceptron
from test_met_in_second_heads import asked_or_silent, stepped
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.labels.label_numbers import LABEL_MAP
from striate.doctor.checks.eval.modes import MODE as EVALUATION_MODE
from striate.doctor.checks.loss.task.term_scales import TERM_SCALES
from striate.doctor.checks.model.mode import left_in_evaluation
from striate.doctor.setup.script_source import ScriptSource

FITTED_TWICE = """
def train(model, loader):
    model.train()
    for x, y in loader:
        loss(model(x), y).backward()

@torch.no_grad()
def evaluate(model, loader):
    {evaluated}.eval()
    for x, y in loader:
        model(x)

def fit(model):
    for epoch in range(3):
        train(model, train_loader)
        evaluate(model, val_loader)

fit(teacher)
fit(student)
"""


@pytest.mark.parametrize(("evaluated", "wrong"), [("model", False), ("teacher", True)])
def test_what_a_function_is_given_is_that_of_the_call_that_runs(evaluated: str, wrong: bool) -> None:
    student = nn.Sequential(perceptron(16), nn.Dropout(0.1))
    names = {"teacher": perceptron(), "student": student, "model": student}
    calling = frozenset({("t.py", 19), ("t.py", 15)})
    tree = ast.parse(FITTED_TWICE.format(evaluated=evaluated))
    source = ScriptSource({"t.py": tree}, names, ("t.py", 4, 5), 3, calling=calling)
    found = asked(EVALUATION_MODE, student, digits(), source=source)
    assert ["no code calls `.eval()`" in one.measured for one in found] == [True] * wrong


@pytest.mark.parametrize(("numbers", "wrong"), [([4, 5, 6, 7], False), ([1, 2, 3, 0], True)])
def test_classes_of_which_training_has_none_are_not_renumbered(numbers: list[int], wrong: bool) -> None:
    """Prototypes tell classes apart that were never trained on: a new one looks like some known one."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(4).repeat(40)
    x = 6 * torch.eye(8)[y] + torch.randn(160, 8, generator=generator)
    train = DataLoader(TensorDataset(x, y), 32)
    val = DataLoader(TensorDataset(x + 0.1, torch.tensor(numbers)[y]), 32)
    model = nn.Linear(8, 16)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        z = model(batch[0]).view(8, 4, -1)
        distances = torch.cdist(z[4:].flatten(0, 1), z[:4].mean(0))
        return stepped(model, functional.cross_entropy(-distances, batch[1][16:]), optimizer)

    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    found = asked_or_silent(LABEL_MAP, model, train, val=val, step=step, optimizer=optimizer)
    assert [one.code for one in found] == ["data.label-map"] * wrong


@pytest.mark.parametrize(
    ("term", "wrong"),
    [
        ("F.mse_loss(out, x)", True),
        ("128 * F.mse_loss(out, x).log()", False),
        ("128 * torch.log(F.mse_loss(out, x))", False),
    ],
)
@pytest.mark.parametrize("noted", ["", "self.log('error', rec)"])
def test_the_logarithm_of_a_mean_is_a_likelihood(term: str, noted: str, wrong: bool) -> None:
    text = f"""
def criterion(self, out, x, mu, logvar):
    rec = {term}
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / len(x)
    {noted}
    return rec + kld
for x, y in loader:
    criterion(x)
"""
    source = ScriptSource({"t.py": ast.parse(text)}, {}, ("t.py", 7, 8), 5)
    assert len(asked(TERM_SCALES, perceptron(), digits(), source=source)) == wrong


@pytest.mark.parametrize(("batches", "wrong"), [(300, True), (31, False)])
def test_an_evaluation_within_a_pass_goes_back_to_training(batches: int, wrong: bool) -> None:
    """At the end of a pass the next one may begin in training mode."""
    told = [True] * 30 + [False] * 10
    assert left_in_evaluation(told, batches) == 31 * wrong
    assert not left_in_evaluation([*told, True], batches)
