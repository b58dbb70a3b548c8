"""Losses that are valid numbers and ask for nothing: each beside its healthy twin."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from asked import asked, digits, loop, perceptron
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 — as everybody writes it
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.loss.counted.ignored import IGNORED_CLASS
from striate.doctor.checks.loss.counted.padding_counted import PADDING_COUNTED
from striate.doctor.checks.loss.degenerate.degenerate import DEGENERATE
from striate.doctor.checks.loss.pairs.pairs_swapped import CHECK as PAIRS_SWAPPED
from striate.doctor.checks.loss.task.wrong_for_task import WRONG_FOR_TASK
from striate.doctor.checks.model.last_layer import LAST_LAYER_CLIPPED
from striate.doctor.checks.optim.rate_too_low import LR_TOO_LOW
from striate.doctor.evidence.clock import NoEvidence


def stepping(loss: Any) -> dict[str, Any]:
    """A loss that stands in the step, as in a script."""
    return {"step": lambda model, batch, optimizer, _: loop(model, batch, optimizer, loss)}


def quantities(shape: tuple[int, ...] = ()) -> DataLoader[Any]:
    x = torch.randn(256, 8, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, (3 + x[:, :1].tanh()).reshape(-1, *shape)), 32)


class MeanAndVariance(nn.Module):
    """Two outputs of a sample."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mean, self.log_variance = nn.Linear(8, 1), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean(x)[:, 0], self.log_variance(x)[:, 0]


def gaussian(*, log: float = 1, error: float = 1, inside: float = -1) -> Any:
    def loss(outputs: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
        mean, variance = outputs
        return (log * variance + error * (y - mean).square() * (inside * variance).exp()).mean() / 2

    return loss


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("signs", [{"log": -1}, {"error": -1}, {"inside": 1}])
def test_a_likelihood_with_a_wrong_sign_falls_without_end(signs: dict[str, float]) -> None:
    (found,) = asked(DEGENERATE, MeanAndVariance(), quantities(), task="regress", **stepping(gaussian(**signs)))
    assert (found.code, found.severity) == ("loss.degenerate", "error")
    assert "without end" in found.measured


@pytest.mark.slow
def test_a_likelihood_with_its_signs_has_a_least_value() -> None:
    assert not asked(DEGENERATE, MeanAndVariance(), quantities(), task="regress", **stepping(gaussian()))


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("positive", [False, True])
def test_a_relative_error_without_its_sign(positive: bool) -> None:
    def share(outputs: Tensor, y: Tensor) -> Tensor:
        error = (y - outputs) / y
        return (error.abs() if positive else error).mean()

    found = asked(DEGENERATE, nn.Linear(8, 1), quantities((1,)), task="regress", **stepping(share))
    assert ["alike for all samples" in finding.measured for finding in found] == [True] * (not positive)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("own", [True, False])
def test_a_divergence_of_predictions_from_themselves_is_zero(own: bool) -> None:
    def divergence(outputs: Tensor, y: Tensor) -> Tensor:
        log_p = outputs.log_softmax(1)
        target = log_p.exp() if own else 0.9 * F.one_hot(y, 10) + 0.01
        return F.kl_div(log_p, target, reduction="batchmean")

    found = asked(DEGENERATE, perceptron(), digits(), **stepping(divergence))
    assert ["no better than a guess" in finding.measured for finding in found] == [True] * own


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("masked", [True, False])
def test_right_answers_behind_a_mask(masked: bool) -> None:
    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        hidden = F.one_hot(y if masked else (y + 1) % 10, 10).bool()
        return F.cross_entropy(outputs.masked_fill(hidden, -1e9), y)

    found = asked(DEGENERATE, perceptron(), digits(), **stepping(loss))
    assert ["that of a mask" in finding.measured for finding in found] == [True] * masked


def test_rows_that_say_which_sample_they_belong_to_may_come_in_any_order() -> None:
    x = torch.randn(128, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    def collate(samples: list[int]) -> tuple[Tensor, Tensor]:
        rows = torch.tensor([[n, 1.0] for n in range(len(samples))] * 2)
        return x[samples], rows

    def loss(outputs: Tensor, rows: Tensor) -> Tensor:
        return (outputs[rows[:, 0].long(), 0] - rows[:, 1]).square().mean()

    loader = DataLoader(range(128), 16, collate_fn=collate)  # type: ignore[arg-type]
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    assert not asked(DEGENERATE, model, loader, task="regress", **stepping(loss))


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("factor", "wrong"), [(0.01, True), (0.5, False)])
def test_scores_that_are_divided_away(factor: float, wrong: bool) -> None:
    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(outputs * factor, y)

    optimizer = lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9)  # noqa: E731
    found = asked(WRONG_FOR_TASK, perceptron(), digits(), optimizer=optimizer, **stepping(loss))
    assert ["multiplied by 0.01" in finding.measured for finding in found] == [True] * wrong


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("factor", "wrong"), [(1e-8, True), (0.1, False)])
def test_a_loss_of_which_next_to_nothing_goes_backward(factor: float, wrong: bool) -> None:
    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        return factor * F.cross_entropy(outputs, y)

    model = perceptron()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    found = asked(LR_TOO_LOW, model, digits(), optimizer=optimizer, **stepping(loss))
    assert ["1e-08 times the loss" in finding.measured for finding in found] == [True] * wrong


