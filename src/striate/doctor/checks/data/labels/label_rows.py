"""Which sample's label belongs to each row of a batch, by whose gradient changes with a label, whatever the loss; and
whether each row of the network's input contains a single sample."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any

import torch

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change, run_trial
from striate.doctor.setup.batch import Path, altered, leaves, main_tensor, parts, size_of
from striate.doctor.setup.preserved_state import same_draws
from striate.doctor.setup.replicas import Replica
from striate.models.preserved_state import same_random_state, seed_all
from striate.observe.gradients import on_gradient
from striate.observe.module_calls import ModuleCall, module_calls
from striate.observe.tensors import tensors_in

FEWEST_JUDGED, MOST_RIGHT = 5, 1
"""The fewest samples that are judged, and the most of them that may be right."""
_TRIED, _PAIRS_TRIED, _DRAWS, _FEWEST, _NUMBERS = 7, 12, 4, 8, 4096
_MOST, _CLEARLY, _AT_ALL = 0.8, 0.5, 1e-4
"""Shares of the change of the row that changes most."""


@dataclass
class _Rows:
    """Inputs, outputs and output gradients of the network's calls in one step, by row."""

    shown: list[torch.Tensor] = field(default_factory=list)
    given: list[torch.Tensor] = field(default_factory=list)
    gradients: dict[int, torch.Tensor] = field(default_factory=dict)

    def note(self, call: ModuleCall) -> None:
        shown, output = main_tensor([*call.args, *call.kwargs.values()]), main_tensor(call.output)
        if shown is None or output is None or not output.requires_grad:
            return
        if shown.ndim and shown.shape[:1] == output.shape[:1]:
            number = len(self.shown)
            self.shown.append(_by_row(shown))
            self.given.append(_by_row(output))
            on_gradient(output, lambda gradient: self.gradients.update({number: _by_row(gradient)}))

    @property
    def pulls(self) -> list[torch.Tensor]:
        """The output gradients of all calls that have one."""
        return [self.gradients[number] for number in sorted(self.gradients)]


def rows_with_other_labels(evidence: Evidence) -> tuple[int, int, bool]:
    """The number of samples whose label reaches rows without any part of the sample, the number of samples that were
    tried, and whether rows are blends. Raises NoEvidence if a step cannot be repeated, or if labels are inputs of the
    network."""
    batch = evidence.train.raw[0]
    inputs, targets = (main_tensor(part) for part in parts(batch))
    places = {path: part for path, part in leaves(batch) if part is inputs or part is targets}
    if inputs is None or targets is None or len(places) != 2 or not _FEWEST <= len(inputs) == len(targets):
        raise NoEvidence("the batch does not have one target for each input")
    input_path, target_path = sorted(places, key=lambda path: places[path] is targets)
    until, best = evidence.clock.until(0.1), (0, 0, False)
    for draw in range(_DRAWS):
        own, again = (_rows(evidence, batch, draw, until) for _ in range(2))
        if not own.pulls or any(len(rows) % len(inputs) for rows in own.shown):
            raise NoEvidence("the network does not output as many rows as the batch has, or a multiple")
        if _differ(own.shown, again.shown) or _differ(own.pulls, again.pulls):
            raise NoEvidence("a step with the same batch differs each time")
        if draw:  # only steps that blend or move samples differ between draws
            moved = _rows(evidence, altered(batch, input_path, partial(_replaced, sample=0, other=1)), draw, until)
            if _changed(own.shown, moved.shown, len(inputs), _AT_ALL) <= {0}:
                continue
        best = max(best, _count_wrong(evidence, batch, (input_path, inputs), (target_path, targets), own, draw, until))
        if best[0] >= FEWEST_JUDGED or best[2]:
            break
    return best


