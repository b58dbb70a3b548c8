"""Survival: durations that the inputs tell, partial likelihoods over the wrong risk set, the lowest concordance kept;
and their twins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asked import asked
from test_source_checks import found, values
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.targets.target_in_input import TARGET_IN_INPUT
from striate.doctor.checks.eval.best import WORST_KEPT
from striate.doctor.checks.loss.sign.sign import SIGN
from striate.doctor.checks.loss.task.wrong_for_task import WRONG_FOR_TASK


def patients(told: str = "", stacked: bool = False) -> DataLoader[Any]:
    """Covariates, durations and whether the event was seen, one beside the other or as a table of two."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 5, generator=generator)
    lifetimes = -torch.rand(512, generator=generator).log() * 20 * torch.exp(-x[:, 0])
    ends = 40 * torch.rand(512, generator=generator)
    durations, events = torch.minimum(lifetimes, ends), (lifetimes <= ends).float()
    if told:
        columns = {"rounded": durations.ceil(), "falling": -durations.log(), "noisy": durations + 9 * x[:, 1]}
        x = torch.cat([x, columns[told][:, None]], 1)
    parts = [torch.stack([events, durations], 1)] if stacked else [durations, events]
    return DataLoader(TensorDataset(x, *parts), 64, shuffle=True, generator=generator)


def sorted_cox(risks: Tensor, durations: Tensor, events: Tensor, descending: bool = True) -> Tensor:
    order = durations.argsort(descending=descending)
    risks, events = risks[order], events[order]
    return -((risks - risks.logcumsumexp(0)) * events).sum() / events.sum()


def matrix_cox(risks: Tensor, durations: Tensor, events: Tensor) -> Tensor:
    at_risk = (durations[None] >= durations[:, None]).float()
    return -((risks - (at_risk @ risks.exp()).log()) * events).mean()


def unsorted(risks: Tensor, durations: Tensor, events: Tensor) -> Tensor:
    return -((risks - risks.logcumsumexp(0)) * events).sum() / events.sum()


def exponential(risks: Tensor, durations: Tensor, events: Tensor) -> Tensor:
    return (durations / 20 * risks.exp() - events * risks).mean()


def weighted(risks: Tensor, durations: Tensor, events: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(risks, events, durations)


def said(check: Any, loss: Any, loader: DataLoader[Any], stacked: bool = False) -> list[str]:
    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, *rest = batch
        durations, events = (rest[0][:, 1], rest[0][:, 0]) if stacked else rest
        optimizer.zero_grad()
        value: Tensor = loss(model(x).squeeze(1), durations, events)
        value.backward()
        optimizer.step()
        return value.detach()

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(next(iter(loader))[0].shape[1], 16), nn.ReLU(), nn.Linear(16, 1))
    options = {"loss": functional.mse_loss, "optimizer": torch.optim.Adam(model.parameters(), 1e-2), "step": step}
    return [one.measured for one in asked(check, model, loader, **options)]


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize(
    ("loss", "wrong"),
    [
        (sorted_cox, ""),
        (matrix_cox, ""),
        (exponential, ""),
        (lambda risks, *rest: sorted_cox(-risks, *rest), ""),
        (lambda risks, *rest: sorted_cox(risks, *rest, descending=False), "who left before"),
        (lambda risks, durations, events: matrix_cox(risks, -durations, events), "who left before"),
        (unsorted, "in the batch"),
        (lambda risks, durations, events: matrix_cox(risks, durations, 1 - events), "never were seen"),
    ],
)
def test_who_is_at_risk_is_still_there(loss: Any, wrong: str, stacked: bool) -> None:
    measured = [text for text in said(WRONG_FOR_TASK, loss, patients(stacked=stacked), stacked) if "partial" in text]
    assert [wrong in text for text in measured] == [True] * bool(wrong)


@pytest.mark.parametrize(("factor", "wrong"), [(1, False), (-1, True)])
def test_a_partial_likelihood_is_made_large(factor: int, wrong: bool) -> None:
    measured = said(SIGN, lambda *given: factor * sorted_cox(*given), patients())
    assert ["turned round" in text for text in measured] == [True] * wrong


@pytest.mark.parametrize(
    ("told", "loss", "wrong"),
    [
        ("rounded", sorted_cox, True),
        ("falling", sorted_cox, True),
        ("falling", exponential, True),
        ("noisy", sorted_cox, False),
        ("", sorted_cox, False),
        ("rounded", weighted, False),
    ],
)
def test_no_column_tells_the_order_of_durations(told: str, loss: Any, wrong: bool) -> None:
    measured = said(TARGET_IN_INPUT, loss, patients(told))
    assert ["number 5 of the 6 input numbers" in text for text in measured] == [True] * wrong


KEEPING = """
def concordance(risks, times, events):
    agreed = risks[:, None] > risks
    return agreed.float().mean().item()

class Trainer:
    def __init__(self, metric):
        self.metric, self.best = metric, None

    def validate(self, loader):
        return self.metric(loader)

    def fit(self, loader):
        self.value = {made}

trainer = Trainer({metric})
for x, y in loader:
    trainer.fit(loader)
    if trainer.best is None or trainer.value {sign} trainer.best:
        trainer.best = trainer.value
"""


@pytest.mark.parametrize(
    ("made", "metric", "sign", "wrong"),
    [
        ("self.validate(loader)", "concordance", "<", True),
        ("self.validate(loader)", "concordance", ">", False),
        ("self.metric(loader)", "concordance", "<", True),
        ("concordance(x, x, y)", "concordance", "<", True),
        ("concordance_index_censored(y, x, -z)[0]", "concordance", "<", True),
        ("1 - concordance(x, x, y)", "concordance", "<", False),
        ("self.validate(loader)", "train_mixed_precision", "<", False),
    ],
)
def test_what_gives_the_best_value_tells_which_way_it_is_better(made: str, metric: str, sign: str, wrong: bool) -> None:
    def concordance(*_: Any) -> float:
        return 0.5

    def train_mixed_precision(*_: Any) -> float:
        return 0.5

    names = values() | {"concordance": concordance, "train_mixed_precision": train_mixed_precision}

    class Trainer:
        def __init__(self, metric: Any) -> None:
            self.metric, self.best, self.value = metric, None, None

    names["trainer"] = names["self"] = Trainer(names[metric])
    text = KEEPING.format(made=made, metric=metric, sign=sign)
    assert list(found(text, names, [WORST_KEPT])) == ["eval.worst-kept"] * wrong
