"""`optim.lr-schedule`: is the learning rate almost 0, or still warming up, while there is much to learn?"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    OneCycleLR,
    SequentialLR,
    StepLR,
)
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, digits, loop, more_rows, perceptron, read, sgd
from for_checks.networks import two_layers
from for_checks.pictures import signs
from for_checks.scripts import SCRIPT, Counting, codes_of_script, found, found_in_library, values
from for_checks.steps import scheduled
from striate.doctor.checks.optim.lr_too_high import LR_TOO_HIGH
from striate.doctor.checks.optim.schedule.lr_schedule import LR_SCHEDULE
from striate.doctor.checks.optim.schedule.planned_rates import reaches_full_rate
from striate.doctor.checks.optim.schedule.too_short import ends_early
from striate.doctor.setup.library_training import LibraryTraining, Scheduled
from striate.doctor.setup.script_source import ScriptSource


@pytest.mark.parametrize(("length", "wrong"), [(30, True), (40, False), (500, False)])
def test_no_schedule_ends_in_the_middle_of_an_early_epoch(length: int, wrong: bool) -> None:
    schedules: dict[int, Any] = {}

    def step(model: Any, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        if id(optimizer) not in schedules:
            schedules[id(optimizer)] = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: max(0, 1 - n / length))
        optimizer.zero_grad()
        value: Tensor = loss(model(batch[0]), batch[1])
        value.backward()
        optimizer.step()
        schedules[id(optimizer)].step()
        return value

    torch.manual_seed(0)
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    found = asked(LR_SCHEDULE, model, digits(), optimizer=optimizer, step=step)
    assert [finding.severity for finding in found] == (["warning"] if wrong else [])


@pytest.mark.slow
@pytest.mark.parametrize(("ends", "said"), [(34, True), (40, False), (4000, False)])
def test_a_rate_that_is_gone_in_the_third_epoch_learns_little_later(ends: int, said: bool, monkeypatch: Any) -> None:
    monkeypatch.setattr("striate.doctor.evidence.evidence.STEPS", 42)  # as of a network with slow steps

    def step(model: Any, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        for group in optimizer.param_groups:
            group["turns"] = group.get("turns", 0) + 1
            done = min(1.0, max(0, group["turns"] - 20) / (ends - 20))
            group["lr"] = 1e-5 + 3e-3 * 0.5 * (1 + math.cos(math.pi * done))
        optimizer.zero_grad()
        value: Tensor = loss(model(batch[0]), batch[1])
        value.backward()
        optimizer.step()
        return value

    model, train = signs(3)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    assert bool(asked(LR_SCHEDULE, model, train, optimizer=optimizer, step=step)) == said


LOSS = nn.CrossEntropyLoss()


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("warmup", "late"), [(2000, True), (60, False)])
def test_a_warmup_is_over_before_a_loop_that_counts(warmup: int, late: bool) -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    count = [0]

    def step(net: nn.Module, batch: Any, own: torch.optim.Optimizer, loss: Any) -> Tensor:
        count[0] += 1
        for group in own.param_groups:
            group["lr"] = 0.1 * min(1.0, count[0] / warmup)
        own.zero_grad()
        value: Tensor = loss(net(batch[0]), batch[1])
        value.backward()
        own.step()
        return value.detach()

    source = ScriptSource({"t.py": ast.parse("for i in range(300):\n    pass")}, {}, ("t.py", 1, 2), None)
    findings = asked(LR_SCHEDULE, model, Counting(300), loss=LOSS, optimizer=optimizer, step=step, source=source)
    assert [finding.code for finding in findings] == ["optim.lr-schedule"] * late


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("passes", "right"), [(400, True), (2, False)])
def test_a_schedule_of_a_callback_is_stepped_as_often_as_the_trial_did(passes: int, right: bool) -> None:
    """One that rises for long, in a training as long, is on its way; in a short one it never gets there."""
    model = perceptron()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    schedule = OneCycleLR(optimizer, 2e-3, total_steps=20 * 400, div_factor=1e3)

    def step(net: nn.Module, batch: Any, own: Any, loss: Any) -> Tensor:
        value = loop(net, batch, own, loss)
        schedule.step()
        return value

    text = "for epoch in range(epochs):\n    for x, y in loader:\n        callback.after_step()"
    names = {"model": model, "optimizer": optimizer, "schedule": schedule, "torch": torch}
    options = {"loss": LOSS, "optimizer": optimizer, "step": step, "names": names, "epochs": passes}
    assert len(read(text, LR_SCHEDULE, model, digits(), **options)) == (not right)


PASS = "for epoch in range(5):\n    for x, y in loader:\n        pass\n"


class Warmup:
    """A schedule as timm has it: of the optimizer's own rate, told the number of the epoch."""

    def __init__(self, optimizer: Any, length: int) -> None:
        self.optimizer, self.length, self.full = optimizer, length, optimizer.param_groups[0]["lr"]
        self.step(0)

    def step(self, number: int) -> None:
        self.optimizer.param_groups[0]["lr"] = self.full * min(1.0, (1e-4 + number) / self.length)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("length", "wrong"), [(2, False), (80, True)])