def _count_wrong(
    evidence: Evidence,
    batch: Any,
    inputs: tuple[Path, torch.Tensor],
    targets: tuple[Path, torch.Tensor],
    own: _Rows,
    draw: int,
    until: float,
) -> tuple[int, int, bool]:
    count, judged, blends = len(inputs[1]), list[bool](), list[bool]()
    places = [(path, values, _by_row(values)) for path, values in (inputs, targets)]
    for sample in torch.arange(0, count, max(1, count // _TRIED)).tolist()[:_TRIED]:
        changed = list[_Rows]()
        for path, values, flat in places:
            other = _farthest(flat, sample)
            if torch.equal(values[other], values[sample]):
                raise NoEvidence("all inputs or targets of a batch are the same")
            put = partial(_replaced, sample=sample, other=other)
            changed.append(_rows(evidence, altered(batch, path, put), draw, until))
        if _differ(own.shown, changed[1].shown) or _differ(own.given, changed[1].given):
            raise NoEvidence("the network gets the labels")
        shown = _changed(own.shown, changed[0].shown, count, _AT_ALL)
        made_of = shown | _changed(own.given, changed[0].given, count, _CLEARLY)
        reached = _changed(own.pulls, changed[1].pulls, count, _MOST)
        exactly = _changed(own.pulls, changed[1].pulls, count, _AT_ALL)
        if not made_of or not reached or len(reached) > max(2, count // 4):
            continue
        beside = len(made_of) > 1 and len(exactly) <= len(made_of) and bool(exactly - made_of)
        judged.append(not made_of & reached or beside)
        blends.append(len(shown) > 1)
        if len(judged) == FEWEST_JUDGED and all(judged) and len(set(blends)) == 1:
            break  # more samples would not change the result, and steps take time
    blended = any(blends)
    judged = [wrong for wrong, blend in zip(judged, blends, strict=True) if blend or not blended]
    return sum(judged), len(judged), blended


def rows_of_two_samples(evidence: Evidence) -> tuple[int, int]:
    """The number of samples whose two inputs, such as an image and its caption, each reach one row of the network, but
    not the same row, and the number of samples that were tried; zeros if no call gets both."""
    batch, wrong, tried = evidence.train.raw[0], 0, 0
    count = size_of(batch)
    inputs = [(path, part) for path, part in leaves(batch) if part.ndim > 1 and len(part) == count]
    given = [tensor for tensor in tensors_in(evidence.first.arguments) if tensor.ndim]
    if count < _FEWEST or len(inputs) != 2 or len(given) < 2:
        return 0, 0
    until = evidence.clock.until(0.1)
    own, again = (_rows(evidence, batch, 0, until).given for _ in range(2))
    if any(len(rows) != count for rows in own) or _differ(own, again):
        return 0, 0
    places = [(path, _by_row(values)) for path, values in inputs]
    for sample in torch.arange(0, count, max(1, count // _PAIRS_TRIED)).tolist()[:_PAIRS_TRIED]:
        reached = list[list[set[int]]]()
        for path, flat in places:
            put = partial(_replaced, sample=sample, other=_farthest(flat, sample))
            moved = _rows(evidence, altered(batch, path, put), 0, until).given
            reached.append([_changed([a], [b], count, _CLEARLY) for a, b in zip(own, moved, strict=True)])
        both = [pair for pair in zip(*reached, strict=True) if all(pair)]
        if not both:
            break
        tried += 1
        wrong += all(len(one) == len(other) == 1 and one != other for one, other in both)
        if tried - wrong > MOST_RIGHT:
            break
    return wrong, tried


def _rows(evidence: Evidence, batch: Any, draw: int, until: float) -> _Rows:
    """Inputs, outputs and gradients of one step of a replica, with the random numbers of this `draw`."""
    rows, replicas = _Rows(), list[Replica]()

    def step(model: Any, given: Any, optimizer: Any, _: Any) -> Any:
        seed_all(draw)
        with same_draws(replicas[0].step, model), module_calls({"": model}, end=rows.note):
            return replicas[0].step(model, given, optimizer, replicas[0].loss)

    with same_random_state():
        trial = run_trial(evidence.setup, [batch], 1, until, Change(step=step, prepare=replicas.append), close=False)
    if trial.error is not None:
        raise NoEvidence(f"a step raises {type(trial.error).__name__}")
    if perf_counter() > until:
        raise NoEvidence("a step takes too long to be repeated twenty times")
    return rows


def _replaced(x: torch.Tensor, sample: int, other: int) -> torch.Tensor:
    x = x.clone()
    x[sample] = x[other]
    return x


def _farthest(flat: torch.Tensor, sample: int) -> int:
    """The sample of (N, numbers) farthest from this one: with batch normalization a small change would change all rows
    alike."""
    return int((flat - flat[sample]).norm(dim=1).argmax())


def _differ(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    """Whether any pair differs by more than rounding. Raises NoEvidence if shapes differ."""
    if [part.shape for part in one] != [part.shape for part in other]:
        raise NoEvidence("the step passes the network another number of rows")
    return any(float((a - b).norm()) > 1e-6 * float(a.norm()) for a, b in zip(one, other, strict=True))


def _changed(one: list[torch.Tensor], other: list[torch.Tensor], count: int, share: float) -> set[int]:
    """Rows that change by more than `share` of the largest change, apart from a factor common to all rows; rows of
    several views or calls are numbered modulo `count`."""
    _differ(one, other)
    most, found = 0.0, list[torch.Tensor]()
    for a, b in zip(one, other, strict=True):
        some = a.norm(dim=1) > 0
        factor = ((a * b).sum(1) / a.square().sum(1))[some].median() if some.any() else 1.0
        apart = (b - factor * a).norm(dim=1)
        apart[apart < 1e-6 * a.norm(dim=1).max()] = 0
        most = max(most, float(apart.max()))
        found.append(apart)
    return {row % count for apart in found for row in (apart > share * most).nonzero().flatten().tolist() if most}


def _by_row(tensor: torch.Tensor) -> torch.Tensor:
    """(N, at most _NUMBERS) float64, evenly spaced over each row."""
    flat = tensor.detach().reshape(len(tensor), -1)
    return flat[:, :: -(-flat.shape[1] // _NUMBERS) or 1].cpu().double()
