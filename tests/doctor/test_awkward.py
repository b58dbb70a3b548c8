"""Setups as people have them that a diagnosis must not stumble over, nor change."""

from __future__ import annotations

import sys
import threading
import types
from collections import deque
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import striate
from striate.errors import UsageError

X, Y = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
X = X.float() / 16


def loader(size: int = 32, count: int = 600) -> DataLoader[Any]:
    return DataLoader(TensorDataset(X[:count], Y[:count]), batch_size=size, shuffle=True)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def loop(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
    x, y = batch
    optimizer.zero_grad()
    value = loss(model(x), y)
    value.backward()
    optimizer.step()
    return value.detach()


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def diagnose(model: nn.Module, train: Any, **options: Any) -> striate.Diagnosis:
    found = striate.diagnose(model, train, loss=nn.CrossEntropyLoss(), **options)
    assert not {code: why for code, why in found.skipped.items() if "failed" in why}
    return found


@pytest.mark.slow
def test_one_sample_after_another() -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        optimizer.zero_grad()
        total = sum(loss(model(x[None])[0], y) for x, y in zip(*batch, strict=True)) / len(batch[0])
        total.backward()
        optimizer.step()
        return total.detach()

    model = network()
    found = diagnose(model, loader(), step=step, optimizer=sgd(model))
    assert not [finding for finding in found.findings if finding.severity == "error"], str(found)


def test_all_frozen_is_a_finding() -> None:
    found = striate.diagnose(network().requires_grad_(False), loader())
    assert "model.frozen-parameters" in [finding.code for finding in found.findings[:2]], str(found)
    assert not found.healthy


class Trainer:
    """What cannot be copied is shared; the rest is copied."""

    def __init__(self) -> None:
        self.model, self.lock, self.seen, self.loss = network(), threading.Lock(), [], nn.CrossEntropyLoss()
        self.optimizer = sgd(self.model)

    def step(self, _model: nn.Module, batch: Any, _optimizer: torch.optim.Optimizer, _loss: Any) -> Tensor:
        with self.lock:
            self.seen.append(1)
            return loop(self.model, batch, self.optimizer, self.loss)


@pytest.mark.slow
def test_a_trainer_with_a_lock() -> None:
    trainer = Trainer()
    before = [p.detach().clone() for p in trainer.model.parameters()]
    found = diagnose(trainer.model, loader(), step=trainer.step, optimizer=trainer.optimizer)
    assert found.healthy, str(found)
    assert len(found.looked_at) > 40
    assert not trainer.seen
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))


COUNTS, QUEUE, LOST = np.zeros((10, 10), dtype=np.int64), deque([1.0], maxlen=100), nn.BatchNorm1d(64)


class Slots:
    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


SLOTS = Slots()


