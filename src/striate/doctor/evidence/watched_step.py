"""Measures one step of a trial: the arguments of the loss, the gradients, and the optimizer's update."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from striate.doctor.evidence.quality import accuracy_of
from striate.doctor.evidence.step_trace import StepTrace, own_functions, watched
from striate.doctor.setup.batch import copied, main_tensor
from striate.doctor.setup.replicas import Replica
from striate.observe.gradients import accumulations_of, gradients_of
from striate.observe.module_calls import ModuleCall, module_calls, optimizer_steps
from striate.observe.tensors import tensors_in


@dataclass
class StepRow:
    """Measurements of one step. Norms, `uphill` and `gradient_cosine` are None in steps that are not measured in
    detail."""

    loss: float
    """What the step returned, or else the result of its last call of the loss; NaN without either."""
    seconds: float
    rates: tuple[float, ...]
    """Learning rates when the optimizer stepped; empty where it did not."""
    steps: int
    """How often the optimizer stepped."""
    accuracy: float | None = None
    raw: float | None = None
    """L2 norm of the gradients that the backward pass of this step computed."""
    applied: float | None = None
    """L2 norm of the gradients that the optimizer used."""
    stale: float | None = None
    """L2 norm of the gradients that the optimizer's parameters had before the backward pass; None without one."""
    moved: float | None = None
    """L2 norm of the update of all parameters."""
    weights: float | None = None
    """L2 norm of all parameters before the step."""
    training: bool | None = None
    """Whether the network was in training mode in any pass that records gradients; None where it did not run."""
    uphill: bool | None = None
    """Whether the parameters moved along the gradients; None also where either norm is zero."""
    gradient_cosine: float | None = None
    """Cosine of the gradients that the optimizer used and those that this step computed."""


class WatchedLoss:
    """The loss that the step calls; reports its arguments and its result to the watch."""

    def __init__(self, loss: Any) -> None:
        self.loss = loss
        self.watch: Watch | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        watch = self.watch
        assert watch is not None
        watch.phase = "loss"
        value = self.loss(*args, **kwargs)
        watch.phase = "backward"
        with suppress(Exception):  # measuring never raises in the user's step
            watch.called(args, value)
        return value

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loss, name)


