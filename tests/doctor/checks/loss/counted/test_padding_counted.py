"""`loss.padding-counted`: does padding count in the loss?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, asked_in_script, loop, said, stepped
from for_checks.sequences import Translator, translating, translation_batches
from for_checks.steps import told
from striate.doctor.checks.loss.counted.padding_counted import PADDING_COUNTED


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
            value: Tensor = reduce(functional.cross_entropy(outputs.transpose(1, 2), y, reduction="none"), mask)
            return value

        return loop(model, (tokens, tags), optimizer, loss)

    found = asked(PADDING_COUNTED, Tagger(), sentences(), step=step)
    assert [told in finding.measured for finding in found] == [True] * bool(told)


@pytest.mark.parametrize("filled", [True, False])
def test_the_largest_of_sorted_numbers_is_no_padding(filled: bool) -> None:
    """Digits, and the same sorted: only these count in the loss. Or rows that a number fills up, which count."""
    generator = torch.Generator().manual_seed(0)
    given = torch.randint(5 if filled else 6, (320, 6), generator=generator)
    both = torch.cat([given, given.sort(1)[0]], 1)
    if filled:
        lengths = torch.randint(8, 12, (320, 1), generator=generator)
        both[torch.arange(12) >= lengths] = 5
    x, y = both[:, :-1].clone(), both[:, 1:].clone()
    y[:, :5] = -1
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(6, 16), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 6))

    def following(scores: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(scores.reshape(-1, 6), targets.reshape(-1), ignore_index=-1)

    train = DataLoader(TensorDataset(x, y), 64, shuffle=True)
    assert bool(asked(PADDING_COUNTED, model, train, loss=following)) == filled


@pytest.mark.parametrize(("own", "wrong"), [(True, False), (False, True)])
def test_lengths_of_ctc_leave_padding_out(own: bool, wrong: bool) -> None:
    lengths = torch.randint(2, 6, (96,), generator=torch.Generator().manual_seed(0))
    targets = torch.where(torch.arange(6)[None] < lengths[:, None], 1 + torch.arange(6)[None] % 3, 0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.Unflatten(1, (12, 4)))

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        scores = net(batch[0]).log_softmax(2).transpose(0, 1)
        wanted = (batch[1] > 0).sum(1) if own else torch.full((len(batch[1]),), 6)
        value = functional.ctc_loss(scores, batch[1], torch.full((len(batch[1]),), 12), wanted, zero_infinity=True)
        value.backward()
        optimizer.step()
        return value.detach()

    loader = DataLoader(TensorDataset(torch.randn(96, 1, 8, 8), targets), 16)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    found = said(PADDING_COUNTED, model, loader, optimizer=optimizer, step=step)
    assert ["ctc_loss" in one.measured for one in found] == [True] * wrong


@pytest.mark.parametrize(("filler", "counted"), [(0, True), (-100, False)])
def test_labels_at_padding_count_though_others_do_not(filler: int, counted: bool) -> None:
    """Tags of words, of which the first of each sentence has none."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 20, (64, 10), generator=generator)
    lengths = torch.randint(3, 11, (64,), generator=generator)
    mask = torch.arange(10)[None] < lengths[:, None]
    labels = torch.where(mask, tokens % 3, filler)
    labels[:, 0] = -100

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 3))

        def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
            return self.layers(tokens * mask)  # type: ignore[no-any-return]

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: object) -> Tensor:
        loss = functional.cross_entropy(model(batch[0], batch[1]).flatten(0, 1), batch[2].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    model = Tagger()
    loader = DataLoader(TensorDataset(tokens * mask, mask.long(), labels), 16)
    findings = asked(PADDING_COUNTED, model, loader, step=step, optimizer=torch.optim.SGD(model.parameters(), 0.1))
    assert [one.code for one in findings] == ["loss.padding-counted"] * counted


@pytest.mark.parametrize("zero", [False, True])
def test_a_class_of_no_weight_counts_for_nothing(zero: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(1, 9, (64, 12), generator=generator)
    y = (x + 1) % 9
    y = torch.where(torch.arange(12)[None] < 4 + torch.arange(64)[:, None] % 9, y.clamp_min(1), 0)
    weight = torch.ones(9)
    weight[0] = 0.0 if zero else 1.0
    network = nn.Sequential(nn.Embedding(9, 16), nn.Linear(16, 9))

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        loss = nn.functional.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten(), weight=weight)
        return stepped(loss, optimizer)

    found = told(PADDING_COUNTED, network, DataLoader(TensorDataset(x, y), 16), step=step)
    assert [finding.code for finding in found] == ["loss.padding-counted"] * (not zero)


@pytest.mark.parametrize("ignored", [pytest.param(0, marks=pytest.mark.slow), -100])
def test_what_fills_columns_up_counts_for_nothing(ignored: int) -> None:
    findings = asked_in_script(PADDING_COUNTED, Translator(), translation_batches(), **translating(ignored))
    assert [one.code for one in findings] == ["loss.padding-counted"] * (ignored == -100)
