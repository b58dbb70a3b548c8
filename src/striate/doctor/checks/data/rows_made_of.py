"""Which sample of the batch each row is made of that the step gives the network: seen by what changes with which."""

from __future__ import annotations

from typing import Any

import torch

from striate.doctor.evidence.calls import StepCalls, watch_calls
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.batch import altered, leaves, main_tensor, parts
from striate.models.preserved_state import same_random_state

_MOST = 0.8


def rows_made_of(evidence: Evidence) -> tuple[StepCalls, torch.Tensor]:
    """What a step calls, and of each row that it shows the network the sample (N,) that it is made of. Raises
    NoEvidence where rows keep the samples' order, or each is not made of one, as of blends or where draws differ."""
    batch = evidence.train.raw[0]
    inputs = main_tensor(parts(batch)[0])
    path = next((place for place, part in leaves(batch) if part is inputs), None)
    if inputs is None or path is None:
        raise NoEvidence("the batch has no inputs")
    count = len(inputs)

    def watched(given: Any) -> StepCalls:
        with same_random_state():
            return watch_calls(evidence.setup, given, evidence.clock.until(0.02))

    own, numbers = watched(batch), torch.arange(count)
    sources = torch.zeros(count, dtype=torch.long)
    for bit in range((count - 1).bit_length()):
        chosen = (numbers >> bit) % 2 == 1
        other = watched(altered(batch, path, lambda x, moved=chosen: _exchanged(x, moved)))  # type: ignore[misc]
        changed = _rows_apart(own.shown, other.shown) > 0
        if int(changed.sum()) != int(chosen.sum()) or torch.equal(changed, chosen) or _put_back(own, other, chosen):
            raise NoEvidence("the step keeps the samples in order, or makes each input of several")
        sources += changed * 2**bit
    if not torch.equal(sources.sort().values, numbers):
        raise NoEvidence("the step makes inputs of several samples")
    return own, sources


def _exchanged(x: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Some samples replaced by the one before each."""
    x = x.clone()
    x[chosen] = x.roll(1, 0)[chosen]
    return x


def _rows_apart(one: torch.Tensor | None, other: torch.Tensor | None) -> torch.Tensor:
    """(N,) how far rows are apart."""
    if one is None or other is None or one.shape != other.shape:
        raise NoEvidence("the step gives the network another number of rows")
    apart: torch.Tensor = (one.double() - other.double()).flatten(1).norm(dim=1).cpu()
    return apart


def _put_back(own: StepCalls, other: StepCalls, chosen: torch.Tensor) -> bool:
    """Whether a loss gets outputs in the order of the samples, though these were sorted before, by length, say."""
    pairs = zip(own.losses, other.losses, strict=False)
    apart = [_rows_apart(a.input, b.input) for a, b in pairs if a.input.ndim > 1 and len(a.input) == len(chosen)]
    shares = [float(chosen[far.topk(int(chosen.sum())).indices].double().mean()) for far in apart]
    return max(shares, default=0.0) > _MOST
