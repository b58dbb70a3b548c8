"""Histories that go on, rates that a warmup leads to, modes within a step, teachers, penalties beside predictions; and
their twins."""

from __future__ import annotations

import ast
from contextlib import suppress
from typing import Any

import pytest
import torch
from asked import asked, digits, loop, perceptron
from test_source_checks import SCRIPT, found, source_of, values
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.labels.class_balance import IMBALANCE
from striate.doctor.checks.data.splits.repeated_samples import LEAK
from striate.doctor.checks.data.splits.windows_shared import WINDOWS_SHARED
from striate.doctor.checks.eval.wrong_count import WRONG_COUNT
from striate.doctor.checks.loss.degenerate.endless import constant_without_end
from striate.doctor.checks.model.mode import MODE
from striate.doctor.checks.model.never_updated import in_idle_method
from striate.doctor.checks.model.sees_future import outputs_moved
from striate.doctor.checks.model.unit_outputs import REDUNDANT_FILTERS
from striate.doctor.checks.optim.rate_too_high import LR_TOO_HIGH
from striate.doctor.checks.optim.rate_too_low import LR_TOO_LOW
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.corrections import corrections
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("further", [True, False])
def test_a_history_that_goes_on_is_no_copy(further: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    known = torch.randint(1, 200, (200, 12), generator=generator)
    length = torch.randint(6, 12, (200,), generator=generator)
    known *= torch.arange(12) < length[:, None]
    more, rows = known[:60].clone(), torch.arange(60)
    place = length[:60] if further else torch.randint(2, 6, (60,), generator=generator)
    more[rows, place] += 5
    model = nn.Sequential(nn.Embedding(205, 8), nn.Flatten(), nn.Linear(96, 200))
    train, val = ((x, x[:, 0]) for x in (known, more))
    assert len(asked(LEAK, model, train, val=val)) == (not further)


@pytest.mark.slow
@pytest.mark.parametrize(("check", "rate"), [(LR_TOO_HIGH, 0.3), (LR_TOO_LOW, 3e-6), (LR_TOO_HIGH, 3e-3)])
def test_a_rate_is_judged_before_all_of_it_is_reached(check: Any, rate: float) -> None:
    model, data = perceptron(64), digits()
    optimizer = torch.optim.Adam(model.parameters(), rate)
    scheduler = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 130))

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(net(batch[0]), batch[1])
        value.backward()
        optimizer.step()
        scheduler.step()
        return value.detach()

    options: dict[str, Any] = {"optimizer": optimizer, "step": step}
    assert len(asked(check, model, data, **options)) == (rate != 3e-3)


@pytest.mark.parametrize("back", [True, False])
def test_a_step_may_look_for_its_inputs_in_evaluation_mode(back: bool) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        net.train()
        net[2].eval()
        x = batch[0].clone().requires_grad_()
        (slope,) = torch.autograd.grad(functional.cross_entropy(net(x), batch[1]), x)
        net[2].train(back)
        optimizer.zero_grad()
        value = functional.cross_entropy(net(batch[0] + 0.01 * slope.sign()), batch[1])
        value.backward()
        optimizer.step()
        return value.detach()

    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    assert len(asked(MODE, model, digits(), optimizer=optimizer, step=step)) == (not back)


