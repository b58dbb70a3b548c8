"""A trial: a short training of a replica with the user's steps, and a record of each step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from striate.doctor.evidence.step_trace import StepTrace
from striate.doctor.evidence.watched_step import StepRow, Watch, WatchedLoss
from striate.doctor.setup.batch import copied
from striate.doctor.setup.preserved_state import same_values
from striate.doctor.setup.replicas import Replica, give_step_hooks, make_replica
from striate.doctor.setup.training_setup import Loss, Step, TrainingSetup
from striate.machine.memory import ran_out
from striate.models.preserved_state import preserved
from striate.observe.module_calls import module_calls

CLOSE_STEPS = 10
"""The first steps, which are measured parameter by parameter: enough for two updates that accumulate four batches
each."""
FEWEST_UPHILL = 3
"""A step maximizes where at least this many of the first steps move up the gradient, and none moves down."""
FEWEST_TO_JUDGE = 40
"""Steps after which an event that need not happen at every step, as an update after accumulation, counts as missing."""
LATER = 30
"""The number of the second step that is traced, after effects of the initialization have settled."""


@dataclass(frozen=True)
class Change:
    """What a trial changes of the setup; None leaves it as it is."""

    optimizer: Callable[[nn.Module], Optimizer] | None = None
    """Makes the optimizer."""
    loss: Any = None
    """The loss."""
    step: Any = None
    """The training step."""
    around: Callable[[nn.Module, Any, Optimizer, Loss], AbstractContextManager[Any]] | None = None
    """Is called with the arguments of each step, and returns the context in which it runs."""
    wrap_loss: Callable[[Any], Any] | None = None
    """Is called with the loss, and returns the one that is used in its place."""
    prepare: Callable[[Replica], None] | None = None
    """Is called with the replica before the first step and may change it."""
    notes: Any = None
    """Where the functions above record what they see. Read `Trial.notes` instead: the trial may be an earlier one of
    the same name, whose own change recorded them."""


@dataclass
class Trial:
    """A finished trial."""

    replica: Replica
    """As it is after the trial."""
    step: Step
    loss: Any
    rows: list[StepRow] = field(default_factory=list)
    first: StepTrace = field(default_factory=StepTrace)
    """The trace of the first step."""
    later: StepTrace = field(default_factory=StepTrace)
    """The trace of step LATER; empty where there were fewer steps."""
    changed: set[str] = field(default_factory=set)
    """Names of the network's parameters that the first steps changed."""
    error: BaseException | None = None
    """What a step raised, which ended the trial; None where no step failed."""
    phase: str = ""
    """Where it was raised, as in `StepTrace`; empty without an error."""
    changed_original: bool = False
    """Whether the step changed the user's network, which was restored, instead of the network that it was given."""
    notes: Any = None
    """What the functions of the change recorded."""
    without_loss: int = 0
    """How many steps returned no loss and called none. Their losses are NaN."""

    @property
    def losses(self) -> list[float]:
        """The loss of each step."""
        return [row.loss for row in self.rows]

    @property
    def maximizes(self) -> bool:
        """Whether its steps move up the gradient, as for a likelihood: by the optimizer's option, or as each of the
        first steps did."""
        uphill = [row.uphill for row in self.rows if row.uphill is not None]
        by_option = any(group.get("maximize") for group in self.replica.optimizer.param_groups)
        return by_option or (len(uphill) >= FEWEST_UPHILL and all(uphill))

    @property
    def gives_loss(self) -> bool:
        """Whether any step returned a loss or called one."""
        return not self.rows or self.without_loss < len(self.rows)

    @property
    def diverged(self) -> bool:
        """Whether a loss was not finite."""
        return self.error is None and self.gives_loss and any(not math.isfinite(loss) for loss in self.losses)

    def level(self, last: int = 10) -> float:
        """The mean loss of the last steps; NaN or infinite where one of them is."""
        tail = self.losses[-last:]
        return sum(tail) / len(tail) if tail else math.nan


