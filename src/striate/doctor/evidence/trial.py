"""A short training of a double: the user's own steps, with what happened in each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from striate.doctor.evidence.passage import Passage, watched
from striate.doctor.patient.batch import copied, main_tensor
from striate.doctor.patient.copies import Double, make_double
from striate.doctor.patient.patient import Patient, Step, usual_step
from striate.machine.memory import ran_out

CLOSE_STEPS = 6
"""So many first steps are looked at closely, each parameter by itself: enough for one that accumulates four batches."""


@dataclass(frozen=True)
class Change:
    """What a trial does otherwise than the patient. `rate`: a factor on every learning rate. `optimizer`: makes another
    one. `loss`, `step`: others. `prepare`: is given the double before the first step and may change it."""

    rate: float = 1.0
    optimizer: Callable[[nn.Module], Optimizer] | None = None
    loss: Any = None
    step: Any = None
    prepare: Callable[[Double], None] | None = None


@dataclass
class StepRow:
    """One step. `loss`: what the step returned, or its last call of the loss gave; not a number where neither is.

    `rates`: learning rates when the optimizer stepped, empty where it did not. Of steps that were looked at closely:
    `raw`: norm of the gradients that this step's backward gave. `applied`: norm of those the optimizer was given.
    `held`: norm of gradients that lay there before backward. `moved`: norm of the change of all parameters, and
    `weights`: their norm before. None in other steps.
    """

    loss: float
    seconds: float
    rates: tuple[float, ...]
    steps: int
    accuracy: float | None = None
    raw: float | None = None
    applied: float | None = None
    held: float | None = None
    moved: float | None = None
    weights: float | None = None


@dataclass
class Trial:
    """A finished trial. `double`: as it is after it. `first`: the watched first step. `changed`: names of parameters of
    the network that any step changed. `error`, `phase`: what ended it. `astray`: whether the step changed the user's
    own network (put back since), not the one it was given."""

    double: Double
    step: Step
    loss: Any
    rows: list[StepRow] = field(default_factory=list)
    first: Passage = field(default_factory=Passage)
    changed: set[str] = field(default_factory=set)
    error: BaseException | None = None
    phase: str = ""
    astray: bool = False

    @property
    def losses(self) -> list[float]:
        """The loss of each step."""
        return [row.loss for row in self.rows]

    @property
    def diverged(self) -> bool:
        """Whether a loss was not finite, or the last ones are far above the first."""
        return self.error is None and any(not math.isfinite(loss) for loss in self.losses)

    def level(self, last: int = 10) -> float:
        """The mean loss of the last steps; not a number where one was not finite."""
        tail = self.losses[-last:]
        return sum(tail) / len(tail) if tail else math.nan


def run_trial(
    patient: Patient, batches: Sequence[Any], steps: int, until: float, change: Change | None = None, close: bool = True
) -> Trial:
    """Train a double for `steps` steps on the batches, over and over, until `until` (of perf_counter) at most. `close`:
    look closely at the first steps. What the user's code raises ends the trial and is noted, but for want of memory."""
    change = change or Change()
    double = _changed(make_double(patient), change)
    trial = Trial(double, change.step or double.step, change.loss or double.loss)
    before = _values(double.twins)
    torch.manual_seed(0)
    go_on(trial, batches, steps, until, close=close)
    after = _values(double.twins)
    trial.astray = any(not torch.equal(before[name], after[name]) for name in before)
    if trial.astray:
        _put_back(double.twins, before)
    return trial


def go_on(trial: Trial, batches: Sequence[Any], steps: int, until: float, *, close: bool = False) -> None:
    """So many more steps of a trial."""
    double, loss = trial.double, _Loss(trial.loss)
    begin = len(trial.rows)
    for number in range(begin, begin + steps):
        watch = _Watch(trial, double, closely=close and number < CLOSE_STEPS, first=close and number == 0)
        loss.watch = watch
        batch = copied(batches[number % len(batches)])
        started = perf_counter()
        try:
            with watch.step():
                returned = trial.step(double.model, batch, double.optimizer, loss)
        except Exception as error:
            if ran_out(error):
                raise
            trial.error, trial.phase = error, watch.phase
            if number == 0:
                trial.first.error, trial.first.phase = error, watch.phase
            return
        row = watch.row(returned, perf_counter() - started)
        trial.rows.append(row)
        if (not math.isfinite(row.loss) and number >= CLOSE_STEPS) or perf_counter() > until:
            return


