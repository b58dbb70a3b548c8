"""Survival data in a batch, and whether the loss is Cox's partial likelihood of them (Cox 1972; Katzman et al. 2018),
or one with another risk set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from torch.utils.data import RandomSampler

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change, run_trial
from striate.doctor.setup.batch import Path, altered, copied, leaf, leaves
from striate.doctor.setup.replicas import Replica
from striate.models.preserved_state import same_random_state
from striate.observe.gradients import on_gradient
from striate.observe.interventions import change_output

_FEWEST_ROWS, _FEWEST_EVENTS, _MOST_ROWS = 16, 4, 2048
_FEWEST_DURATIONS = 10
_MOST_BESIDE = 4
"""Most columns of a table of targets that may contain a duration and an event."""
SAME, OTHER = 0.98, 0.9
"""Least cosine of the gradients of two losses that are the same except for ties; largest cosine of different losses."""
_TURNED = 0.05
"""Share of the outputs whose gradient changes sign when samples exchange durations."""


@dataclass(frozen=True)
class Column:
    """A number for each sample that the network does not receive: a tensor of a batch, or a column of one."""

    path: Path
    """Place of the tensor in a batch."""
    place: int
    """Column of the tensor."""

    def of(self, batch: Any) -> torch.Tensor:
        """(N,) its values in a batch."""
        found = leaf(batch, self.path)
        if found is None or not found.ndim or found[0].numel() <= self.place:
            raise NoEvidence("batches differ in what they hold")
        return found.detach().cpu().double().reshape(len(found), -1)[:, self.place]


def durations_and_events(evidence: Evidence) -> list[tuple[Column, Column]]:
    """Pairs of columns of the first batch: one with many values, and one with the values 0 and 1."""
    batch = evidence.train.raw[0]
    columns = [(column, column.of(batch)) for column in columns_not_shown(evidence)]
    events = [c for c, values in columns if values.unique().tolist() == [0, 1] and int(values.sum()) >= _FEWEST_EVENTS]
    durations = [column for column, values in columns if len(values.unique()) >= _FEWEST_DURATIONS]
    return [(duration, event) for duration in durations for event in events]


def columns_not_shown(evidence: Evidence) -> Iterator[Column]:
    """The columns of the first batch that the network does not receive."""
    shown = [tensor.detach().cpu() for _, tensor in leaves(list(evidence.first.arguments))]
    for path, tensor in leaves(evidence.train.raw[0]):
        small = 0 < tensor.ndim < 3 and len(tensor) >= _FEWEST_ROWS and 0 < tensor[0].numel() <= _MOST_BESIDE
        if not small or tensor.is_complex():
            continue
        own = tensor.detach().cpu().reshape(-1)
        if not any(own.numel() == one.numel() and torch.equal(own, one.reshape(-1)) for one in shown):
            yield from (Column(path, place) for place in range(tensor[0].numel()))


def output_gradient(evidence: Evidence, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Random outputs (N, …) that replace the network's in one step, and the gradient of the loss by them."""
    outputs: list[torch.Tensor] = []
    gradients: list[torch.Tensor] = []

    def instead(_: Any, given: Any) -> Any:
        if not isinstance(given, torch.Tensor) or not given.is_floating_point():
            raise NoEvidence("the network's outputs are not one tensor")
        drawn = torch.randn(given.shape, generator=torch.Generator().manual_seed(0)).to(given)
        if bool((given >= 0).all()):  # hazards rather than log-hazards
            drawn = drawn.exp()
        changed = drawn + 0 * torch.nan_to_num(given)
        outputs.append(drawn.detach().cpu().double())
        on_gradient(changed, lambda gradient: gradients.append(gradient.detach().cpu().double()))
        return changed

    def prepare(replica: Replica) -> None:
        change_output(replica.model, instead)

    with same_random_state():
        change = Change(prepare=prepare)
        run_trial(evidence.setup, [copied(batch)], 1, evidence.clock.until(0.1), change, close=False)
    if len(outputs) != 1 or len(gradients) != 1 or not bool(gradients[0].isfinite().all()) or not gradients[0].any():
        raise NoEvidence("no gradient comes back to the network's outputs")
    return outputs[0], gradients[0]


def depends_on_duration(evidence: Evidence, duration: Column) -> bool:
    """Whether other durations change the sign of the gradient: they are targets then, not weights."""
    batch = evidence.train.raw[0]
    order = torch.randperm(len(duration.of(batch)), generator=torch.Generator().manual_seed(1))

    def change(tensor: torch.Tensor) -> torch.Tensor:
        rows = tensor.clone().reshape(len(tensor), -1)
        rows[:, duration.place] = rows[order.to(tensor.device), duration.place]
        return rows.reshape(tensor.shape)

    _, own = output_gradient(evidence, batch)
    _, other = output_gradient(evidence, altered(batch, duration.path, change))
    return float((own * other < 0).double().mean()) > _TURNED


@dataclass(frozen=True)
class FormulaMatch:
    """How a loss differs from Cox's partial likelihood."""

    kind: str
    """`left before`, `as they come`, `censored` or `maximized`."""
    wrong: float
    """Cosine of its gradient by the outputs with that of the wrong formula."""
    right: float
    """Cosine of its gradient by the outputs with that of the right formula."""


def wrong_partial_likelihood(evidence: Evidence) -> FormulaMatch | None:
    """How the step's loss differs from Cox's partial likelihood; None for a right loss, and for all other losses."""
    pairs = [] if evidence.setup.rivals else durations_and_events(evidence)
    if not pairs:
        return None
    batch = evidence.train.raw[0]
    outputs, gradient = output_gradient(evidence, batch)
    rows = len(outputs)
    if outputs.numel() != rows or rows > _MOST_ROWS:
        return None
    scores, own = outputs.flatten().requires_grad_(), gradient.flatten()
    forms = [scores, -scores] + [scores.log()] * bool((scores > 0).all())  # log-risks, lifetimes, or hazards
    earlier = torch.ones(rows, rows, dtype=torch.bool).tril()
    found: list[FormulaMatch] = []
    for duration, event in pairs:
        times, left = duration.of(batch), event.of(batch)
        if len(times) != rows or len(left) != rows:
            continue
        still = times >= times[:, None]

        def along(at_risk: torch.Tensor, counted: torch.Tensor) -> list[float]:
            return [
                float(functional.cosine_similarity(own, _gradient(form, at_risk, counted, scores), dim=0))
                for form in forms
            ]

        right = along(still, left)
        if max(right) > OTHER:
            return None
        wrong = {
            "left before": along(times <= times[:, None], left),
            "censored": along(still, 1 - left),
            "maximized": [-one for one in right],
        }
        if isinstance(getattr(evidence.setup.train, "sampler", None), RandomSampler):
            wrong["as they come"] = along(earlier, left) + along(earlier.T, left)
        found += [FormulaMatch(kind, max(cosines), max(right)) for kind, cosines in wrong.items()]
    best = max(found, key=lambda one: one.wrong, default=None)
    return best if best is not None and best.wrong > SAME else None


def _gradient(form: torch.Tensor, at_risk: torch.Tensor, counted: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """The gradient of Cox's loss by the scores. `form` (N,): log-risks computed from the scores; `at_risk` (N, N): row
    by row, the samples at risk when the sample of the row has its event; `counted` (N,): 1 for events."""
    sets = form.expand(len(form), -1).masked_fill(~at_risk, -torch.inf).logsumexp(1)
    return torch.autograd.grad(((sets - form) * counted).sum(), scores, retain_graph=True)[0]
