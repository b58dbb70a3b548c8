"""Minutes are measured on copies that nothing can hurt, with everything that costs time."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch
from short_runs import asked_for
from torch import nn

from striate.errors import ModelError
from striate.training.budget.pace import Pace
from striate.training.budget.short_trainings import run_short_trainings
from striate.training.budget.speed import Work, measure_pace
from striate.training.execution import execution_settings
from striate.training.measured import Measured
from striate.training.objective import Objective
from striate.training.prepare import Prepared, prepare

MINUTES = {"epochs": None, "budget__minutes": 0.01}


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("optimizer", ["sgd", "lars", "muon"])
def test_a_peak_that_only_a_warm_up_bears_can_be_measured(optimizer: str) -> None:
    fields = {"optim__name": optimizer, "optim__lr": 1e20, "model__name": "mlp(8)"}
    assert (prepare(asked_for(**MINUTES, **fields)).config.budget.steps or 0) >= 1


class Locked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lock, self.out = threading.Lock(), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(x.flatten(1))


@pytest.mark.parametrize("fields", [MINUTES, {"optim__ema": 0.9}], ids=["minutes", "average"])
def test_a_network_that_cannot_be_copied_is_refused_only_where_it_has_to_be(fields: dict) -> None:
    with pytest.raises(ModelError, match="cannot be copied"):
        prepare(asked_for(**fields), Locked())
    prepare(asked_for(), Locked())


@pytest.mark.slow
def test_validation_is_measured_with_its_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    original, numbers = Objective.measure, []

    def measure(self: Objective, *given: object) -> Measured:
        result = original(self, *given)
        numbers.append((self.heads is not None, len(result.vector())))
        return result

    monkeypatch.setattr(Objective, "measure", measure)
    prepared = prepare(asked_for(**MINUTES, auxiliary__rotation=0.5))
    assert prepared.state.heads is not None
    plain = prepare(asked_for()).objective.task
    assert numbers
    assert all(heads for heads, _ in numbers)
    assert numbers[0][1] == 2 + len(plain.tally(torch.zeros(1, 10), torch.zeros(1, dtype=torch.long)))


def work_of(prepared: Prepared) -> Work:
    return Work(prepared.state, prepared.task, prepared.splits, prepared.config, prepared.normalize)


def measured(prepared: Prepared) -> Pace:
    with execution_settings(prepared.config):
        return measure_pace(work_of(prepared), 1.0)


@pytest.mark.slow
def test_each_size_of_images_and_the_head_alone_are_measured_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    network = "conv(6,3,pad=1) relu gap fc(10)"
    fields = {"model__name": network, "schedule__first_size": 0.5, "schedule__full_size_from": 0.5}
    prepared = prepare(asked_for(**fields))
    tuned = replace(prepared.config.fine_tune, head_share=0.1)
    work = replace(work_of(prepared), config=replace(prepared.config, fine_tune=tuned))
    seen: list[tuple[int, bool]] = []

    def look(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if inputs[0].requires_grad or torch.is_grad_enabled():
            seen.append((inputs[0].shape[2], next(module.parameters()).requires_grad))

    hook = prepared.state.module.register_forward_pre_hook(look)
    with execution_settings(prepared.config):
        pace = measure_pace(work, 1.0)
    hook.remove()
    assert [phase.share for phase in pace.phases] == pytest.approx([0.1, 0.4, 0.5])
    assert list(dict.fromkeys(seen)) == [(4, False), (4, True), (8, True)]


@pytest.mark.slow
@pytest.mark.each_nth(3)
@pytest.mark.parametrize("fields", [{}, {"optim__ema": 0.9}, {"auxiliary__rotation": 0.5}], ids=str)
def test_measuring_and_short_trainings_leave_the_training_as_it_is(fields: dict) -> None:
    prepared = prepare(asked_for(epochs=4, **fields))
    before = {name: t.clone() for name, t in prepared.state.module.state_dict().items()}
    with execution_settings(prepared.config):
        torch.manual_seed(3)
        pace = measure_pace(work_of(prepared), 1.0)
        short = run_short_trainings(work_of(prepared), pace, 0.7)
    assert [pace.step_seconds > 0, pace.validation > 0, pace.finish > 0] == [True] * 3
    assert all(0 <= row.error <= 1 for row in short)
    assert (prepared.state.step, prepared.state.history, prepared.state.tally) == (0, [], None)
    assert all(torch.equal(before[name], t) for name, t in prepared.state.module.state_dict().items())


@pytest.mark.slow
def test_one_training_of_several_has_no_report_to_wait_for() -> None:
    work = work_of(prepare(asked_for(epochs=1, model__name="mlp(8)")))
    assert measure_pace(work, 1.0).finish > 1.0
    assert measure_pace(work, 1.0, report=False).finish == 0.0


@pytest.mark.slow
def test_a_local_rule_is_measured_too() -> None:
    network = "neocognitron(first=4,second=6,planes=8)"
    pace = measured(prepare(asked_for(epochs=4, model__name=network, optim__name="local-rule")))
    assert len(pace.phases) == 1
    assert pace.step_seconds > 0


@pytest.mark.slow
def test_short_trainings_are_whole_ones_in_few_steps_and_end_in_time() -> None:
    prepared = prepare(asked_for(epochs=20, model__name="mlp(16)"))
    pace = measured(prepared)
    with execution_settings(prepared.config):
        short = run_short_trainings(work_of(prepared), pace, 40 * pace.step_seconds + 3 * pace.validation)
        none = run_short_trainings(work_of(prepared), pace, 3 * pace.validation)
    assert none == ()
    steps = [row.steps for row in short]
    assert steps == sorted(steps)
    assert all(row.steps >= 4 for row in short)
    assert sum(steps) <= 60