class Tagger(nn.Module):
    """Scores of five classes for each position."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.out = nn.Embedding(20, 16), nn.Linear(16, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.embed(tokens))


def sentences() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 20, (128, 10), generator=generator)
    mask = torch.arange(10) < torch.randint(3, 11, (128, 1), generator=generator)
    return DataLoader(TensorDataset(tokens * mask, (tokens % 5) * mask, mask.float()), 16)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("reduce", "told"),
    [
        (lambda losses, _: losses.mean(), "a gradient comes back"),
        (lambda losses, mask: (losses * mask).mean(), "over all positions"),
        (lambda losses, mask: (losses * mask).sum() / mask.sum(), ""),
    ],
)
def test_padding_in_the_mean(reduce: Any, told: str) -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        tokens, tags, mask = batch

        def loss(outputs: Tensor, y: Tensor) -> Tensor:
            value: Tensor = reduce(F.cross_entropy(outputs.transpose(1, 2), y, reduction="none"), mask)
            return value

        return loop(model, (tokens, tags), optimizer, loss)

    found = asked(PADDING_COUNTED, Tagger(), sentences(), step=step)
    assert [told in finding.measured for finding in found] == [True] * bool(told)


class Towers(nn.Module):
    """Scores of each sample with each other's second view."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.other = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.one(x) @ self.other(y).T


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("few", [True, False])
def test_one_column_of_scores_for_all_samples(few: bool) -> None:
    x = torch.randn(128, 8, generator=torch.Generator().manual_seed(0))

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        scores = model(*batch)
        value = F.cross_entropy(scores, torch.arange(len(scores)) * (not few))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.detach()

    loader = DataLoader(TensorDataset(x, x + 0.1), 16)
    try:
        found = asked(PAIRS_SWAPPED, Towers(), loader, step=step)
    except NoEvidence:
        found = []
    assert ["for 1 column" in finding.measured for finding in found] == [True] * few


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("kept", [True, False])
def test_probabilities_that_never_fall_below_a_half(kept: bool) -> None:
    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    model = nn.Sequential(perceptron(), nn.ReLU() if kept else nn.Identity(), nn.Sigmoid())
    loader = DataLoader(TensorDataset(x, F.one_hot(y, 10).float()), 32)
    found = asked(LAST_LAYER_CLIPPED, model, loader, loss=nn.BCELoss())
    assert ["relu" in finding.measured for finding in found] == [True] * kept


class Speech(nn.Module):
    """Scores of five classes for each of twelve steps, logarithms along `axis`."""

    def __init__(self, axis: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.out, self.axis = nn.Linear(4, 5), axis

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x).log_softmax(self.axis).transpose(0, 1)


@pytest.mark.each_nth(4)
@pytest.mark.parametrize(
    ("axis", "steps", "least", "told"),
    [(1, 12, 1, "exponentials sum to"), (2, 12, 1, ""), (2, 6, 1, "the longest of"), (2, 12, 0, "which is its blank")],
)
def test_alignments(axis: int, steps: int, least: int, told: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(64, 12, 4, generator=generator), torch.randint(least, 5, (64, 3), generator=generator)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        size = len(targets)
        return F.ctc_loss(outputs, targets, torch.full((size,), steps), torch.full((size,), 3), zero_infinity=True)

    found = []
    for check in (WRONG_FOR_TASK, IGNORED_CLASS):
        with suppress(NoEvidence):
            found += asked(check, Speech(axis), DataLoader(TensorDataset(x, y), 16), **stepping(loss))
    assert [told in finding.measured for finding in found] == [True] * bool(told)