class Watch:
    """Measures one step of a trial. `closely`: measure each parameter, and add the names of those that the step changes
    to `changed`. `step_trace`: the trace to fill; None for a step that is not traced."""

    def __init__(self, replica: Replica, changed: set[str], *, closely: bool, step_trace: StepTrace | None) -> None:
        self.replica, self.changed, self.closely, self.step_trace = replica, changed, closely, step_trace
        self.trained = [p for group in replica.optimizer.param_groups for p in group["params"]]
        self.optimized = set(map(id, self.trained))
        self.phase = "start"
        self.values: list[float] = []
        self.accuracy: float | None = None
        self.rates: tuple[float, ...] = ()
        self.steps = 0
        self.computed: dict[int, torch.Tensor] = {}
        """The sum of the gradients of each parameter that were computed, by its identity."""
        self.accumulated: dict[int, torch.Tensor] = {}
        """The same of those that were added to `grad`: not what `torch.autograd.grad` computes, as in meta-learning."""
        self.latest: dict[int, torch.Tensor] = {}
        self.applied: float | None = None
        self.stale: float | None = None
        self.moved: float | None = None
        self.weights: float | None = None
        self.training: bool | None = None
        self.uphill: bool | None = None
        self.gradient_cosine: float | None = None
        self.scales: list[float] = []

    @contextmanager
    def step(self) -> Iterator[None]:
        optimizer, model = self.replica.optimizer, self.replica.model
        parameters = list(model.named_parameters())
        before = {name: p.detach().clone() for name, p in parameters} if self.closely else {}
        closely = self.closely or self.step_trace is not None
        measured = [p for _, p in parameters if p.is_leaf] if closely else []
        try:
            with (
                optimizer_steps(optimizer, self._stepping),
                gradients_of((p, self._gradient(p)) for p in measured),
                accumulations_of((p, self._accumulated) for p in measured),
                module_calls({"": model}, self._entering, self._leaving),
                scales_noted(self.scales),
                watched(model, self.step_trace) if self.step_trace is not None else nullcontext(),
            ):
                yield
        finally:
            self._after(parameters, before)

    def gives_loss(self, returned: Any) -> bool:
        """Whether the step returned a loss or called one."""
        return bool(self.values) or _number(returned) is not None

    def row(self, returned: Any, seconds: float) -> StepRow:
        loss = _number(returned)
        value = loss if loss is not None else (self.values[-1] if self.values else math.nan)
        if self.step_trace is not None:
            self.step_trace.loss = value
        return StepRow(
            value,
            seconds,
            self.rates,
            self.steps,
            self.accuracy,
            _norm(self.raw.values()) if self.closely else None,
            self.applied,
            self.stale,
            self.moved,
            self.weights,
            self.training,
            self.uphill,
            self.gradient_cosine,
        )

    def called(self, args: tuple[Any, ...], value: Any) -> None:
        number = _number(value)
        if number is not None:
            self.values.append(number)
        outputs = main_tensor(args[0]) if args else None
        targets = main_tensor(args[1]) if len(args) > 1 else None
        if targets is not None and not targets.ndim:  # of a single sample, which has no axis of samples then
            outputs, targets = None if outputs is None else outputs[None], targets[None]
        self.accuracy = accuracy_of(outputs, targets)
        step_trace = self.step_trace
        if step_trace is not None and isinstance(value, torch.Tensor):
            step_trace.functions |= own_functions(value)
        if step_trace is not None and step_trace.loss_outputs is None:
            step_trace.loss_outputs = None if outputs is None else outputs.detach().clone()
            step_trace.loss_targets = None if targets is None else targets.detach().clone()
            if isinstance(value, torch.Tensor):
                step_trace.loss_needs_gradient = value.requires_grad
        elif step_trace is not None and targets is not None and step_trace.loss_targets is not None:
            first = step_trace.loss_outputs
            same = outputs is not None and first is not None and torch.equal(outputs, first)
            step_trace.blended |= same and not torch.equal(targets, step_trace.loss_targets)

    def _entering(self, call: ModuleCall) -> None:
        self.phase = "forward"
        if torch.is_grad_enabled():
            self.training = bool(self.training) or self.replica.model.training
        step_trace = self.step_trace
        if step_trace is not None:
            step_trace.calls += 1
            tensors = tensors_in((list(call.args), call.kwargs))
            step_trace.given += [t.detach().clone() for t in tensors if not (t.is_floating_point() or t.is_complex())]
            if step_trace.calls == 1:
                step_trace.arguments = (copied(list(call.args)), copied(call.kwargs))

    def _leaving(self, call: ModuleCall) -> None:
        self.phase = "backward"
        if self.step_trace is not None and self.step_trace.outputs is None:
            tensor = main_tensor(call.output)
            self.step_trace.outputs = None if tensor is None else tensor.detach().clone()
            self.step_trace.shapes = [tuple(t.shape) for t in tensors_in(call.output) if t.is_floating_point()]
            self.step_trace.functions |= set() if tensor is None else own_functions(tensor)

    def _gradient(self, parameter: nn.Parameter) -> Callable[[torch.Tensor], None]:
        def note(gradient: torch.Tensor) -> None:
            dense = _dense(gradient)
            self.latest[id(parameter)] = dense
            _add(self.computed, parameter, dense)

        return note

    def _accumulated(self, parameter: torch.Tensor) -> None:
        latest = self.latest.pop(id(parameter), None)
        if latest is None:
            return
        # At the first gradient for the optimizer, the gradients in its parameters are left from before. Those of other
        # networks, as of an adversary, come before they are cleared.
        if self.stale is None and id(parameter) in self.optimized:
            left = [p.grad for p in self.trained if p.grad is not None and p is not parameter]
            own = [] if parameter.grad is None else [_dense(parameter.grad) - latest]
            self.stale = _norm([*left, *own])
        _add(self.accumulated, parameter, latest)

    @property
    def raw(self) -> dict[int, torch.Tensor]:
        """The gradients that this step computed for `grad`, by the identity of the parameter; all that it computed
        where the step assigns them."""
        return self.accumulated or self.computed

    def _stepping(self) -> None:
        self.phase = "step"
        optimizer = self.replica.optimizer
        self.steps += 1
        self.rates = tuple(float(group["lr"]) for group in optimizer.param_groups)
        if self.closely:
            given = {id(p): p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None}
            self.applied = _norm(given.values())
            own = {key: self.raw[key] for key in given.keys() & self.raw.keys()}
            along = sum(float((given[key].to_dense().conj() * own[key]).real.sum()) for key in own)
            norms = self.applied * _norm(own.values())
            self.gradient_cosine = along / norms if norms and math.isfinite(norms) else None

    def _after(self, parameters: list[tuple[str, nn.Parameter]], before: dict[str, torch.Tensor]) -> None:
        if self.scales:
            for sums in (self.computed, self.accumulated):
                sums |= {place: gradient / self.scales[-1] for place, gradient in sums.items()}
        if self.step_trace is not None:
            gradients = {name: norm_of(self.raw[id(p)]) if id(p) in self.raw else None for name, p in parameters}
            self.step_trace.gradients = gradients
        if not self.closely:
            return
        moves = {name: (p.detach() - before[name], self.raw.get(id(p))) for name, p in parameters if name in before}
        changes = {name: norm_of(move) for name, (move, _) in moves.items()}
        self.changed |= {name for name, change in changes.items() if change != 0}
        self.moved = math.hypot(*changes.values())
        along = sum(float((move.conj() * raw).real.sum()) for move, raw in moves.values() if raw is not None)
        self.uphill = along > 0 if along else None
        self.weights = _norm(before.values())


@contextmanager
def scales_noted(scales: list[float]) -> Iterator[None]:
    """While the body runs, record in `scales` the scale by which GradScalers divide gradients."""
    divide = torch.amp.GradScaler.unscale_

    def noting(scaler: torch.amp.GradScaler, optimizer: Any) -> None:
        scales.append(scaler.get_scale())
        divide(scaler, optimizer)

    torch.amp.GradScaler.unscale_ = noting  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        torch.amp.GradScaler.unscale_ = divide  # type: ignore[method-assign]


def _add(sums: dict[int, torch.Tensor], parameter: torch.Tensor, gradient: torch.Tensor) -> None:
    known = sums.get(id(parameter))
    sums[id(parameter)] = gradient.clone() if known is None else known + gradient


def _dense(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor.to_dense() if tensor.is_sparse else tensor).detach()


def _norm(tensors: Any) -> float:
    return math.hypot(*map(norm_of, tensors))


def norm_of(tensor: torch.Tensor) -> float:
    """The L2 norm of a tensor, which may be sparse or complex."""
    dense = _dense(tensor)
    return float(torch.linalg.vector_norm(dense if dense.dtype.is_complex else dense.float()))


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
