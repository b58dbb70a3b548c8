"""`optim.scheduler-calls`: is the scheduler stepped as often as its lengths assume, after the optimizer, with the
right metric?"""

from __future__ import annotations

import textwrap
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from for_checks.asked import digits, perceptron, read
from for_checks.scripts import SCRIPT, codes_of_script, found, found_in_library, values
from striate.doctor.checks.optim.schedule.scheduler_calls import CHECK as SCHEDULER_CALLS
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.setup.library_training import LibraryTraining, Scheduled

STEP = "scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)\nuse(scheduler)"


CYCLE = "scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=100)\nuse(scheduler)"


PLATEAU = "scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode='min')\nuse(scheduler)"


@pytest.mark.parametrize(
    ("text", "make", "often", "watched", "code"),
    [
        (STEP, lambda o: StepLR(o, 10), "epoch", "", ""),
        (STEP, lambda o: StepLR(o, 2), "batch", "", "optim.lr-schedule"),
        (CYCLE, lambda o: OneCycleLR(o, 0.1, total_steps=100), "batch", "", ""),
        (CYCLE, lambda o: OneCycleLR(o, 0.1, total_steps=100), "epoch", "", "optim.lr-schedule"),
        (PLATEAU, lambda o: ReduceLROnPlateau(o, mode="min"), "epoch", "val_loss", ""),
        (PLATEAU, lambda o: ReduceLROnPlateau(o, mode="min"), "epoch", "val_acc", "optim.scheduler-calls"),
        ("trainer.fit(model)", lambda o: StepLR(o, 2), "batch", "", ""),
    ],
)
def test_a_schedule_is_stepped_by_the_library_as_often_as_it_is_meant(
    text: str, make: Any, often: Any, watched: str, code: str
) -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    library = LibraryTraining("Lightning's Trainer", 5, (Scheduled(make(optimizer), often, watched),))
    said = found_in_library(model, SCHEDULER_CALLS, text, {"optimizer": optimizer}, library)
    assert [finding.code for finding in said] == [code] * bool(code)


STEPPED = """
def train(loader, schedule):
    for x, y in loader:
        step(model, x, y)
        schedule.step()
"""


@pytest.mark.parametrize(("each", "begins", "wrong"), [(5, 1, True), (100, 20, False), (5, 20, False)])
def test_a_warmup_and_steps_down_that_come_with_each_batch(each: int, begins: int, wrong: bool) -> None:
    """Of which 20 are an epoch: where lengths are those of epochs, the rate is gone within the first."""
    model, train = perceptron(), digits()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    parts: list[Any] = [LinearLR(optimizer, 0.2, total_iters=begins), StepLR(optimizer, each, 0.1)]
    names = {"model": model, "schedule": SequentialLR(optimizer, parts, [begins])}
    options: Any = {"loss": nn.CrossEntropyLoss(), "optimizer": optimizer}
    findings = read(STEPPED, SCHEDULER_CALLS, model, train, names=names, **options)
    assert [one.code for one in findings] == ["optim.lr-schedule"] * wrong


def test_a_scheduler_of_an_earlier_training_is_ignored() -> None:
    names = values()
    before = torch.optim.SGD(perceptron().parameters(), 0.1)
    names["scheduler"] = CosineAnnealingLR(before, 5)
    before.step()
    for _ in range(5):
        names["scheduler"].step()
    text = SCRIPT.replace("    scheduler.step()\n", "") + "scheduler.step()\n"
    with pytest.raises(NoEvidence, match="no scheduler"):
        found(text, names, [SCHEDULER_CALLS])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheduler", "call", "place", "right"),
    [
        (lambda o: CosineAnnealingLR(o, 5), "scheduler.step()", "batch", lambda o: CosineAnnealingLR(o, 100)),
        (lambda o: StepLR(o, 1, 0.5), "scheduler.step()", "batch", lambda o: StepLR(o, 1000)),
        (lambda o: OneCycleLR(o, 0.1, 100), "scheduler.step()", "epoch", lambda o: OneCycleLR(o, 0.1, 5)),
        (
            lambda o: LambdaLR(o, lambda step: min(1.0, (step + 1) / 50)),
            "scheduler.step()",
            "epoch",
            lambda o: LambdaLR(o, lambda epoch: min(1.0, (epoch + 1) / 3)),
        ),
        (
            lambda o: ReduceLROnPlateau(o, "min"),
            "scheduler.step(accuracy)",
            "epoch",
            lambda o: ReduceLROnPlateau(o, "max"),
        ),
    ],
)
def test_a_scheduler_is_stepped_as_its_lengths_are_meant(scheduler: Any, call: str, place: str, right: Any) -> None:
    text = SCRIPT.replace("    scheduler.step()\n", f"    {call}\n")
    if place == "batch":
        text = SCRIPT.replace("    scheduler.step()\n", "").replace("update()\n", f"update()\n        {call}\n")
    code = "optim.scheduler-calls" if "accuracy" in call else "optim.lr-schedule"
    assert list(found(text, values(scheduler), [SCHEDULER_CALLS])) == [code]
    assert found(text, values(right), [SCHEDULER_CALLS]) == {}


