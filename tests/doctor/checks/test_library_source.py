"""Checks of code whose loop is a library's: what is logged, which schedule is stepped how often, what is evaluated."""

from __future__ import annotations

import ast
import textwrap
from typing import Any

import pytest
import torch
from asked import asked, digits, perceptron
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau, StepLR

from striate.doctor.checks.eval.wrong_count import WRONG_COUNT
from striate.doctor.checks.model.evaluates_untrained import CHECK as EVALUATES_UNTRAINED
from striate.doctor.checks.optim.scheduler_calls import CHECK as SCHEDULER_CALLS
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.script.library_loop import _logged_by_lightning, _stepped_by_hand
from striate.doctor.setup.library_training import LibraryTraining, Scheduled
from striate.doctor.setup.script_source import ScriptSource
from striate.records import Finding


class Digits(nn.Module):
    """As a LightningModule. `share(right)`: what it logs as an accuracy."""

    def __init__(self, share: Any) -> None:
        super().__init__()
        self.net, self.share = perceptron(), share

    def forward(self, x: torch.Tensor) -> Any:
        return self.net(x)

    def validation_step(self, batch: Any, _: int) -> None:
        right = self(batch[0]).argmax(1) == batch[1]
        self.log_dict({"val_loss": torch.tensor(0.5), "val_acc": self.share(right)})  # type: ignore[operator]

    def on_validation_epoch_start(self) -> None:
        self.seen = 0

    def on_validation_epoch_end(self) -> None:
        pass


def found(model: nn.Module, check: Any, text: str, names: dict[str, Any], library: LibraryTraining) -> list[Finding]:
    trees = {"script.py": ast.parse(textwrap.dedent(text))}
    given = {"model": model, "torch": torch, **names}
    source = ScriptSource(trees, given, ("script.py", 1, 1), library.epochs, library=library)
    optimizer = names.get("optimizer") or torch.optim.Adam(model.parameters(), 1e-2)
    return asked(check, model, digits(), val=digits(100, 250), optimizer=optimizer, source=source)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("share", "faulty"),
    [
        (lambda right: right.float().mean(), False),
        (lambda right: 100 * right.float().mean(), False),
        (lambda right: right.sum() / 32, True),
        (lambda right: 1 - right.float().mean(), True),
    ],
)
def test_an_accuracy_that_lightning_logs_is_held_against_the_predictions(share: Any, faulty: bool) -> None:
    library = LibraryTraining("Lightning's Trainer", 5, evaluate=_logged_by_lightning)
    said = found(Digits(share), WRONG_COUNT, "trainer.fit(model)", {}, library)
    assert [finding.code for finding in said] == ["eval.wrong-count"] * faulty
    assert not faulty or "`val_acc` is" in said[0].measured


def test_what_writes_is_not_evaluated_a_second_time() -> None:
    library = LibraryTraining("Lightning's Trainer", 5, evaluate=_logged_by_lightning)
    text = "class Net:\n    def validation_step(self, batch):\n        torch.save(batch, 'x')\ntrainer.fit(model)"
    with pytest.raises(NoEvidence, match="writes"):
        found(Digits(lambda right: right.sum()), WRONG_COUNT, text, {}, library)


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
    said = found(model, SCHEDULER_CALLS, text, {"optimizer": optimizer}, library)
    assert [finding.code for finding in said] == [code] * bool(code)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("behind", "faulty"),
    [
        ("trainer.test(model, loader)", False),
        ("fresh = Sequential()\ntrainer.test(fresh, loader)", True),
        ("trainer.validate(Sequential(), loader)", True),
        ("fresh = Sequential()\nfresh.load_state_dict(state)\ntrainer.test(fresh, loader)", False),
        ("fresh = Sequential.load_from_checkpoint('best.ckpt')\ntrainer.test(fresh, loader)", False),
        ("trainer.test(Sequential(), loader, ckpt_path='best')", False),
    ],
)
def test_a_new_network_in_place_of_the_trained_one_is_named(behind: str, faulty: bool) -> None:
    library = LibraryTraining("Lightning's Trainer", 5)
    text = "model = Sequential()\ntrainer.fit(model)\n" + behind
    said = found(perceptron(), EVALUATES_UNTRAINED, text, {}, library)
    assert [finding.code for finding in said] == ["model.evaluates-untrained"] * faulty


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("name", "faulty"), [("average", True), ("untrained", False), ("random_net", False)])
def test_a_copy_that_is_called_untrained_is_there_to_be_compared_with(name: str, faulty: bool) -> None:
    model, left = perceptron(), perceptron()
    text = f"{name} = Sequential()\ntrainer.fit(model)\nprint({name}(x), model(x))"
    said = found(model, EVALUATES_UNTRAINED, text, {name: left}, LibraryTraining("Lightning's Trainer", 5))
    assert [finding.code for finding in said] == ["model.evaluates-untrained"] * faulty


class ByHand(nn.Module):
    """As a LightningModule that steps once in two batches."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        module: Any = self
        module.manual_backward(self.layer(batch).mean() / 2)
        if (batch_idx + 1) % 2 == 0:
            module.optimizers().step()
            module.optimizers().zero_grad()


def test_a_step_by_hand_is_told_the_number_of_its_batch() -> None:
    model = ByHand()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before = model.layer.weight.detach().clone()
    _stepped_by_hand(model, torch.ones(4, 3), 2, optimizer, [])
    assert torch.equal(model.layer.weight, before)
    loss = _stepped_by_hand(model, torch.ones(4, 3), 3, optimizer, [])
    assert not torch.equal(model.layer.weight, before)
    assert loss.ndim == 0
