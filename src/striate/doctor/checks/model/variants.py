"""Changes of the network tried on a replica, and what the network predicts for inputs that were changed."""

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
"""So many times smaller the loss must be: trials of some dozen steps differ by a tenth by chance."""


@dataclass(frozen=True)
class Tried:
    """What came of a remedy. `better`: whether its loss is BETTER times smaller. `text`: the two losses."""

    better: bool
    text: str
    trial: Trial

    def said(self, words: str) -> str:
        """`; with …, the loss after 160 steps is 0.41 instead of 1.62`, where that is better; else nothing."""
        return f"; {words}, {self.text}" if self.better else ""


def tried(evidence: Evidence, name: str, change: Change, times: float = BETTER) -> Tried | None:
    """Try a change for as many steps as the trial made; None where it cannot be tried or compared."""
    try:
        trial = evidence.variant(f"model {name}", change)
        own, other = evidence.progress, evidence.progress_of(trial)
    except NoEvidence:
        return None
    if other.steps < own.steps:
        return None
    text = f"the loss after {several(other.steps, 'step')} is {other} instead of {own}"
    return Tried(other.beats(own, times), text, trial)


def said(remedy: Tried | None, words: str) -> str:
    """What to add to `measured`."""
    return "" if remedy is None else remedy.said(words)


FLAT = 1e-2


def asked(
    evidence: Evidence, batch: Any, *, seed: int = 0, replica: Replica | None = None, directly: bool = False
) -> torch.Tensor:
    """The predictions of the network as it was given (or of another replica) to a batch, on the CPU. Raises NoEvidence
    where it cannot be asked."""
    return question(evidence, batch, seed=seed, replica=replica, directly=directly)[1]


def question(
    evidence: Evidence, batch: Any, *, seed: int = 0, replica: Replica | None = None, directly: bool = False
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The tensors that the network is given for a batch, after what the step does to it or `directly` as it is, and its
    predictions. Raises NoEvidence."""
    replica = replica or evidence.fresh
    given: list[list[torch.Tensor]] = []

    def note(call: ModuleCall) -> None:
        given.append([tensor.detach().clone() for tensor in tensors_in(call.args)])

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
    return given[0] if given else [], outputs.detach().cpu().double()


def deviations_apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference of two predictions, in standard deviations of the first; 0 where they are not finite."""
    return apart(one - other, one)


def apart(difference: torch.Tensor, predictions: torch.Tensor) -> float:
    """The largest difference in standard deviations of the predictions; of those that are all alike, in hundredths of
    them, as rounding is no difference."""
    deviation = max(float(predictions.std(correction=0)), FLAT * float(predictions.abs().max())) or 1.0
    found = float(difference.abs().max()) / deviation
    return found if math.isfinite(found) else 0.0


def with_rows(batch: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The batch with each tensor that has a row a sample changed by `change`."""
    size = size_of(batch)
    return mapped(batch, lambda _, tensor: change(tensor) if tensor.ndim and len(tensor) == size else tensor)


def with_inputs(batch: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The batch with its inputs changed, and its targets as they are. Raises NoEvidence where no input is a tensor of
    fractions."""
    inputs, targets = parts(batch)
    kept = {id(tensor) for tensor in tensors_in(targets)} if targets is not inputs else set()
    given = {id(tensor) for tensor in tensors_in(inputs)} - kept
    if not any(id(t) in given and t.is_floating_point() for t in tensors_in(batch)):
        raise NoEvidence("the inputs are not floating-point numbers")
    return mapped(
        batch, lambda _, tensor: change(tensor) if id(tensor) in given and tensor.is_floating_point() else tensor
    )
