"""`data.label-noise`: wrong labels of a part of the samples."""

from __future__ import annotations

import ast
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, asked_in_script, digits, perceptron, pixels, stepped
from for_checks.embeddings import DeepEmbedding, supervised_contrast
from striate.doctor.checks.data.labels.label_noise import LABEL_NOISE
from striate.doctor.setup.script_source import ScriptSource


def drawn(y: Tensor, share: float, classes: int = 10) -> Tensor:
    """Labels of which so many are another class."""
    generator = torch.Generator().manual_seed(1)
    wrong = torch.rand(len(y), generator=generator) < share
    moved = torch.randint(1, classes, (len(y),), generator=generator)
    return torch.where(wrong, (y + moved) % classes, y)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("share", [0.2, 0.4])
def test_wrong_labels_are_estimated(share: float) -> None:
    x, y = pixels(640)
    (finding,) = asked(LABEL_NOISE, perceptron(), (x, drawn(y, share)))
    assert finding.severity == "warning"
    assert abs(int(finding.measured.split("%")[0]) / 100 - share) < 0.08


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("share", [0.0, 0.03])
def test_clean_labels_are_let_pass(share: float) -> None:
    x, y = pixels(640)
    assert not asked(LABEL_NOISE, perceptron(), (x, drawn(y, share)))


def test_classes_that_overlap_are_not_noisy() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(500) % 2
    x = torch.randn(500, 2, generator=generator) + 1.5 * y[:, None]
    assert not asked(LABEL_NOISE, nn.Linear(2, 2), (x, y))


def test_images_with_two_labels() -> None:
    x, y = pixels(640)
    twice = torch.cat([x, x[:40]]), torch.cat([y, (y[:40] + 1) % 10])
    (finding,) = asked(LABEL_NOISE, perceptron(), twice)
    assert "40 images occur with two or more different labels" in finding.measured


@pytest.mark.parametrize("classes", [True, False])
def test_drawn_times_are_no_labels(classes: bool) -> None:
    x = torch.randn(60, 1, 4, 4).repeat(4, 1, 1, 1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 16))
    loader = DataLoader(TensorDataset(x, torch.randint(10, (240,))), 40)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, t = batch
        if classes:
            return stepped(functional.cross_entropy(model(x), t), optimizer)
        return stepped(functional.mse_loss(model(x * t[:, None, None, None]), x.flatten(1)), optimizer)

    options: Any = {"optimizer": torch.optim.SGD(model.parameters(), 0.01), "step": step}
    found = asked_in_script(LABEL_NOISE, model, loader, **options)
    assert [one.code for one in found] == ["data.label-noise"] * classes


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("of_pairs", [True, False])
def test_classes_may_have_other_names_in_each_batch(of_pairs: bool) -> None:
    torch.manual_seed(0)
    x, y = next(iter(digits(64)))
    batches = [(x[rows], torch.randperm(10)[y[rows]]) for rows in (torch.randperm(64)[:32] for _ in range(8))]
    options: Any = {"step": supervised_contrast(swapped=False)} if of_pairs else {}
    said = asked(LABEL_NOISE, DeepEmbedding() if of_pairs else perceptron(), batches, **options)
    assert [one.code for one in said] == ["data.label-noise"] * (not of_pairs)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("named", ["noisy_labels", "labels"])
def test_labels_that_a_script_makes_wrong_are_noted(named: str) -> None:
    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    generator = torch.Generator().manual_seed(0)
    wrong = torch.rand(len(y), generator=generator) < 0.3
    train = DataLoader(TensorDataset(x, torch.where(wrong, (y + 3) % 10, y)), 32, shuffle=True)
    source = ScriptSource({"t.py": ast.parse(f"for x, {named} in loader:\n    pass")}, {}, ("t.py", 1, 2), 5)
    said = asked(LABEL_NOISE, perceptron(), train, source=source)
    assert [one.severity for one in said] == ["note" if "noisy" in named else "warning"]
