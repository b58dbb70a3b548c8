"""The loss of training steps in which other outputs replace the network's, or other batches the loader's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from striate.doctor.evidence.calls import StepCalls, watch_steps
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.trial import Change, Trial, run_trial
from striate.doctor.setup.batch import altered, copied, leaves, main_tensor, mapped, parts
from striate.doctor.setup.replicas import Replica
from striate.observe.interventions import change_output
from striate.observe.tensors import tensors_in

if TYPE_CHECKING:
    from striate.doctor.evidence.evidence import Evidence

Substitute = Callable[[int, torch.Tensor], torch.Tensor]
"""Called with the position of a tensor among the outputs, and the tensor; returns its replacement of the same shape."""


def step_outputs(evidence: Evidence) -> list[torch.Tensor]:
    """The float tensors of the network's output in a step. Raises NoEvidence as `loss_of` does."""
    found: dict[int, torch.Tensor] = {}

    def note(number: int, tensor: torch.Tensor) -> torch.Tensor:
        found[number] = tensor
        return tensor

    loss_of(evidence, note)
    return [found[number] for number in sorted(found)]


def loss_of(evidence: Evidence, substitute: Substitute) -> float:
    """The loss of one step on the first batch with substituted outputs. Raises NoEvidence where the step fails with
    them, or does not call the network exactly once."""
    prepare, called = _substituting(substitute)
    batch = copied(evidence.train.raw[0])
    trial = run_trial(evidence.setup, [batch], 1, evidence.clock.until(0.1), Change(prepare=prepare), close=False)
    if not trial.rows or len(called) != 1:
        raise NoEvidence("the step does not take other outputs than the network's")
    return trial.losses[0]


def calls_with(evidence: Evidence, substitute: Substitute, batch: Any) -> StepCalls:
    """The calls of one step on a batch with substituted outputs. Raises NoEvidence as `loss_of` does."""
    prepare, called = _substituting(substitute)
    calls = watch_steps(evidence.setup, [copied(batch)], evidence.clock.until(0.1), prepare)[0]
    if calls.error is not None or len(called) != 1:
        raise NoEvidence("the step does not take other outputs than the network's")
    return calls


def _substituting(substitute: Substitute) -> tuple[Callable[[Replica], None], list[int]]:
    """A function that makes a replica return substituted outputs, and a list with an entry for each call of its
    network."""
    called: list[int] = []

    def instead(_: Any, outputs: Any) -> Any:
        numbers = {id(tensor): number for number, tensor in enumerate(tensors_in(outputs))}
        called.append(len(numbers))

        def change(_: Any, tensor: torch.Tensor) -> torch.Tensor:
            if not tensor.is_floating_point():
                return tensor
            replacement = substitute(numbers[id(tensor)], tensor.detach()).to(tensor)
            return replacement + 0 * torch.nan_to_num(tensor)  # connects it to the network for the backward pass

        return mapped(outputs, change)

    return lambda replica: change_output(replica.model, instead), called


def loss_depends_on(evidence: Evidence, change: Callable[[torch.Tensor], torch.Tensor]) -> bool:
    """Whether the loss differs after a change of the batch's class numbers; True also where that is unknown."""
    batch = evidence.train.raw[0]
    targets = main_tensor(parts(batch)[1])
    place = next((path for path, tensor in leaves(batch) if tensor is targets), None)
    if place is None:
        return True
    own, other = (loss_of_batch(evidence, None, one) for one in (batch, altered(batch, place, change)))
    return own != other


def class_numbers_matter(evidence: Evidence) -> bool:
    """Whether the loss depends on the values of class numbers, not only on which are equal. If it does not, batches may
    number the same class differently."""
    return loss_depends_on(evidence, lambda numbers: numbers.max() - numbers)


def loss_of_batch(evidence: Evidence, trained: Trial | None, batch: Any) -> float | None:
    """The loss of one step on a batch with the network of the trial `trained`, or, where that is None, with the network
    before training; None where the step fails."""
    given = {} if trained is None else trained.replica.model.state_dict()
    state = {name: value.clone() for name, value in given.items()}

    def prepare(replica: Replica) -> None:
        replica.model.load_state_dict(state, strict=trained is not None)

    trial = run_trial(evidence.setup, [batch], 1, evidence.clock.until(0.1), Change(prepare=prepare), close=False)
    return trial.losses[0] if trial.rows else None
