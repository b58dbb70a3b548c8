"""The loop itself: where the time goes, what validation does to a network, and half precision with its scaler."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
import torch
from short_runs import asked_for, events_of
from torch import nn

from striate.data.loader import Batch, batches
from striate.errors import NonFiniteLoss
from striate.models.build import build_model
from striate.runs.checkpoint import load_checkpoint, save_checkpoint
from striate.tasks.classify.metrics import METRICS
from striate.tasks.classify.task import Classify
from striate.tasks.registry import known_metrics
from striate.training import guards, loop, setup, step
from striate.training.config import Config
from striate.training.config_file import with_fields
from striate.training.events import EpochDone, EpochRow
from striate.training.nonfinite.detect import LossWatch, StepFacts
from striate.training.nonfinite.locate import Fault
from striate.training.objective import Objective
from striate.training.optimizers import make_optimizer
from striate.training.prepare import prepare
from striate.training.progress import describe_row
from striate.training.setup import Setup
from striate.training.state import TrainingState

TASK = Classify(("a", "b", "c"))
PLAIN = {"execution__plan": "plain"}


class Clock:
    """Time that passes only where a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_share_of_waiting_is_the_time_until_a_batch_is_there(monkeypatch) -> None:
    clock = Clock()
    original_step = loop.training_step

    def slow_batches(*given: object, **options: object):
        for batch in batches(*given, **options):
            clock.now += 3.0
            yield batch

    def slow_step(*given: object):
        clock.now += 1.0
        return original_step(*given)

    prepared = prepare(asked_for(epochs=2, **PLAIN))
    for module in (loop, guards, step):
        monkeypatch.setattr(module, "perf_counter", clock)
    monkeypatch.setattr(setup, "batches", slow_batches)
    monkeypatch.setattr(loop, "training_step", slow_step)
    rows = [event.row for event in events_of(prepared) if isinstance(event, EpochDone)]
    assert [row.data_wait for row in rows] == [pytest.approx(0.75)] * 2
    steps = -(-rows[0].samples // prepared.config.batch)
    assert [row.seconds for row in rows] == [pytest.approx(4.0 * steps)] * 2, (
        "what readers do between steps is not in it"
    )


def test_the_share_of_preparing_inputs_is_measured(monkeypatch) -> None:
    clock = Clock()
    original = step.mix_batch

    def slow_mix(*given: object, paste: bool):
        clock.now += 1.0
        return original(*given, paste=paste)

    def slow_average(self: object) -> None:
        clock.now += 4.0

    prepared = prepare(asked_for(optim__ema=0.9, **PLAIN))
    for module in (loop, guards, step):
        monkeypatch.setattr(module, "perf_counter", clock)
    monkeypatch.setattr(step, "mix_batch", slow_mix)
    monkeypatch.setattr("striate.training.average.MovingAverage.update", slow_average)
    row = next(event.row for event in events_of(prepared) if isinstance(event, EpochDone))
    assert row.augment_share == pytest.approx(0.2)
    assert row.data_wait == 0


def test_the_accuracy_of_few_samples_has_its_interval() -> None:
    row = EpochRow(1, 1, 0.1, {"loss": 1.0}, {"loss": 1.0, "accuracy": 0.5}, 2.0, 100, None)
    assert "val accuracy 50.0 % (9–91 %, n = 2)" in describe_row(row, METRICS, 2)
    assert "n =" not in describe_row(row, METRICS, 2000)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [("nme", 0.01936, "val NME 1.9 %"), ("recall@1", 1.0, "val recall@1 100.0 %"), ("rmse", 2.5, "val RMSE 2.5 ")],
)
def test_a_metric_has_the_name_and_the_unit_of_its_task(key: str, value: float, said: str) -> None:
    row = EpochRow(1, 1, 0.1, {"loss": 1.0}, {"loss": 1.0, key: value}, 2.0, 100, None)
    assert said in describe_row(row, known_metrics())


@pytest.mark.parametrize(("wait", "said"), [(None, ""), (0.0, ""), (0.05, ""), (0.31, "31 % waiting for data")])
def test_waiting_is_told_where_it_matters(wait: float | None, said: str) -> None:
    row = EpochRow(1, 1, 0.1, {"loss": 1.0}, {"loss": 1.0, "accuracy": 0.5}, 2.0, 100, wait)
    assert ("waiting" in describe_row(row, METRICS)) == bool(said)
    assert said in describe_row(row, METRICS)