def run_trial(
    setup: TrainingSetup,
    batches: Sequence[Any],
    steps: int,
    until: float,
    change: Change | None = None,
    close: bool = True,
) -> Trial:
    """Train a replica for `steps` steps on the batches, cyclically, until the deadline `until` (on perf_counter).
    `close`: measure the first steps in detail. An error that the user's code raises ends the trial and is recorded,
    unless memory ran out."""
    change = change or Change()
    replica = _changed(make_replica(setup), change)
    step = change.step or replica.step
    loss = change.loss or replica.loss
    step = _within(change.around, step) if change.around else step
    loss = change.wrap_loss(loss) if change.wrap_loss else loss
    trial = Trial(replica, step, loss, notes=change.notes)
    before = _values(replica.originals)
    torch.manual_seed(0)
    go_on(trial, batches, steps, until, close=close)
    after = _values(replica.originals)
    trial.changed_original = any(not same_values(before[name], after[name]) for name in before)
    if trial.changed_original:
        _put_back(replica.originals, before)
    return trial


def go_on(trial: Trial, batches: Sequence[Any], steps: int, until: float, *, close: bool = False) -> None:
    """Continue a trial for at most `steps` further steps."""
    replica, loss = trial.replica, WatchedLoss(trial.loss)
    begin = len(trial.rows)
    for number in range(begin, begin + steps):
        step_trace = {0: trial.first, LATER: trial.later}.get(number) if close else None
        watch = Watch(replica, trial.changed, closely=close and number < CLOSE_STEPS, step_trace=step_trace)
        loss.watch = watch
        batch = copied(batches[number % len(batches)])
        started = perf_counter()
        try:
            with watch.step():
                returned = trial.step(replica.model, batch, replica.optimizer, loss)
                wait_for(replica.model)
        except Exception as error:
            if ran_out(error):
                raise
            trial.error, trial.phase = error, watch.phase
            if step_trace is not None:
                step_trace.error, step_trace.phase = error, watch.phase
            return
        row = watch.row(returned, perf_counter() - started)
        trial.rows.append(row)
        trial.without_loss += not watch.gives_loss(returned)
        diverged = trial.gives_loss and not math.isfinite(row.loss)
        if (diverged and number >= CLOSE_STEPS) or perf_counter() > until:
            return


def evaluated_loss(trial: Trial, batches: Sequence[Any], until: float) -> float:
    """The mean loss of a finished trial's step on batches, with the network in evaluation mode whatever mode the step
    sets; its parameters are restored. NaN where the step fails, or the time runs out."""
    model = trial.replica.model
    before, begin = _values(dict(model.named_parameters())), len(trial.rows)
    with preserved(model), module_calls({"": model}, lambda _: model.eval()):
        for batch in batches:
            go_on(trial, [batch], 1, until)
            _put_back(dict(model.named_parameters()), before)
    losses = [row.loss for row in trial.rows[begin:]]
    return sum(losses) / len(losses) if len(losses) == len(batches) else math.nan


def wait_for(model: nn.Module) -> None:
    """Wait on an accelerator until the launched kernels are done; a step would seem to take no time otherwise."""
    if any(parameter.device.type == "cuda" for parameter in model.parameters()):
        torch.cuda.synchronize()


def _within(around: Callable[..., AbstractContextManager[Any]], step: Step) -> Step:
    def inside(*given: Any) -> Any:
        with around(*given):
            return step(*given)

    return inside


def _changed(replica: Replica, change: Change) -> Replica:
    if change.optimizer is not None:
        other = change.optimizer(replica.model)
        # Step hooks belong to the loop: one may call `zero_grad`.
        give_step_hooks(replica.optimizer, other, lambda hook: hook)
        replica = replace(replica, optimizer=other)
    if change.prepare is not None:
        change.prepare(replica)
    return replica


def _values(parameters: dict[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in parameters.items()}


def _put_back(parameters: dict[str, nn.Parameter], values: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(values[name])
