"""Whether a candidate computes what plain fp32 computes: loss, outputs and gradients of a real batch.

The check runs on copies, in training mode without dropout and with the same random numbers. The limits:

- **fp32 in another layout** sums in another order. One rounding is 6e-8 of a number, and a network makes some hundred
  in a row: outputs, loss and gradients may be off by 1e-4 (L2 norm). Most networks of the zoo are off by 1e-6 or less.
- **bf16** keeps 8 bits of each factor: one rounding is up to 0.4 %. Over the layers they add up like noise, so outputs
  may be off by 6 %, the loss by 1.5 %, gradients by 15 %. Most networks of the zoo have 0.7 % in outputs and up to 5 %
  in gradients, airbench 4 and 12 %. GoogLeNet at initialization has more and is refused.
- **fp16** and **tf32** keep 11 bits: outputs may be off by 1 %, the loss by 0.4 %, gradients by 3 %.
- The gradient of a batch is itself an estimate. How far the gradient g₁ of its first half is from the whole one, ‖g₁ −
  g‖, shows how much it would differ for other samples: often more than the gradient itself. An error of up to half of
  that adds at most a quarter to the variance, as would a batch that is smaller by a fifth. bf16 may be off by half of
  it, fp16 and tf32 by a tenth, fp32 layouts by a twentieth: where max pooling or ReLU sees two nearly equal numbers,
  another order of sums sends the gradient to the other one, which weighs more the fewer samples are compared. The half
  is computed only where the strict limits are exceeded.

The limits hold for each tensor of the gradient and for the whole gradient. A tensor whose gradient is tiny beside the
whole is held to a share of the whole, since relative errors of tiny numbers say nothing. A bias or a scale whose
gradient is below a hundredth of the whole may be off by a third of what the whole may: where a later normalization
cancels it, as airbench's first bias, its gradient is a small difference of large sums, 0.1 % of the whole in fp32, up
to 4 % in bf16.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from striate.data.loader import Batch
from striate.data.targets import Targets
from striate.inference.agreement import relative_error
from striate.inference.plan import TOLERANCES, Tolerance
from striate.models.preserved_state import same_random_state
from striate.tasks.outputs import Outputs, leaves
from striate.tasks.task import Task
from striate.training.execution import autocast, make_scaler, speed_settings
from striate.training.objective import Objective
from striate.training.plan.plan_table import Candidate
from striate.training.plan.trial import Trials
from striate.training.prepared_batch import prepared_inputs

_SMALL = 0.02  # of the norm of the whole gradient: smaller tensors are compared with this much
_NOTHING = 0.01  # of the whole gradient's norm: below it a bias or a scale is held to `_OF_WHOLE`
_OF_WHOLE = 1 / 3  # of the error that the whole gradient may have


@dataclass(frozen=True)
class Agreement:
    """How far a candidate is from plain fp32."""

    gradient: float
    """Relative error of the whole gradient (L2 norm)."""
    worst: str
    """The parameter whose gradient is nearest to its limit, or furthest beyond."""
    worst_error: float
    """Relative error of its gradient."""
    identical: bool
    """Whether no bit differs."""
    why: str
    """Which error exceeds its limit; empty where none does."""

    @property
    def passed(self) -> bool:
        """Whether every error is within its limit."""
        return not self.why

    def __str__(self) -> str:
        if self.identical:
            return "bit for bit"
        return self.why or f"gradient off by {100 * self.gradient:.2g} %"


@dataclass(frozen=True)
class Result:
    """The result of one forward and backward pass."""

    loss: torch.Tensor
    """Scalar."""
    outputs: torch.Tensor
    """All values that the loss of the task was computed from, in one row."""
    gradients: dict[str, torch.Tensor]
    """By name of the parameter."""

    @cached_property
    def norms(self) -> dict[str, float]:
        """L2 norm of each gradient."""
        return {name: _norm(gradient) for name, gradient in self.gradients.items()}


@dataclass(frozen=True)
class Fp32Reference:
    """The result of plain fp32, which candidates are compared with."""

    result: Result
    """Of the whole batch."""
    noise: Callable[[], Mapping[str, float]]
    """By how much each gradient would differ for other samples (L2 norm); computed when it is called first."""


def reference_result(trials: Trials, plain: Candidate) -> Fp32Reference:
    """`plain`, uncompiled, on the whole batch; on its first half when `noise` is called. Raises what the network
    raises."""
    batch, plain = trials.batch, replace(plain, compile="off")
    half, result = len(batch.ids) // 2, pass_through(trials, plain, batch)

    @cache
    def noise() -> Mapping[str, float]:
        if half < 2:
            return {}
        first = pass_through(trials, plain, _part(batch, 0, half)).gradients
        return {name: _norm(first[name] - whole) for name, whole in result.gradients.items() if name in first}

    return Fp32Reference(result, noise)


def compare(trials: Trials, candidate: Candidate, reference: Fp32Reference) -> Agreement:
    """Run the candidate once and compare it with the reference. Raises what the network raises."""
    result = pass_through(trials, candidate, trials.batch)
    return agreement(result, reference, TOLERANCES[candidate.precision])


def agreement(result: Result, reference: Fp32Reference, allowed: Tolerance) -> Agreement:
    """How far `result` is from the reference, and whether that exceeds `allowed`."""
    strict = _compared(result, reference.result, {}, allowed)
    return strict if strict.passed else _compared(result, reference.result, reference.noise(), allowed)


def _compared(result: Result, plain: Result, noise: Mapping[str, float], allowed: Tolerance) -> Agreement:
    loss = abs(float(result.loss - plain.loss)) / max(abs(float(plain.loss)), 1e-3)
    outputs = relative_error(result.outputs, plain.outputs)
    if not plain.gradients:
        return Agreement(1.0, "", 1.0, False, "no gradient to compare: no weight is trainable")
    lost = sorted(set(plain.gradients) ^ set(result.gradients))
    if lost:
        return Agreement(1.0, lost[0], 1.0, False, f"a different set of gradients: {lost[0]}")
    norms = plain.norms
    size = _root_of_squares(norms.values())
    worst, pressure, worst_error = "", -1.0, 0.0
    errors = {name: _norm(result.gradients[name] - g) for name, g in plain.gradients.items()}
    for name, error in errors.items():
        own = max(norms[name], _SMALL * size)
        limit = max(allowed.gradient * own, allowed.noise * noise.get(name, 0.0), 1e-12)
        if plain.gradients[name].ndim <= 1 and norms[name] < _NOTHING * size:
            limit = max(limit, _OF_WHOLE * allowed.gradient * size)
        pressing = math.inf if math.isnan(error) else error / limit  # NaN exceeds every limit
        if pressing > pressure:
            worst, pressure, worst_error = name, pressing, error / max(own, 1e-12)
    whole = _root_of_squares(errors.values())
    whole_limit = max(allowed.gradient * size, allowed.noise * _root_of_squares(noise.values()), 1e-12)
    why = ""
    if not loss <= allowed.loss:
        why = f"loss off by {loss:.2g}, {allowed.loss:g} allowed"
    elif not outputs <= allowed.outputs:
        why = f"outputs off by {outputs:.2g}, {allowed.outputs:g} allowed"
    elif not whole <= whole_limit:
        why = f"gradient off by {whole / max(size, 1e-12):.2g}, {whole_limit / max(size, 1e-12):.2g} allowed"
    elif not pressure <= 1:
        why = f"gradient of {worst} off by {worst_error:.2g}, {worst_error / pressure:.2g} allowed"
    same = whole == 0 and _identical(result, plain)
    return Agreement(whole / max(size, 1e-12), worst, worst_error, same, why)


def pass_through(trials: Trials, candidate: Candidate, batch: Batch) -> Result:
    """Loss, outputs and gradients of `batch` as the candidate computes them, on its copy of the network."""
    config, state = trials.config(candidate), trials.state(candidate)
    recorder = _Recorder(trials.work.task)
    objective = Objective(recorder, config, state.heads)  # type: ignore[arg-type]
    scaler = make_scaler(config)
    inputs, targets = prepared_inputs(batch, trials.work.task, config, trials.work.normalize, 0, 0)
    parameters = dict(state.module.named_parameters())
    state.optimizer.zero_grad(set_to_none=True)
    with same_random_state(), speed_settings(config), _without_dropout(state.module):
        torch.manual_seed(trials.work.config.seed)
        with autocast(config, inputs.device):
            loss, _ = objective.training_loss(state.module, inputs, targets)
        (loss if scaler is None else scaler.scale(loss)).backward()
    scale = 1.0 if scaler is None else scaler.get_scale()
    gradients = {name: p.grad.detach() / scale for name, p in parameters.items() if p.grad is not None}
    gradients = {name: (g if g.is_floating_point() else g.float()).contiguous() for name, g in gradients.items()}
    state.optimizer.zero_grad(set_to_none=True)
    return Result(loss.detach().float(), recorder.outputs(), gradients)


class _Recorder:
    """A task that records what its loss was computed from."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._seen: list[torch.Tensor] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def loss_sum(self, outputs: Outputs, targets: Targets) -> torch.Tensor:
        """The loss of the task."""
        self._seen += [part.detach().float().flatten() for part in leaves(outputs)]
        return self._task.loss_sum(outputs, targets)

    def outputs(self) -> torch.Tensor:
        """All recorded values in one row."""
        return torch.cat(self._seen) if self._seen else torch.zeros(0)


@contextmanager
def _without_dropout(module: nn.Module) -> Iterator[None]:
    dropping = [part for part in module.modules() if isinstance(part, _DropoutNd) and part.training]
    for part in dropping:
        part.eval()
    try:
        yield
    finally:
        for part in dropping:
            part.train()


def _part(batch: Batch, first: int, last: int) -> Batch:
    return Batch(batch.inputs[first:last], batch.targets[first:last], batch.ids[first:last])


def _norm(tensor: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor.float()))


def _root_of_squares(values: Any) -> float:
    return float(sum(value * value for value in values) ** 0.5)


def _identical(one: Result, other: Result) -> bool:
    return (
        torch.equal(one.loss, other.loss)
        and torch.equal(one.outputs, other.outputs)
        and all(torch.equal(one.gradients[name], gradient) for name, gradient in other.gradients.items())
    )
