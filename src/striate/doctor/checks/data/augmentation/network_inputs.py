"""The inputs of the network in training steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change
from striate.doctor.setup.batch import main_tensor, parts
from striate.observe.module_calls import ModuleCall, module_calls

_BATCHES = 24


class NetworkInputs(NamedTuple):
    """Inputs of the network in training steps, with their labels."""

    inputs: torch.Tensor
    """(N, …)."""
    labels: torch.Tensor
    """(N,)."""
    place: str
    """What prepares the inputs: "loader" or "step"."""


def network_inputs(evidence: Evidence) -> NetworkInputs:
    """The inputs of the network in some steps. Raises NoEvidence if the loss gets other targets than the loader
    yields."""
    first, inputs = evidence.first, main_tensor(parts(evidence.train.raw[0])[0])
    shown = first.shown
    if shown is None or inputs is None or (shown.shape == inputs.shape and torch.equal(shown.cpu(), inputs.cpu())):
        return NetworkInputs(evidence.samples.sole_inputs, evidence.samples.labels, "loader")
    if first.blended or evidence.blended or not _gets_loader_labels(evidence) or len(shown) != len(inputs):
        if not evidence.inputs_vary:
            raise NoEvidence("the step gives the loss other targets than the loader yields")
        return NetworkInputs(evidence.samples.sole_inputs, evidence.samples.labels, "loader")
    kept: list[torch.Tensor] = []

    @contextmanager
    def watched(model: nn.Module, *_: Any) -> Iterator[None]:
        seen: list[torch.Tensor] = []

        def note(call: ModuleCall) -> None:
            tensor = main_tensor(call.args)
            if tensor is not None:
                seen.append(tensor.detach().cpu().clone())

        with module_calls({"": model}, note):
            yield
        kept.extend(seen[:1])

    batches, change = evidence.train.raw[:_BATCHES], Change(around=watched, notes=kept)
    kept = evidence.variant("inputs of the network", change, batches=batches, steps=len(batches)).notes
    sizes = evidence.train.sizes[: len(kept)]
    if [len(tensor) for tensor in kept] != list(sizes) or len({tensor.shape[1:] for tensor in kept}) != 1:
        raise NoEvidence("the network does not get one input for each sample")
    return NetworkInputs(torch.cat(kept), evidence.samples.labels[: sum(sizes)], "step")


def _gets_loader_labels(evidence: Evidence) -> bool:
    """Whether the loss of the setup, or one of torch's in the step, gets the labels that the loader yields."""
    plain, labels = evidence.samples.plain, main_tensor(parts(evidence.train.raw[0])[1])
    if plain is not None or labels is None:
        return bool(plain)
    return any(torch.equal(call.target.cpu(), labels.cpu()) for call in evidence.calls.losses)
