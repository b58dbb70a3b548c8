"""`loss.not-finite`: is the loss or its gradient NaN or Inf, though the learning rate is not the cause?"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.quality import form_of
from striate.doctor.evidence.trial import Change, run_trial
from striate.doctor.setup.batch import is_binary, main_tensor
from striate.doctor.setup.replicas import Replica
from striate.observe.interventions import change_inputs, change_output
from striate.records import Finding
from striate.wording import several

_GROWN = 30.0
_REMEDY = "add a small number where it can be 0: `torch.log(p + 1e-8)`, `torch.sqrt(v + 1e-8)`, `a / (b + 1e-8)`"


@dataclass
class _StepSizes:
    """How large the weights and outputs are in one step."""

    weights: float = 0.0
    """Norm of the parameters before the step; Inf where one is NaN or Inf."""
    largest: float = 0.0
    """Largest absolute output; NaN or Inf where one is."""
    gradients: bool = True
    """Whether all gradients are finite."""


def _run(evidence: Evidence) -> Iterator[Finding]:
    weights = [name for name, p in evidence.setup.model.named_parameters() if not bool(torch.isfinite(p).all())]
    if weights:
        text = f"{several(len(weights), 'parameter holds', 'parameters hold')} NaN or Inf before the first step"
        yield _finding("error", weights[0], text, "load finite weights, or create the network again")
        return
    if not evidence.trial.gives_loss:
        raise NoEvidence("the step computes no loss")
    rows = evidence.trial.rows
    wrong = next((number for number, row in enumerate(rows) if not math.isfinite(row.loss)), None)
    first = any(norm is not None and not math.isfinite(norm) for norm in evidence.first.gradients.values())
    if wrong is None and not first:
        yield from _for_perfect_predictions(evidence)
        return
    finding = _in_first_wrong_step(evidence, 0 if first else wrong or 0)
    if finding is not None:
        yield finding


def _in_first_wrong_step(evidence: Evidence, wrong: int) -> Finding | None:
    """The finding for the first step with NaN or Inf; None where the weights grew too large before it."""
    sizes: list[_StepSizes] = []

    def prepare(replica: Replica) -> None:
        _watch_sizes(replica, sizes)

    # Batches, random numbers and learning rates are those of the trial, so its steps are repeated exactly.
    again = run_trial(
        evidence.setup, evidence.train.raw, wrong + 1, evidence.clock.until(0.2), Change(prepare=prepare), close=False
    )
    for number, (row, step) in enumerate(zip(again.rows, sizes, strict=False)):
        if math.isfinite(row.loss) and step.gradients and math.isfinite(step.largest):
            continue
        if step.weights > _GROWN * max(sizes[0].weights, 1.0):
            return None  # training diverged before: `optim.lr-too-high` reports that
        return _explained(evidence, number, row.loss, step)
    return None


def _explained(evidence: Evidence, number: int, loss: float, sizes: _StepSizes) -> Finding:
    function = _function_at_fault(evidence, number)
    when = "in the first step" if number == 0 else f"in step {number + 1} of a trial"
    named = "" if function is None else f"; in the backward pass it starts at {function}"
    if not math.isfinite(sizes.largest):
        layer = _first_layer(evidence) if number == 0 else None
        text = f"{when} the network's outputs are NaN or Inf, with finite weights (norm {sizes.weights:.3g}){named}"
        return _finding("error", layer or "the network", text, _REMEDY)
    outputs = f"with outputs of at most {sizes.largest:.3g}"
    if not math.isfinite(loss):
        remedy = _REMEDY
        if function is not None and function.startswith("log"):
            remedy = "compute it from scores: `nn.CrossEntropyLoss()` or `nn.BCEWithLogitsLoss()`; or " + _REMEDY
        return _finding("error", "the loss", f"{when} the loss is {loss}, {outputs}{named}", remedy)
    text = f"{when} gradients are NaN or Inf although the loss is {loss:.3g}, {outputs}{named}"
    return _finding("error", "the gradient of the loss", text, _REMEDY)


def _watch_sizes(replica: Replica, sizes: list[_StepSizes]) -> None:
    """Append an entry to `sizes` in each step of the replica."""
    parameters = [p for p in replica.model.parameters() if p.is_floating_point()]

    def enter(_: tuple[Any, ...]) -> None:
        squares = sum(float(p.detach().double().square().sum()) for p in parameters)
        sizes.append(_StepSizes(math.sqrt(squares) if math.isfinite(squares) else math.inf))

    def leave(_: tuple[Any, ...], output: Any) -> None:
        tensor = main_tensor(output)
        if tensor is not None and tensor.numel() and sizes:
            sizes[-1].largest = float(tensor.detach().abs().max())

    def stepping(_: Optimizer, __: Any, ___: Any) -> None:
        if sizes:
            sizes[-1].gradients = all(bool(torch.isfinite(p.grad).all()) for p in parameters if p.grad is not None)

    change_inputs(replica.model, enter)
    change_output(replica.model, leave)
    replica.optimizer.register_step_pre_hook(stepping)


def _function_at_fault(evidence: Evidence, number: int) -> str | None:
    """The function whose backward returns the first NaN or Inf, by torch's anomaly detection; None if unknown."""
    until = evidence.clock.until(0.2)
    detecting = Change(around=lambda *_: torch.autograd.set_detect_anomaly(True))
    trial = run_trial(evidence.setup, evidence.train.raw, number + 1, until, detecting, close=False)
    found = re.search(r"Function '(\w+?)Backward\d*' returned nan", str(trial.error or ""))
    return None if found is None else found[1].lower()