class Precision(nn.Module):
    """Remembers in which mode and precision it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.frozen = nn.Linear(64, 10), nn.BatchNorm1d(64)
        self.seen: list[tuple[bool, bool]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append((self.training, torch.is_autocast_enabled("cpu")))
        return self.layer(self.frozen(x.flatten(1)))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_validation_computes_as_training_does_and_puts_modes_back(precision: str) -> None:
    module = Precision().train()
    module.frozen.eval()  # as a normalization whose statistics are kept
    config = asked_for(execution__precision=precision, execution__plan="plain")
    prepared = prepare(config, module)
    module.seen.clear()
    loop.validate(module, prepared.objective, prepared.splits["val"], prepared.config, prepared.normalize)
    assert set(module.seen) == {(False, precision == "bf16")}
    assert (module.training, module.layer.training, module.frozen.training) == (True, True, False)


def test_modes_are_put_back_where_validation_fails() -> None:
    prepared = prepare(asked_for(**PLAIN))
    module = prepared.state.module.train()
    with pytest.raises(RuntimeError):
        loop.validate(
            module, prepared.objective, prepared.splits["val"], prepared.config, lambda x: x[:, :, :3].float()
        )
    assert all(part.training for part in module.modules())


def nowhere(_: StepFacts) -> Fault:
    raise AssertionError("no gradient was bad")


def test_losses_are_looked_at_together_and_the_first_bad_step_is_named() -> None:
    watch = LossWatch()
    for number in range(1, 21):
        watch.add(StepFacts(number, 2, 0.5), torch.tensor(math.nan if number >= 7 else 1.0))
    with pytest.raises(NonFiniteLoss, match="step 7 in epoch 2") as caught:
        watch.check(nowhere)
    assert "found in step 20" in caught.value.got


def test_losses_are_looked_at_when_the_epoch_ends_and_once() -> None:
    watch = LossWatch()
    watch.check(nowhere)
    watch.add(StepFacts(1, 1, 0.5), torch.tensor(math.inf))
    with pytest.raises(NonFiniteLoss, match="step 1 in epoch 1"):
        watch.check(nowhere)
    watch.check(nowhere)


def half_precision_state() -> tuple[TrainingState, Config]:
    fields = {"optim.name": "sgd", "optim.lr": 0.05, "optim.weight_decay": 0, "batch": 12, "optim.clip": 1.0}
    config = with_fields(Config(), fields | {"execution.precision": "fp16", "execution.device": "cpu"})
    torch.manual_seed(0)
    module = build_model("conv(4,3) relu pool(2) fc(3)", (1, 8, 8), 3)
    return TrainingState(module, make_optimizer(module, config)), config


def go(state: TrainingState, config: Config, steps: range) -> list[float]:
    """Training steps; as many random batches."""
    losses = []
    for number in steps:
        generator = torch.Generator().manual_seed(number)
        x, y = torch.randn(12, 1, 8, 8, generator=generator), torch.randint(3, (12,), generator=generator)
        given = Batch(x + y[:, None, None, None], y, torch.arange(12))
        state.step = number
        setup = Setup(state, Objective(TASK, config), {}, config, lambda x: x)
        losses.append(float(step.training_step(setup, given)[0]))
    return losses


def test_half_precision_scales_the_loss_and_goes_on_bit_for_bit() -> None:
    (whole, config), (cut, _), (resumed, _) = (half_precision_state() for _ in range(3))
    losses = go(whole, config, range(30))
    assert sum(losses[-5:]) < sum(losses[:5])
    assert whole.scaler is not None
    go(cut, config, range(11))
    buffer = io.BytesIO()
    torch.save(cut.to_dict(), buffer)
    buffer.seek(0)
    resumed.restore(torch.load(buffer, weights_only=True))
    go(resumed, config, range(11, 30))
    assert resumed.scaler.state_dict() == whole.scaler.state_dict()
    assert 1 < whole.scaler.get_scale() < 2**16, "the first gradients were too large for it"
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, resumed.module.state_dict()[name]), name


def test_a_gradient_that_half_precision_cannot_hold_is_left_out_and_the_scale_halved() -> None:
    state, config = half_precision_state()
    go(state, config, range(1))
    before, scale = [p.detach().clone() for p in state.module.parameters()], state.scaler.get_scale()
    state.module.conv1.weight.register_hook(lambda gradient: gradient * math.inf)
    go(state, config, range(1, 2))
    assert all(torch.equal(a, b) for a, b in zip(before, state.module.parameters(), strict=True))
    assert state.scaler.get_scale() == scale / 2


def test_other_precisions_have_no_scaler() -> None:
    prepared = prepare(asked_for(execution__precision="bf16", execution__plan="plain"))
    next(iter(events_of(prepared)))
    assert prepared.state.scaler is None
    assert "scaler" not in prepared.state.to_dict()


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_what_an_optimizer_knows_goes_on_in_another_memory_format(name: str) -> None:
    def begun(layout: torch.memory_format) -> tuple[TrainingState, Config]:
        config = with_fields(Config(), {"optim.name": name, "optim.lr": 0.05, "optim.weight_decay": 0, "batch": 12})
        torch.manual_seed(0)
        module = build_model("conv(4,3) relu conv(6,3) relu fc(3)", (1, 8, 8), 3)
        module.to(memory_format=layout)
        return TrainingState(module, make_optimizer(module, config)), config

    (plain, config), (turned, _) = begun(torch.contiguous_format), begun(torch.channels_last)
    go(plain, config, range(4))
    save_checkpoint(Path("half.pt"), plain.to_dict())
    turned.restore(load_checkpoint(Path("half.pt"), torch.device("cpu")))
    go(plain, config, range(4, 8))
    go(turned, config, range(4, 8))
    for (key, a), b in zip(plain.module.named_parameters(), turned.module.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=key)


def test_numbers_of_a_task_that_were_first_needed_in_inference_serve_training() -> None:
    task = Classify(("a", "b", "c"), class_weights=(0.5, 1.0, 1.7301))
    outputs, targets = torch.randn(4, 3, requires_grad=True), torch.tensor([0, 1, 2, 1])
    with torch.inference_mode():
        task.loss(outputs, targets)
    task.loss(outputs, targets).backward()
    assert outputs.grad is not None


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_step_of_all_parameters_is_one_kernel(name: str) -> None:
    prepared = prepare(asked_for(optim__name=name, **PLAIN))
    assert all(group["fused"] for group in prepared.state.optimizer.param_groups)


def test_parameters_that_no_fused_kernel_takes_are_trained_all_the_same() -> None:
    module = nn.Module()
    module.weight = nn.Parameter(torch.ones(2, 2, dtype=torch.complex64))
    config = with_fields(Config(), {"optim.name": "sgd", "optim.lr": 0.5, "optim.momentum": 0, "optim.weight_decay": 0})
    optimizer = make_optimizer(module, config)
    module.weight.grad = torch.ones(2, 2, dtype=torch.complex64)
    optimizer.step()
    assert torch.equal(module.weight.detach(), torch.full((2, 2), 0.5 + 0j))
