"""Changes of the network that are tried on a replica, and predictions for changed inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.predictions import output_of
from striate.doctor.evidence.trial import Change, Trial
from striate.doctor.setup.batch import copied, main_tensor, mapped, parts, size_of
from striate.doctor.setup.preserved_state import same_draws
from striate.doctor.setup.replicas import Replica
from striate.models.preserved_state import preserved, same_random_state, seed_all
from striate.observe.module_calls import ModuleCall, module_calls
from striate.observe.tensors import tensors_in
from striate.wording import several

BETTER = 1.25
"""How many times smaller the loss must be; trials of some dozen steps differ by a tenth by chance."""


@dataclass(frozen=True)
class TriedChange:
    """The result of a trial with a change of the network."""

    better: bool
    """Whether its loss is enough times smaller than that of the unchanged trial, by default BETTER times."""
    text: str
    """The two losses: `the loss after 160 steps is 0.41 instead of 1.62`."""
    trial: Trial

    def gain_text(self, words: str) -> str:
        """`; with …, the loss after 160 steps is 0.41 instead of 1.62` if that is better; else empty."""
        return f"; {words}, {self.text}" if self.better else ""


def try_change(evidence: Evidence, name: str, change: Change, times: float = BETTER) -> TriedChange | None:
    """Try a change for as many steps as the trial had; None where it cannot be tried or compared. `times`: how many
    times smaller the loss must be to count as better."""
    try:
        trial = evidence.variant(f"model {name}", change)
        own, other = evidence.progress, evidence.progress_of(trial)
    except NoEvidence:
        return None
    if other.steps < own.steps:
        return None
    text = f"the loss after {several(other.steps, 'step')} is {other} instead of {own}"
    return TriedChange(other.beats(own, times), text, trial)


def accuracy_after(evidence: Evidence, unknown: float = 0.0) -> float:
    """The accuracy for training samples after the trial; `unknown` where outputs are no class scores."""
    try:
        return evidence.after.accuracy
    except NoEvidence:
        return unknown


def gain_text(remedy: TriedChange | None, words: str) -> str:
    """The text to add to `measured`; empty if the change was not tried, or is no better."""
    return "" if remedy is None else remedy.gain_text(words)


FLAT = 1e-2


def eval_outputs(
    evidence: Evidence, batch: Any, *, seed: int = 0, replica: Replica | None = None, directly: bool = False
) -> torch.Tensor:
    """The outputs of the initial network, or of another replica, for a batch in evaluation mode, on the CPU in double
    precision. Raises NoEvidence as `inputs_and_outputs` does."""
    return inputs_and_outputs(evidence, batch, seed=seed, replica=replica, directly=directly)[1]


def inputs_and_outputs(
    evidence: Evidence, batch: Any, *, seed: int = 0, replica: Replica | None = None, directly: bool = False
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The network's input tensors for a batch, and its outputs in evaluation mode. The inputs are those that the step
    computes from the batch, or the batch itself (`directly`). Raises NoEvidence where outputs are no floating-point
    tensor."""
    replica = replica or evidence.fresh
    inputs: list[list[torch.Tensor]] = []

    def note(call: ModuleCall) -> None:
        inputs.append([tensor.detach().clone() for tensor in tensors_in(call.args)])

    with (
        preserved(replica.model),
        same_random_state(),
        same_draws(replica.step, replica.model),
        torch.no_grad(),
        module_calls({"": replica.model}, note),
    ):
        seed_all(seed)
        outputs = main_tensor(output_of(evidence.setup, replica, copied(batch), training=False, directly=directly))
    if outputs is None or not outputs.ndim or not outputs.is_floating_point():
        raise NoEvidence("the network's outputs are not floating-point numbers")
    return inputs[0] if inputs else [], outputs.detach().cpu().double()


def largest_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference of two outputs, in standard deviations of the first; 0 where they are not finite."""
    return in_deviations(one - other, one)


def in_deviations(difference: torch.Tensor, predictions: torch.Tensor) -> float:
    """The largest difference in standard deviations of the predictions, or in hundredths of their largest value if that
    is more, so that rounding of equal predictions does not count."""
    deviation = max(float(predictions.std(correction=0)), FLAT * float(predictions.abs().max())) or 1.0
    ratio = float(difference.abs().max()) / deviation
    return ratio if math.isfinite(ratio) else 0.0


def change_in_other_rows(evidence: Evidence, batch: Any, outputs: torch.Tensor, *, directly: bool = False) -> float:
    """By how many standard deviations the predictions `outputs` for a batch change if its samples are moved to other
    rows; 0 where their number changes. Raises NoEvidence as `inputs_and_outputs` does."""
    moved = eval_outputs(evidence, with_rows(batch, lambda tensor: tensor.roll(1, 0)), directly=directly)
    return in_deviations(moved.roll(-1, 0) - outputs, outputs) if moved.shape == outputs.shape else 0.0


def with_rows(batch: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The batch with `change` applied to each tensor that has one row per sample."""
    size = size_of(batch)
    return mapped(batch, lambda _, tensor: change(tensor) if tensor.ndim and len(tensor) == size else tensor)


def with_inputs(batch: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The batch with `change` applied to its inputs, and with unchanged targets. Raises NoEvidence where no input is a
    floating-point tensor."""
    inputs, targets = parts(batch)
    of_targets = {id(tensor) for tensor in tensors_in(targets)} if targets is not inputs else set()
    of_inputs = {id(tensor) for tensor in tensors_in(inputs)} - of_targets
    if not any(id(t) in of_inputs and t.is_floating_point() for t in tensors_in(batch)):
        raise NoEvidence("the inputs are not floating-point numbers")
    return mapped(
        batch, lambda _, tensor: change(tensor) if id(tensor) in of_inputs and tensor.is_floating_point() else tensor
    )