def usual_change(make: Callable[[nn.Module], Optimizer] | None = None) -> Change:
    """A change that trains with the usual step, and an optimizer that `make` makes."""
    return Change(step=usual_step, optimizer=make)


def _changed(double: Double, change: Change) -> Double:
    if change.optimizer is not None:
        double = Double(
            double.model, change.optimizer(double.model), double.loss, double.step, double.names, double.twins
        )
    for group in double.optimizer.param_groups:
        group["lr"] = group["lr"] * change.rate
        if "initial_lr" in group:
            group["initial_lr"] = group["initial_lr"] * change.rate
    if change.prepare is not None:
        change.prepare(double)
    return double


def _values(parameters: dict[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in parameters.items()}


def _put_back(parameters: dict[str, nn.Parameter], values: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(values[name])


class _Loss:
    """The loss as it is handed to the step: notes what it is given and what it gives."""

    def __init__(self, loss: Any) -> None:
        self.loss = loss
        self.watch: _Watch | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        watch = self.watch
        assert watch is not None
        if watch.phase in ("forward", "step"):
            watch.phase = "loss"
        value = self.loss(*args, **kwargs)
        watch.phase = "backward"
        watch.called(args, value)
        return value

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loss, name)


class _Watch:
    """One step of a trial."""

    def __init__(self, trial: Trial, double: Double, *, closely: bool, first: bool) -> None:
        self.trial, self.double, self.closely, self.first = trial, double, closely, first
        self.phase = "forward"
        self.values: list[float] = []
        self.accuracy: float | None = None
        self.rates: tuple[float, ...] = ()
        self.steps = 0
        self.raw: dict[int, torch.Tensor] = {}
        self.applied: float | None = None
        self.held: float | None = None
        self.moved: float | None = None
        self.weights: float | None = None

    @contextmanager
    def step(self) -> Iterator[None]:
        optimizer, model = self.double.optimizer, self.double.model
        handles: list[Any] = [optimizer.register_step_pre_hook(self._stepping)]
        parameters = list(model.named_parameters())
        before = {name: p.detach().clone() for name, p in parameters} if self.closely else {}
        if self.closely:
            self.held_before = {id(p): None if p.grad is None else p.grad.detach().clone() for _, p in parameters}
            handles += [p.register_hook(self._gradient(p)) for _, p in parameters if p.requires_grad and p.is_leaf]
        handles.append(model.register_forward_pre_hook(self._entering, with_kwargs=True))
        handles.append(model.register_forward_hook(self._leaving))
        try:
            with watched(model, self.trial.first) if self.first else nullcontext():
                yield
        finally:
            for handle in handles:
                handle.remove()
            self._after(parameters, before)

    def row(self, returned: Any, seconds: float) -> StepRow:
        loss = _number(returned)
        value = loss if loss is not None else (self.values[-1] if self.values else math.nan)
        if self.first:
            self.trial.first.loss = value
        return StepRow(
            value,
            seconds,
            self.rates,
            self.steps,
            self.accuracy,
            _norm(self.raw.values()) if self.closely else None,
            self.applied,
            self.held,
            self.moved,
            self.weights,
        )

    def called(self, args: tuple[Any, ...], value: Any) -> None:
        number = _number(value)
        if number is not None:
            self.values.append(number)
        outputs = main_tensor(args[0]) if args else None
        targets = main_tensor(args[1]) if len(args) > 1 else None
        self.accuracy = accuracy_of(outputs, targets)
        if self.first and self.trial.first.loss_outputs is None:
            passage = self.trial.first
            passage.loss_outputs = None if outputs is None else outputs.detach().clone()
            passage.loss_targets = None if targets is None else targets.detach().clone()
            if isinstance(value, torch.Tensor):
                passage.loss_needs_gradient = value.requires_grad
                passage.loss_shape = tuple(value.shape)

    def _entering(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.phase = "forward"
        if self.first:
            passage = self.trial.first
            passage.calls += 1
            if passage.calls == 1:
                passage.arguments = (copied(list(args)), copied(kwargs))

    def _leaving(self, _: nn.Module, __: Any, output: Any) -> None:
        self.phase = "backward"
        if self.first and self.trial.first.outputs is None:
            tensor = main_tensor(output)
            self.trial.first.outputs = None if tensor is None else tensor.detach().clone()

    def _gradient(self, parameter: nn.Parameter) -> Callable[[torch.Tensor], None]:
        def note(gradient: torch.Tensor) -> None:
            known = self.raw.get(id(parameter))
            dense = (gradient.to_dense() if gradient.is_sparse else gradient).detach()
            self.raw[id(parameter)] = dense.clone() if known is None else known + dense
            if self.held is None:  # the first gradient of this backward: what lies there now was left from before
                self.held = _norm(p.grad for p in self.double.model.parameters() if p.grad is not None)

        return note

    def _stepping(self, optimizer: Optimizer, _: Any, __: Any) -> None:
        self.phase = "step"
        self.steps += 1
        self.rates = tuple(float(group["lr"]) for group in optimizer.param_groups)
        if self.closely:
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            self.applied = _norm(gradients)

    def _after(self, parameters: list[tuple[str, nn.Parameter]], before: dict[str, torch.Tensor]) -> None:
        if not self.closely:
            return
        changes = {name: (p.detach() - before[name]).float().norm() for name, p in parameters if name in before}
        self.trial.changed |= {name for name, change in changes.items() if float(change) != 0}
        self.moved = math.sqrt(sum(float(change) ** 2 for change in changes.values()))
        self.weights = _norm(before.values())
        if self.first:
            names = self.double.names
            gradients: dict[str, float | None] = {name: None for name, _ in parameters}
            gradients.update({names[key]: float(value.float().norm()) for key, value in self.raw.items()})
            self.trial.first.gradients = gradients


def _norm(tensors: Any) -> float:
    norms = [float((t.to_dense() if t.is_sparse else t).detach().float().norm()) for t in tensors]
    return math.sqrt(sum(norm * norm for norm in norms))


def _number(value: Any) -> float | None:
    if isinstance(value, dict):
        value = value.get("loss")
    if isinstance(value, list | tuple) and value:
        value = value[0]
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        return float(value.detach())
    if isinstance(value, torch.Tensor) and value.numel():
        return float(value.detach().float().mean())
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def accuracy_of(outputs: torch.Tensor | None, targets: torch.Tensor | None) -> float | None:
    """The share of samples whose class is right: of (N, K, …) by the largest output, of (N,) or (N, 1) against two
    classes by its sign, or by a half where all lie in 0 to 1. None where it is no such thing."""
    answers = classes_of(outputs, targets)
    if answers is None or targets is None:
        return None
    return float((answers == targets.to(answers.device).reshape(answers.shape).long()).float().mean())


def classes_of(outputs: torch.Tensor | None, targets: torch.Tensor | None) -> torch.Tensor | None:
    """The classes that outputs stand for, in the shape of the targets; None where they are no such thing."""
    if outputs is None or targets is None or not targets.numel() or not outputs.numel():
        return None
    outputs = outputs.detach()
    if outputs.ndim == targets.ndim + 1 and outputs.shape[1] > 1 and not targets.is_floating_point():
        return outputs.argmax(1) if outputs.shape[2:] == targets.shape[1:] and len(outputs) == len(targets) else None
    if outputs.numel() == targets.numel() == len(targets) and bool(((targets == 0) | (targets == 1)).all()):
        flat = outputs.reshape(targets.shape)
        limit = 0.5 if bool(((flat >= 0) & (flat <= 1)).all()) else 0.0
        return (flat > limit).long()
    return None