class Reaching(nn.Module):
    """Its forward finds a layer among the globals."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(LOST(x))


def test_what_a_step_keeps_elsewhere_stays_as_it_is() -> None:
    model = Reaching()
    optimizer = sgd(model)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1000)

    def step(
        model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any, schedule: Any = schedule
    ) -> Tensor:
        value = loop(model, batch, optimizer, loss)
        schedule.step()
        step.losses.append(float(value))  # type: ignore[attr-defined]
        QUEUE.append(float(value))
        SLOTS.count += 1
        COUNTS[0, 0] += 1
        return value

    step.losses = []  # type: ignore[attr-defined]
    diagnose(model, loader(), step=step, optimizer=optimizer)
    assert (schedule.last_epoch, step.losses, list(QUEUE), SLOTS.count) == (0, [], [1.0], 0)  # type: ignore[attr-defined]
    assert not COUNTS.any()
    assert int(LOST.num_batches_tracked) == 0
    assert LOST.weight.grad is None


@pytest.mark.slow
def test_sparse_gradients_and_inference_tensors() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.out = nn.Embedding(17, 4, sparse=True), nn.Linear(256, 10)
            with torch.inference_mode():
                self.scale = torch.ones(1)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.table(x).flatten(1))

    model = Words()
    words = (16 * X).long()
    nn.functional.cross_entropy(model(words[:8]), Y[:8]).backward()
    kept = model.table.weight.grad
    assert kept is not None
    found = striate.diagnose(
        model, (words[:600], Y[:600]), optimizer=lambda params: torch.optim.SGD(params, 0.1), budget_seconds=10
    )
    assert not [finding for finding in found.findings if finding.severity == "error"], str(found)
    assert model.table.weight.grad is kept


def test_a_step_that_takes_batches_of_its_own_is_refused() -> None:
    batches = iter(loader())
    model = network()

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        return loop(model, next(batches), optimizer, loss)

    with pytest.raises(UsageError, match="read only once"):
        diagnose(model, loader(), step=step, optimizer=sgd(model))
    assert len(list(batches)) == 19


@pytest.mark.slow
def test_arrays_of_numpy_for_a_network_in_float64() -> None:
    arrays = (X[:600].double().numpy(), Y[:600].numpy())
    found = diagnose(network().double(), arrays)
    assert found.healthy, str(found)


class Torn(Dataset[tuple[Tensor, Tensor]]):
    """A sample that nobody asks for cannot be read."""

    def __len__(self) -> int:
        return 5000

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        if number > 4200:
            raise OSError("no such file")
        return X[number % 1700], Y[number % 1700]


@pytest.mark.slow
def test_a_sample_that_cannot_be_read_behind_those_that_are_looked_at() -> None:
    found = diagnose(network(), DataLoader(Torn(), batch_size=64))
    assert len(found.looked_at) > 40


def test_an_optimizer_that_cannot_be_made_is_refused() -> None:
    with pytest.raises(UsageError, match="optimizer"):
        striate.diagnose(network(), loader(), optimizer=lambda params: torch.optim.SGD(params, lr=-1.0))


@pytest.mark.slow
def test_a_bare_layer_and_a_layer_made_at_the_first_pass() -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(64, 32), None

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.first(x))
            if self.last is None:
                self.last = nn.Linear(32, 10)
            return self.last(x)

    diagnose(nn.Linear(64, 10), loader())
    diagnose(Late(), loader())


def test_what_raises_in_backward_is_a_finding() -> None:
    kept: list[Tensor] = []

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        value = loss(model(batch[0]), batch[1])
        value.backward()
        value.backward()
        optimizer.step()
        return value

    model = network()
    found = diagnose(model, loader(), step=step, optimizer=sgd(model))
    assert not found.healthy
    assert any("second time" in finding.measured for finding in found.findings), str(found)
    assert not kept


@pytest.mark.slow
def test_a_compiled_network_is_not_compiled_again() -> None:
    compiled: list[int] = []

    def backend(module: torch.fx.GraphModule, _: Any) -> Any:
        compiled.append(1)
        return module.forward

    model = torch.compile(network(), backend=backend)
    found = striate.diagnose(model, loader(), budget_seconds=10)
    assert not compiled
    assert found.looked_at
    torch.compiler.reset()


def test_a_task_of_a_near_spelling_is_asked_for_by_its_name() -> None:
    for loss in (None, nn.CrossEntropyLoss()):
        with pytest.raises(UsageError) as caught:
            striate.diagnose(network(), loader(), loss=loss, task="clasify")
        assert (caught.value.where, caught.value.remedy) == ("task", 'task="classify"')


@pytest.mark.parametrize(("count", "advice"), [(10, "pair each input"), (0, "give data with samples")])
def test_arrays_without_a_target_for_each_input_are_refused(count: int, advice: str) -> None:
    x, y = torch.rand(20 if count else 0, 4), torch.zeros(count, dtype=torch.long)
    with pytest.raises(UsageError, match="as many targets as inputs") as caught:
        striate.diagnose(nn.Linear(4, 2), (x, y))
    assert advice in caught.value.remedy


@pytest.mark.parametrize("task", ["ranking", "multilabel"])
def test_a_task_without_a_usual_loss_needs_one(task: str) -> None:
    with pytest.raises(UsageError) as caught:
        striate.diagnose(network(), loader(), task=task)
    assert caught.value.where == "loss"
    assert caught.value.remedy.startswith("loss=torch.nn.BCEWithLogitsLoss() for several labels a sample")
    assert "none of classify, regress, segment" in str(caught.value)


class Link:
    """One of a chain that a step writes into."""

    def __init__(self, before: Link | None) -> None:
        self.before, self.steps = before, 0


def test_a_long_chain_of_objects_is_copied() -> None:
    chain = Link(None)
    for _ in range(3000):
        chain = Link(chain)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        chain.steps += 1
        return loop(model, batch, optimizer, loss)

    model = network()
    diagnose(model, loader(), optimizer=sgd(model), step=step, budget_seconds=1)
    assert chain.steps == 0


def test_trial_steps_write_nothing_into_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    written, wandb = list[object](), types.ModuleType("wandb")
    vars(wandb)["log"] = written.append
    monkeypatch.setitem(sys.modules, "wandb", wandb)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        value = loop(model, batch, optimizer, loss)
        wandb.log({"loss": value})
        return value

    model = network()
    diagnose(model, loader(), optimizer=sgd(model), step=step, budget_seconds=1)
    assert not written
    step(model, next(iter(loader())), sgd(model), nn.CrossEntropyLoss())
    assert len(written) == 1