@pytest.mark.parametrize(("inside", "found_there"), [("", True), ("optimizer.step(); ", False)])
def test_a_warmup_in_steps_is_not_stepped_once_in_many(inside: str, found_there: bool) -> None:
    """But where gradients are accumulated."""
    text = SCRIPT.replace("    scheduler.step()\n", "").replace(
        "update()\n", f"update()\n        if count % 25 == 0:\n            {inside}scheduler.step()\n"
    )
    names = values(lambda o: LambdaLR(o, lambda step: min(1.0, (step + 1) / 50)))
    assert list(found(text, names, [SCHEDULER_CALLS])) == ["optim.lr-schedule"] * found_there


@pytest.mark.parametrize(
    ("kept", "given", "mode", "right"),
    [
        ("score < best", "score", "min", True),
        ("score > best", "score", "min", False),
        ("score < best", "score", "max", False),
        ("score < best", "-score", "max", True),
    ],
)
def test_a_score_may_be_one_that_falls(kept: str, given: str, mode: str, right: bool) -> None:
    text = SCRIPT.replace("accuracy > best_accuracy", kept).replace("scheduler.step()", f"scheduler.step({given})")
    names = values(lambda o: ReduceLROnPlateau(o, mode))
    assert (found(text, names, [SCHEDULER_CALLS]) == {}) is right


@pytest.mark.parametrize(("given", "mode", "right"), [("-accuracy", "min", True), ("1 - accuracy", "max", False)])
def test_a_metric_may_be_negated(given: str, mode: str, right: bool) -> None:
    text = SCRIPT.replace("scheduler.step()", f"scheduler.step({given})")
    assert (found(text, values(lambda o: ReduceLROnPlateau(o, mode)), [SCHEDULER_CALLS]) == {}) is right


def test_a_scheduler_stepped_before_the_optimizer_is_named() -> None:
    names = values()
    names["optimizer"].step()
    names["scheduler"].step()
    assert list(found(SCRIPT, names, [SCHEDULER_CALLS])) == ["optim.scheduler-calls"]


def test_a_rate_that_grows_to_the_end_is_named() -> None:
    text = SCRIPT.replace("    scheduler.step()\n", "").replace("update()\n", "update()\n        scheduler.step()\n")
    grows, ends = (lambda o: LambdaLR(o, lambda step: (step + 1) / 2)), (lambda o: LambdaLR(o, lambda _: 1.0))
    assert list(found(text, values(grows), [SCHEDULER_CALLS])) == ["optim.lr-schedule"]
    assert found(text, values(ends), [SCHEDULER_CALLS]) == {}


@pytest.mark.parametrize("steps", [8, 400])
def test_a_cycle_that_no_step_of_the_loop_moves_is_named(steps: int) -> None:
    class Callbacks:
        pass

    holder = Callbacks()
    names = values()
    holder.each = [OneCycleLR(names["optimizer"], 0.1, steps)]
    Callbacks.__module__ = "__main__"
    names |= {"callbacks": holder, "scheduler": None}
    text = SCRIPT.replace("scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)", "cycle(OneCycleLR(optimizer))")
    text = text.replace("    scheduler.step()\n", "")
    assert list(found(text, names, [SCHEDULER_CALLS])) == ["optim.lr-schedule"] * (steps > 100)


@pytest.mark.parametrize(("given", "wrong"), [("*= decay", True), ("= 0.1 * decay", False), ("*= 0.9", False)])
def test_a_decay_from_the_first_epoch_on_is_of_the_first_rate(given: str, wrong: bool) -> None:
    text = SCRIPT.replace("    scheduler.step()", "    adjust(optimizer, epoch)\n    scheduler.step()")
    text += textwrap.dedent(f"""
        def adjust(optimizer, epoch):
            decay = 0.1 ** (epoch // 3)
            for group in optimizer.param_groups:
                group["lr"] {given}
        """)
    assert codes_of_script(text, values(), SCHEDULER_CALLS) == ["optim.lr-schedule"] * wrong


@pytest.mark.parametrize(
    ("mode", "added", "wrong"), [("max", "loss", True), ("min", "loss", False), ("max", "gain", False)]
)
def test_a_plateau_of_what_is_added_up_in_the_loop(mode: Any, added: str, wrong: bool) -> None:
    text = f"""
for epoch in range(5):
    total = 0.0
    for x, y in loader:
        {added} = criterion(model(x), y)
        {added}.backward()
        optimizer.step()
        total += {added}.item()
    scheduler.step(total)
"""
    model, train = perceptron(), digits()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    names = {"model": model, "scheduler": ReduceLROnPlateau(optimizer, mode), "optimizer": optimizer}
    findings = read(text, SCHEDULER_CALLS, model, train, names=names, loss=nn.CrossEntropyLoss(), optimizer=optimizer)
    assert [one.code for one in findings] == ["optim.scheduler-calls"] * wrong