class Speller(nn.Module):
    """Says a row of letters, each with the one before it, which a teacher may tell."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.next, self.out = nn.Linear(8, 16), nn.Embedding(5, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor, told: Tensor | None = None, teacher: float = 0.5) -> Tensor:
        hidden, said = self.first(x), []
        for place in range(4):
            said.append(self.out(hidden.relu()))
            letter = said[-1].argmax(1)
            follow = torch.rand(len(x)) < teacher
            hidden = hidden + self.next(torch.where(follow, letter if told is None else told[:, place], 0 * letter))
        return torch.stack(said, 1)


@pytest.mark.parametrize("shown", [True, False])
def test_a_teacher_tells_targets_by_chance_in_training_alone(shown: bool) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(128, 8), torch.randint(0, 5, (128, 4))

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        said = net(batch[0], batch[1]) if shown else net(batch[0])
        value = functional.cross_entropy(said.flatten(0, 1), batch[1].flatten())
        value.backward()
        optimizer.step()
        return value.detach()

    model = Speller()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    data = DataLoader(TensorDataset(x, y), 32)
    assert len(asked(MODE, model, data, optimizer=optimizer, step=step)) == (not shown)


class Spreading(nn.Module):
    """A number, and beside it another, which cannot be below zero if it is a square."""

    def __init__(self, squared: bool) -> None:
        super().__init__()
        self.hidden, self.out, self.squared = nn.Linear(6, 16), nn.Linear(16, 3), squared

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out = self.out(self.hidden(x).tanh())
        return out[:, :2], out[:, 2] ** 2 if self.squared else out[:, 2]


@pytest.mark.parametrize("squared", [True, False])
def test_a_penalty_beside_predictions_may_not_be_below_zero(squared: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(128, 6)
    data = DataLoader(TensorDataset(x, x[:, :2].sin()), 32)

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        guess, spread = net(batch[0])
        value = functional.mse_loss(guess, batch[1]) + spread.mean()
        value.backward()
        optimizer.step()
        return value.detach()

    model = Spreading(squared)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    setup = make_setup(model, data, None, optimizer=optimizer, step=step, task="regress")
    assert (constant_without_end(Evidence(setup, Clock(120.0))) is None) is squared


@pytest.mark.parametrize(("by", "wrong"), [("len(val_loader)", True), ("total", False)])
def test_hits_among_the_best_are_counted(by: str, wrong: bool) -> None:
    text = SCRIPT.replace("correct / total", f"correct / {by}")
    line = next(line for line in text.splitlines() if "correct +=" in line)
    indent = line[: len(line) - len(line.lstrip())]
    among = "hit = (model(x).topk(2, dim=1).indices == y.unsqueeze(1)).any(dim=1)"
    text = text.replace(line, f"{indent}{among}\n{indent}correct += int(hit.sum())")
    assert list(found(text, values(), [WRONG_COUNT])) == ["eval.wrong-count"] * wrong


class Never(nn.Module):
    """Scores of next words, of which the first is never meant; those of a mean over all positions see what comes."""

    def __init__(self, looks: bool) -> None:
        super().__init__()
        self.words, self.out, self.looks = nn.Embedding(20, 8), nn.Linear(8, 20), looks

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.words(x)
        hidden = hidden + hidden.mean(1, keepdim=True) if self.looks else hidden
        scores: Tensor = self.out(hidden)
        return scores.index_fill(2, torch.tensor([0]), -torch.inf)


@pytest.mark.parametrize("looks", [True, False])
def test_scores_of_minus_infinity_move_by_nothing(looks: bool) -> None:
    torch.manual_seed(0)
    words = torch.randint(1, 20, (64, 9))
    data = DataLoader(TensorDataset(words[:, :-1], words[:, 1:]), 32)

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(net(batch[0]).flatten(0, 1), batch[1].flatten())
        value.backward()
        optimizer.step()
        return value.detach()

    model = Never(looks)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    evidence = Evidence(make_setup(model, data, None, optimizer=optimizer, step=step), Clock(120.0))

    def change(tokens: Tensor) -> Tensor:
        return torch.cat([tokens[:, :4], tokens[:, 4:] % 19 + 1], 1)

    moved, deviation = outputs_moved(evidence, evidence.train.raw[0], (0,), change)
    assert (float(moved[:, :4].max()) > 1e-3 * deviation) is looks


@pytest.mark.parametrize(("factor", "offered"), [(1.01, False), (1.3, True)])
def test_what_is_apart_by_chance_is_not_put_right(factor: float, offered: bool) -> None:
    x = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert any("scale" in way.what for way in corrections(x, factor * x)) is offered


@pytest.mark.parametrize("asked_for", [True, False])
def test_numbers_that_no_loss_asks_for_are_no_targets(asked_for: bool) -> None:
    torch.manual_seed(0)
    past, future, district = torch.randn(96, 6), torch.randn(96, 2), torch.randint(0, 4, (96,))
    model = nn.Linear(6, 2)

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        apart = (batch[1] - net(batch[0])).abs().mean(1)
        value = (apart * (1 + batch[2]) if asked_for else apart).mean()
        value.backward()
        optimizer.step()
        return value.detach()

    data = DataLoader(TensorDataset(past, future, district), 32)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    evidence = Evidence(make_setup(model, data, None, optimizer=optimizer, step=step), Clock(120.0))
    y = evidence.samples.y
    assert y is not None
    assert torch.equal(y, district if asked_for else future)


@pytest.mark.parametrize("as_classes", [True, False])
def test_items_that_are_looked_up_are_no_classes(as_classes: bool) -> None:
    torch.manual_seed(0)
    readers, books = torch.randint(0, 20, (256,)), torch.randint(0, 30, (256,)) * torch.randint(0, 2, (256,))

    class Loans(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.readers, self.books = nn.Embedding(20, 8), nn.Embedding(30, 8)

        def forward(self, reader: Tensor) -> Tensor:
            found: Tensor = self.readers(reader) @ self.books.weight.T
            return found

    def step(net: Any, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        if as_classes:
            value = functional.cross_entropy(net(batch[0]), batch[1])
        else:
            own, other = (
                (net.readers(batch[0]) * net.books(b)).sum(1) for b in (batch[1], torch.randint(0, 30, (32,)))
            )
            value = -functional.logsigmoid(own - other).mean()
        value.backward()
        optimizer.step()
        return value.detach()

    model = Loans()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    data = DataLoader(TensorDataset(readers, books), 32)
    with suppress(NoEvidence):
        found = asked(IMBALANCE, model, data, optimizer=optimizer, step=step)
        assert as_classes
        assert found
        return
    assert not as_classes


BY_NAME = """
class Averaging:
    def begin_fit(self, learner):
        self.average = AveragedModel(learner.model)
    def after_epoch(self, learner):
        self.average.update_parameters(learner.model)
