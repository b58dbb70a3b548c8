"""What a training step says of outputs that are put in the place of the network's, and of other batches."""

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

Answer = Callable[[int, torch.Tensor], torch.Tensor]
"""Of the number of a tensor among the outputs, and that tensor, what is to be in its place, of the same shape."""


def step_outputs(evidence: Evidence) -> list[torch.Tensor]:
    """All tensors that the network gives in a step. Raises NoEvidence as `loss_of` does."""
    found: dict[int, torch.Tensor] = {}

    def note(number: int, tensor: torch.Tensor) -> torch.Tensor:
        found[number] = tensor
        return tensor

    loss_of(evidence, note)
    return [found[number] for number in sorted(found)]


def loss_of(evidence: Evidence, answer: Answer) -> float:
    """The loss of one step on the first batch with other outputs. Raises NoEvidence where the step fails with them, or
    gets them from somewhere else than a call of the network."""
    prepare, asked = _answering(answer)
    batch = copied(evidence.train.raw[0])
    trial = run_trial(evidence.setup, [batch], 1, evidence.clock.until(0.1), Change(prepare=prepare), close=False)
    if not trial.rows or len(asked) != 1:
        raise NoEvidence("the step does not take other outputs than the network's")
    return trial.losses[0]


def calls_with(evidence: Evidence, answer: Answer, batch: Any) -> StepCalls:
    """What one step on a batch calls with other outputs. Raises NoEvidence as `loss_of` does."""
    prepare, asked = _answering(answer)
    calls = watch_steps(evidence.setup, [copied(batch)], evidence.clock.until(0.1), prepare)[0]
    if calls.error is not None or len(asked) != 1:
        raise NoEvidence("the step does not take other outputs than the network's")
    return calls


def _answering(answer: Answer) -> tuple[Callable[[Replica], None], list[int]]:
    """What has a double give other outputs, and the calls of its network, noted as they come."""
    asked: list[int] = []

    def instead(_: Any, outputs: Any) -> Any:
        numbers = {id(tensor): number for number, tensor in enumerate(tensors_in(outputs))}
        asked.append(len(numbers))

        def change(_: Any, tensor: torch.Tensor) -> torch.Tensor:
            if not tensor.is_floating_point():
                return tensor
            wanted = answer(numbers[id(tensor)], tensor.detach()).to(tensor)
            return wanted + 0 * torch.nan_to_num(tensor)  # backward finds its way

        return mapped(outputs, change)

    return lambda replica: change_output(replica.model, instead), asked


def asks_for(evidence: Evidence, change: Callable[[torch.Tensor], torch.Tensor]) -> bool:
    """Whether the loss is another one with the class numbers of a batch changed; also where that cannot be told."""
    batch = evidence.train.raw[0]
    wanted = main_tensor(parts(batch)[1])
    place = next((path for path, tensor in leaves(batch) if tensor is wanted), None)
    if place is None:
        return True
    own, other = (loss_of_batch(evidence, None, one) for one in (batch, altered(batch, place, change)))
    return own != other


def names_count(evidence: Evidence) -> bool:
    """Whether the loss asks for more of class numbers than which are equal: batches may have others for the same."""
    return asks_for(evidence, lambda numbers: numbers.max() - numbers)


def loss_of_batch(evidence: Evidence, trained: Trial | None, batch: Any) -> float | None:
    """The loss of one step that a trained network makes on a batch, or the network as it was given; None where it
    fails."""
    given = {} if trained is None else trained.replica.model.state_dict()
    state = {name: value.clone() for name, value in given.items()}

    def prepare(replica: Replica) -> None:
        replica.model.load_state_dict(state, strict=trained is not None)

    trial = run_trial(evidence.setup, [batch], 1, evidence.clock.until(0.1), Change(prepare=prepare), close=False)
    return trial.losses[0] if trial.rows else None