def _first_layer(evidence: Evidence) -> str | None:
    layers = (layer for layer in evidence.first.layers if not math.isfinite(layer.mean))
    return next((layer.name for layer in layers if layer.kind != "block"), None)


def _for_perfect_predictions(evidence: Evidence) -> Iterator[Finding]:
    """A loss that is NaN for perfect predictions, where predictions are probabilities."""
    first, trial = evidence.first, evidence.trial
    outputs, targets = first.loss_outputs, first.loss_targets
    if not isinstance(outputs, torch.Tensor) or not isinstance(targets, torch.Tensor) or trial.error is not None:
        return
    perfect = _perfect(outputs, targets)
    if perfect is None:
        return
    try:
        with torch.no_grad():
            value = trial.loss(perfect, targets.clone())
    except Exception:  # the user's loss may take more arguments
        return
    if isinstance(value, torch.Tensor) and bool(torch.isnan(value).any()):
        text = f"the loss of perfect predictions (probabilities of exactly 0 and 1) is {float(value.float().mean())}"
        remedy = "use `nn.BCEWithLogitsLoss()` or `nn.CrossEntropyLoss()` on scores, or " + _REMEDY
        yield _finding("warning", "the loss", text, remedy)


def _perfect(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor | None:
    if outputs.shape == targets.shape and is_binary(targets):
        inside = bool(((outputs >= 0) & (outputs <= 1)).all())
        return targets.to(outputs.dtype) if inside else None
    if outputs.ndim != targets.ndim + 1 or targets.is_floating_point() or form_of(outputs) != "probabilities":
        return None
    if int(targets.min()) < 0 or int(targets.max()) >= outputs.shape[1]:
        return None
    return torch.zeros_like(outputs).scatter_(1, targets.long().unsqueeze(1), 1.0)


def _finding(severity: Any, where: str, measured: str, remedy: str) -> Finding:
    why = "One NaN or Inf makes every weight that its gradient reaches NaN: from then on nothing is learned."
    if severity == "warning":
        why = "The better the network becomes, the closer it gets to a prediction whose loss is NaN or Inf."
    return NOT_FINITE.finding(
        severity=severity,
        where=where,
        measured=measured,
        why=why,
        remedy=remedy,
    )


NOT_FINITE = Check(
    codes=("loss.not-finite",),
    threshold=f"one loss, output or gradient that is NaN or Inf while the norm of the weights is below {_GROWN:g} "
    "times its initial value; a warning if only perfect predictions have such a loss",
    run=_run,
    explains="model.* optim.* fit.*",
)