"""


@pytest.mark.parametrize("called", [True, False])
def test_a_callback_that_is_called_by_its_name_is_not_idle(called: bool) -> None:
    text = BY_NAME + "for epoch in range(9):\n    getattr(callback, 'after_epoch')(learner)\n" * called
    source = source_of(text)
    (update,) = (node for tree in source.trees.values() for node in ast.walk(tree) if is_update(node))
    assert in_idle_method(source, update) is not called


def is_update(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "update_parameters"


class Coupling(nn.Module):
    """Half of its outputs are left out by a mask; its last layer begins at zero."""

    def __init__(self, masked: bool) -> None:
        super().__init__()
        self.hidden, self.last = nn.Linear(64, 32), nn.Linear(32, 16)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.classes, self.mask = nn.Linear(16, 10), torch.arange(16) % 2 if masked else torch.ones(16)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.classes(self.last(self.hidden(x.flatten(1)).relu()) * self.mask)
        return found


@pytest.mark.parametrize("masked", [True, False])
def test_outputs_that_a_mask_leaves_out_are_no_copies(masked: bool) -> None:
    torch.manual_seed(0)
    model = Coupling(masked)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    assert not asked(REDUNDANT_FILTERS, model, digits(), optimizer=optimizer, step=loop, loss=functional.cross_entropy)


@pytest.mark.parametrize("measured", [True, False])
def test_stretches_of_yes_and_no_agree_by_chance(measured: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(900, generator=generator)
    series = steps if measured else (steps > 1).float()
    rows = series.unfold(0, 40, 3)
    data = [DataLoader(TensorDataset(part, part[:, 0]), 32) for part in (rows[::2], rows[1::2])]
    found: list[Any] = []
    with suppress(NoEvidence):
        found = asked(WINDOWS_SHARED, nn.Linear(40, 1), data[0], val=data[1], loss=functional.mse_loss, task="regress")
    assert len(found) == measured