def test_a_schedule_of_ones_own_warms_up(length: int, wrong: bool) -> None:
    model = perceptron()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    names = {"scheduler": Warmup(optimizer, length), "optimizer": optimizer}
    text = PASS + "    scheduler.step(epoch + 1)\n"
    found = read(text, LR_SCHEDULE, model, digits(), loss=LOSS, optimizer=optimizer, names=names)
    assert ["stepped once an epoch" in one.measured for one in found] == [True] * wrong


RISE = [0.05 * i for i in range(1, 21)]


@pytest.mark.parametrize(
    ("rates", "wrong"),
    [
        (RISE + [0.1] * 180, True),
        (RISE + [1.0] * 5 + [0.1] * 175, False),  # a step down, as people mean it
        (RISE + [0.1] * 60, False),
        (RISE + [0.5] * 180, False),
    ],
)
def test_a_rate_that_drops_from_the_peak_of_its_warmup(rates: list[float], wrong: bool) -> None:
    evidence: Any = SimpleNamespace(
        trial=SimpleNamespace(rows=rates), setup=SimpleNamespace(source=None, optimizer=None, train=range(len(rates)))
    )
    assert (ends_early(evidence, rates, [(rates, len(rates), "step")]) is not None) is wrong


class Steps:
    """A schedule that is stepped at each batch."""

    def __init__(self, every: int) -> None:
        self.every, self.scheduler = every, None

    def __call__(self, model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> torch.Tensor:
        if self.scheduler is None or self.scheduler.optimizer is not optimizer:
            self.scheduler = StepLR(optimizer, self.every, gamma=0.1)
        optimizer.zero_grad()
        value = loss(model(batch[0]), batch[1])
        value.backward()
        optimizer.step()
        self.scheduler.step()
        return value


@pytest.mark.parametrize("epochs", [0.6, 4])
def test_a_rate_that_falls_every_dozen_steps_is_meant_to_fall_by_epochs(epochs: float) -> None:
    x = more_rows(1280)
    y = (x[:, 0] * x[:, 1] > 0).long()
    loader = DataLoader(TensorDataset(x, y), 64, shuffle=True)
    model = two_layers(8, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found = asked(LR_SCHEDULE, model, loader, optimizer=optimizer, step=Steps(round(epochs * len(loader))))
    assert bool(found) == (epochs < 1)


@pytest.mark.parametrize(("planned", "found"), [(1, False), (0.75, True), (0.4, True)])
def test_a_rate_that_is_gone_within_an_epoch_is_meant_for_more(planned: float, found: bool) -> None:
    x = more_rows(3200)
    y = (x[:, 0] * x[:, 1] > 0).long()
    loader = DataLoader(TensorDataset(x, y), 32, shuffle=True)
    model = two_layers(8, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> torch.Tensor:
        for group in optimizer.param_groups:
            group["count"] = group.get("count", 0) + 1
            group["lr"] = 0.1 * max(0.0, 1 - group["count"] / (planned * len(loader)))
        return loop(model, batch, optimizer, loss)

    named = asked(LR_SCHEDULE, model, loader, optimizer=optimizer, step=step)
    assert bool(named) == found


@pytest.mark.parametrize(("length", "right"), [(200, True), (16, False)])
def test_a_trainer_with_steps_of_its_own_is_not_the_schedule_that_it_holds(length: int, right: bool) -> None:
    """A cosine whose length is that of all epochs, stepped in each of twelve batches of one."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    schedule = LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(1.0, step / length))))

    text = """
    for epoch in range(16):
        for x, y in loader:
            trainer.schedule.step()
        losses = [trainer.step(x, y) for x, y in others]
    """
    names = {"trainer": SimpleNamespace(schedule=schedule), "schedule": schedule, "optimizer": optimizer}
    options = {"loss": nn.CrossEntropyLoss(), "optimizer": optimizer, "step": loop, "names": names, "epochs": 16}
    assert len(read(text, LR_SCHEDULE, model, digits(most=384), **options)) == (not right)


SCHEDULED = """
for epoch in range(5):
    for x, y in loader:
        train(x, y)
        scheduler.step()
"""


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("made", "measured"),
    [
        (lambda o: LambdaLR(o, lambda step: 1 - step / 40), "below zero"),
        (lambda o: LambdaLR(o, lambda step: 1 - step / 100), ""),
        (lambda o: LinearLR(o, 0.01, total_iters=1000), "grows linearly from"),
        (lambda o: LinearLR(o, 0.01, total_iters=40), ""),
        (lambda o: CosineAnnealingLR(o, 100), ""),
    ],
)
def test_a_schedule_is_as_long_as_the_training(made: Callable[[Any], Any], measured: str) -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    scheduler = made(optimizer)

    def step(net: nn.Module, batch: Any, own: torch.optim.Optimizer, loss: Any) -> Tensor:
        own.zero_grad()
        value: Tensor = loss(net(batch[0]), batch[1])
        value.backward()
        own.step()
        own.state_dict  # noqa: B018 — the scheduler is the script's, and the rate is set by it
        scheduler.step()
        return value.detach()

    names = {"scheduler": scheduler, "optimizer": optimizer}
    findings = read(SCHEDULED, LR_SCHEDULE, model, digits(), loss=LOSS, optimizer=optimizer, step=step, names=names)
    assert [measured in one.measured for one in findings] == [True] * bool(measured)


def linear(optimizer: torch.optim.Optimizer, steps: int) -> LambdaLR:
    return LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("each", ["step", "batch"])
@pytest.mark.parametrize("made", [linear, CosineAnnealingLR])
@pytest.mark.parametrize("steps", ["optimizer's", "batches"])
def test_a_schedule_counts_the_steps_of_an_optimizer_that_adds_up_batches(steps: str, made: Any, each: str) -> None:
    """20 batches of 5 epochs make 4 steps each: a schedule of them all is right where it is stepped with each batch."""
    model, count = perceptron(), 5
    optimizer, batches = torch.optim.SGD(model.parameters(), 0.05), digits(most=640)
    scheduler, seen = made(optimizer, 5 * len(batches) // (count if steps == "optimizer's" else 1)), [0]

    def step(net: nn.Module, batch: Any, own: torch.optim.Optimizer, loss: Any) -> Tensor:
        seen[0] += 1
        value: Tensor = loss(net(batch[0]), batch[1]) / count
        value.backward()
        if seen[0] % count == 0:
            own.step()
            own.zero_grad()
        if each == "batch" or seen[0] % count == 0:
            scheduler.step()
        return value.detach()

    names = {"scheduler": scheduler, "optimizer": optimizer}
    findings = read(SCHEDULED, LR_SCHEDULE, model, batches, loss=LOSS, optimizer=optimizer, step=step, names=names)
    measured = [one.measured for one in findings]
    if each == "step":
        assert ["stepped only once in 5" in text for text in measured] == [True] * (steps == "batches")
    else:
        assert not any("stepped only once" in text for text in measured)


@pytest.mark.parametrize(("length", "measured"), [(50, ""), (40, "below zero"), (100, "stepped only once in 2")])
def test_a_schedule_counts_the_batches_that_a_library_adds_up(length: int, measured: str) -> None:
    """5 epochs of 20 batches, of which a library's trainer makes 50 steps."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    scheduler = LambdaLR(optimizer, lambda step: 1 - step / length)

    def step(net: nn.Module, batch: Any, own: torch.optim.Optimizer, loss: Any) -> Tensor:
        value = loop(net, batch, own, loss)
        own.state_dict  # noqa: B018 — the scheduler is the script's, and the rate is set by it
        scheduler.step()
        return value

    library = LibraryTraining("a Trainer", 5, (Scheduled(scheduler, "batch"),), accumulated=2)
    names = {"optimizer": optimizer}
    found = found_in_library(model, LR_SCHEDULE, "trainer.train()", names, library, step=step)
    assert [measured in one.measured for one in found] == [True] * bool(measured)


@pytest.mark.parametrize("kind", [LambdaLR, MultiplicativeLR])
def test_a_factor_of_the_first_rate_does_not_multiply_the_current_one(kind: Any) -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    names = {"scheduler": kind(optimizer, lambda epoch: 0.95**epoch), "optimizer": optimizer}
    options: Any = {"loss": LOSS, "optimizer": optimizer, "names": names, "epochs": 15}
    text = PASS.replace("5", "15") + "    scheduler.step()\n"
    found = read(text, LR_SCHEDULE, model, digits(), **options)
    assert ["multiply it by 0.95, 0.902, 0.857" in one.measured for one in found] == [True] * (kind is MultiplicativeLR)


def test_a_schedule_may_be_all_of_the_rate() -> None:
    """As of transformers: the optimizer's own rate is 1."""
    model = perceptron()
    optimizer = torch.optim.Adam(model.parameters(), 1.0)
    scheduler = LambdaLR(optimizer, lambda step: 1e-2 * min((step + 1) / 400, (400 / (step + 1)) ** 0.5))

    def step(net: nn.Module, batch: Any, own: torch.optim.Optimizer, loss: Any) -> Tensor:
        own.zero_grad()
        value: Tensor = loss(net(batch[0]), batch[1])
        value.backward()
        own.step()
        scheduler.step()
        return value.detach()

    options: Any = {"loss": LOSS, "optimizer": optimizer, "step": step, "epochs": 50}
    for check in (LR_SCHEDULE, LR_TOO_HIGH):
        names = {"scheduler": scheduler, "optimizer": optimizer}
        assert read(SCHEDULED, check, model, digits(), names=names, **options) == []


@pytest.mark.parametrize(("top", "there"), [(30, True), (80, False)])
def test_a_cycle_has_its_full_rate_before_half_of_it(top: int, there: bool) -> None:
    rates = [0.1 * number / top for number in range(top)] + [0.1 * (100 - n) / (100 - top) for n in range(top, 100)]
    assert reaches_full_rate([(rates, 100, "step")], 0.1) is there
    assert reaches_full_rate([(rates[:40], 100, "step")], 0.1) is there
    assert not reaches_full_rate([(rates, 100, "epoch"), (rates[:20], 100, "step")], 0.1)


def test_a_schedule_for_epochs_that_is_stepped_at_each_batch() -> None:
    model = perceptron()
    optimizer = sgd(model, 0.05)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.1)
    options: dict[str, Any] = {"optimizer": optimizer, "loss": nn.CrossEntropyLoss()}
    (found,) = asked(LR_SCHEDULE, model, digits(), step=scheduled(scheduler, 1), **options)
    assert (found.code, found.severity) == ("optim.lr-schedule", "error")
    assert "falls below a tenth of 0.05 at step 4" in found.measured
    assert "once an epoch" in found.remedy
    assert not asked(LR_SCHEDULE, model, digits(), step=scheduled(scheduler, 20), **options)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("steps", "wrong"), [(300, False), (1_000_000, True)])
def test_a_warmup_ends_within_some_hundred_steps(steps: int, wrong: bool) -> None:
    model = perceptron()
    optimizer = sgd(model, 0.05)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: min(1.0, (k + 1) / steps))
    found = asked(
        LR_SCHEDULE,
        model,
        digits(),
        step=scheduled(scheduler, 1),
        optimizer=optimizer,
        loss=nn.CrossEntropyLoss(),
    )
    assert bool(found) is wrong


