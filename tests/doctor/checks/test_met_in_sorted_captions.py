"""Captions sorted without their images, frozen encoders, classes put together otherwise: faults that were met, and
their healthy twins."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import pytest
import torch
from asked import asked
from test_met_in_second_heads import asked_or_silent, stepped
from test_source_checks import found, values
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.causes import sort_out
from striate.doctor.checks.data.augmentation.augmentation import AUGMENTATION
from striate.doctor.checks.data.labels.label_numbers import Told, regrouped
from striate.doctor.checks.data.labels.step_labels import STEP_LABELS
from striate.doctor.checks.loss.degenerate.degenerate import DEGENERATE
from striate.doctor.checks.model.idle_parameters import FROZEN_PARAMETERS

WORDS = 8


class Teller(nn.Module):
    """Says the next word (N, T, WORDS) of images and of words so far."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.words, self.said = nn.Linear(12, 8), nn.Embedding(WORDS, 8), nn.Linear(8, WORDS)

    def forward(self, images: Tensor, words: Tensor) -> Tensor:
        return self.said((self.seen(images)[:, None] + self.words(words)).tanh())


def captions() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(3, 7, (96,), generator=generator)
    words = torch.randint(1, WORDS, (96, 6), generator=generator)
    images = functional.one_hot(words, WORDS).float().flatten(1)[:, :12] + torch.randn(96, 12, generator=generator)
    return DataLoader(TensorDataset(images, words * (torch.arange(6) < lengths[:, None]), lengths), 32)


def said(check: Any, order: str = "both", reduction: str = "mean") -> list[str]:
    torch.manual_seed(0)
    model = Teller()

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        images, words, lengths = batch
        lengths, index = lengths.sort(descending=True)
        wrong = index.roll(1) if order == "half" else index
        images = images if order == "captions" else torch.cat([images[index[:16]], images[wrong[16:]]])
        scores, asked = model(images, words[index][:, :-1]), words[index][:, 1:]
        loss = functional.cross_entropy(scores.flatten(0, 1), asked.flatten(), ignore_index=0, reduction=reduction)
        return stepped(model, loss / (lengths - 1).sum() if reduction == "sum" else loss, optimizer)

    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-2), "step": step}
    return [one.code for one in asked_or_silent(check, model, captions(), **options)]


@pytest.mark.parametrize("order", ["captions", "both", "half"])
def test_captions_that_are_sorted_without_their_images(order: str) -> None:
    """But not where half of the pairs are right: the others may be there to be told apart."""
    assert said(STEP_LABELS, order) == ["data.step-labels"] * (order == "captions")


def test_a_sum_that_is_divided_by_the_number_of_words() -> None:
    """Lengths have no order that matters: they are not what is asked for."""
    assert not said(DEGENERATE, reduction="sum")


def test_a_loss_of_what_targets_are_together() -> None:
    x = torch.randn(96, 12, generator=torch.Generator().manual_seed(0))
    model = nn.Linear(12, 1)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        return stepped(model, (model(batch[0]).mean() - batch[1].float().mean()) ** 2, optimizer)

    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-2), "step": step}
    (finding,) = asked(DEGENERATE, model, DataLoader(TensorDataset(x, x[:, :1] + 3), 32), **options)
    assert finding.code == "loss.degenerate"


@pytest.mark.parametrize("case", ["frozen", "trained", "for now", "pretrained"])
def test_a_frozen_encoder_that_the_optimizer_holds(case: str) -> None:
    text = textwrap.dedent("""
        for x, y in loader:
            outputs = model(encoder(x))
            criterion(outputs, y).backward()
            torch.nn.utils.clip_grad_norm_([*encoder.parameters(), *model.parameters()], 5.0)
            optimizer.step()
        """)
    if case == "for now":
        text += "for epoch in range(9):\n    for p in encoder.parameters():\n        p.requires_grad = epoch > 3\n"
    names = values()
    encoder = nn.Linear(10, 10).requires_grad_(case == "trained")
    if case == "pretrained":
        encoder.weight.data += 3 * torch.eye(10)
    names["encoder"] = encoder
    parameters = [*encoder.parameters(), *names["model"].parameters()]
    names["optimizer"] = torch.optim.SGD(parameters, lr=0.1)
    assert list(found(text, names, [FROZEN_PARAMETERS])) == ["model.frozen-parameters"] * (case == "frozen")


def test_labels_of_other_samples_explain_what_augmentation_seems_to_hide() -> None:
    given = {"severity": "error", "where": "", "measured": "", "limit": "", "why": "", "remedy": ""}
    roots, _ = sort_out([AUGMENTATION.finding(**given), STEP_LABELS.finding(**given)])  # type: ignore[arg-type]
    assert [one.code for one in roots] == ["data.step-labels"]


@pytest.mark.parametrize("case", ["same", "by two", "weak", "one for all"])
def test_classes_that_validation_puts_together_of_others(case: str) -> None:
    """Of ten digits five classes: by what is left over after five, or by halves."""
    digits = np.arange(300) % 10
    told, labels = digits % 5, digits // 2 if case == "by two" else digits % 5
    if case == "weak":
        told = np.random.default_rng(0).integers(0, 5, 300)
    elif case == "one for all":
        told = np.where(np.arange(300) % 7 > 0, 3, 1)
    finding = regrouped(Told("the network", digits % 5, digits % 5, told, labels))
    assert (finding is not None) == (case == "by two")