def test_a_cosine_over_the_whole_training_is_sound() -> None:
    model = perceptron()
    optimizer = sgd(model, 0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 120)
    assert not asked(LR_SCHEDULE, model, digits(), step=scheduled(scheduler, 1), optimizer=optimizer)


def test_a_rate_that_never_changes_is_not_gone_where_the_trialends_early() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), 1e4)
    assert not asked(LR_SCHEDULE, model, digits(8), optimizer=optimizer, loss=nn.CrossEntropyLoss())


@pytest.mark.parametrize(("batches", "late"), [(40, True), (1, False)])
def test_a_warmup_longer_than_the_training(batches: int, late: bool) -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    warmup = LinearLR(optimizer, 0.01, total_iters=2 * batches)
    schedule = SequentialLR(optimizer, [warmup, CosineAnnealingLR(optimizer, 3)], [2 * batches])
    names = values() | {"model": model, "optimizer": optimizer, "scheduler": schedule, "warmup": warmup}
    assert codes_of_script(SCRIPT, names, LR_SCHEDULE) == ["optim.lr-schedule"] * late


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(("each", "early"), [(1, True), (3, False)])
@pytest.mark.parametrize("more", ["", "    torch.save(epoch, 'made.pt')\n"])
def test_a_function_that_lowers_the_rate_each_epoch(each: int, early: bool, more: str) -> None:
    """It is called for epochs to come, unless it does more than that."""
    function = (
        "def adjust_learning_rate(optimizer, epoch, every):\n"
        "    for group in optimizer.param_groups:\n"
        f"        group['lr'] = 0.1 * 0.1 ** (epoch // every)\n{more}"
    )
    names = values() | {"every": each}
    exec(function, names)
    names = {key: value for key, value in names.items() if key != "__builtins__"}
    text = SCRIPT.replace("range(5):\n", "range(8):\n    adjust_learning_rate(optimizer, epoch, every)\n")
    text = function + text.replace("    scheduler.step()\n", "")
    found = codes_of_script(text, names, LR_SCHEDULE)
    assert found == ["optim.lr-schedule"] * (early and not more)
    assert names["optimizer"].param_groups[0]["lr"] == 0.1
    assert not Path("made.pt").exists()


@pytest.mark.parametrize(("epochs", "early"), [(1, True), (5, False)])
def test_a_schedule_that_is_over_after_an_epoch(epochs: int, early: bool) -> None:
    """Of the five that the script's loop makes."""
    model = perceptron()
    names = values() | {"model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1)}
    batches = len(names["loader"])
    names["scheduler"] = LambdaLR(names["optimizer"], lambda n: max(0.0, 1 - n / (epochs * batches)))
    text = SCRIPT.replace("    scheduler.step()\n", "")
    text = text.replace("        scaler.update()\n", "        scaler.update()\n        scheduler.step()\n")
    assert codes_of_script(text, names, LR_SCHEDULE) == ["optim.lr-schedule"] * early


@pytest.mark.parametrize(
    ("made", "often", "said"),
    [
        (lambda o, _: StepLR(o, 1, 0.5), "batch", "once an epoch"),
        (lambda o, batches: LambdaLR(o, lambda n: max(0.0, 1 - n / batches)), "batch", "of the whole training"),
        (lambda o, _: StepLR(o, 1, 0.01), "epoch", "less often"),
    ],
)
def test_the_remedy_for_a_rate_that_is_gone_early_fits_the_schedule(made: Any, often: str, said: str) -> None:
    model = perceptron()
    names = values() | {"model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1)}
    names["scheduler"] = made(names["optimizer"], len(names["loader"]))
    text = SCRIPT
    if often == "batch":
        text = text.replace("    scheduler.step()\n", "")
        text = text.replace("        scaler.update()\n", "        scaler.update()\n        scheduler.step()\n")
    (remedy,) = found(text, names, [LR_SCHEDULE]).values()
    assert said in remedy


@pytest.mark.parametrize("made", [linear, CosineAnnealingLR])
@pytest.mark.parametrize("counted", ["batches", "epochs"])
def test_a_schedule_of_all_batches_is_stepped_once_an_epoch(counted: str, made: Any) -> None:
    model = perceptron()
    names = values() | {"model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1)}
    names["scheduler"] = made(names["optimizer"], 5 * (len(names["loader"]) if counted == "batches" else 1))
    assert codes_of_script(SCRIPT, names, LR_SCHEDULE) == ["optim.lr-schedule"] * (counted == "batches")


def cosine(steps: int, over: int, floor: float) -> list[float]:
    falls = [floor + (1 - floor) * (1 + math.cos(math.pi * i / over)) / 2 for i in range(over)]
    return (falls + [floor] * steps)[:steps]


@pytest.mark.parametrize(
    ("rates", "wrong"),
    [
        (cosine(360, 36, 0.1), True),
        (cosine(360, 360, 0.1), False),
        (cosine(360, 180, 0.1), False),
        (cosine(360, 36, 0.5), False),
        ([1.0] * 36 + [0.1] * 324, False),  # a step down, as people mean it
        ([0.1 + 0.025 * i for i in range(36)] + [1.0] * 324, False),
    ],
)
def test_a_curve_that_is_over_early_was_meant_for_less(rates: list[float], wrong: bool) -> None:
    class Stub:
        trial = SimpleNamespace(rows=rates)
        setup = SimpleNamespace(source=None, optimizer=None, train=range(len(rates)))

    found = ends_early(Stub(), rates, [(rates, len(rates), "step")])  # type: ignore[arg-type]
    assert (found is not None) is wrong
