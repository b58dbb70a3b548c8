"""`optim.low-precision`: are weights stored in a number format that is precise enough for their updates?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.evaluated.copies import copies_reached, named_tensors
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.progress import number
from striate.doctor.evidence.rates import warms_up
from striate.doctor.evidence.trial import Change, Trial
from striate.doctor.setup.batch import mapped
from striate.doctor.setup.reached_objects import parameters_held, reached_objects
from striate.doctor.setup.replicas import Replica, to_float32
from striate.observe.interventions import change_inputs
from striate.records import Finding
from striate.wording import percent, several

_HALF = (torch.float16, torch.bfloat16)
_BETTER, _LOST = 1.15, 0.5
_STEPS, _MOST_LOST, _LEFT = 12, 0.8, 0.1
_MORE_STEPS, _UNITS, _COARSE, _COARSE_SQUARES = 40, 2, 0.2, 0.4
"""Steps in which bfloat16 weights are examined; the largest change in units in the last place that counts as coarse;
the share of such changes; and for SGD, whose small changes matter little, their share of the squared gradients."""


def _run(evidence: Evidence) -> Iterator[Finding]:
    findings = list(_of_weights(evidence))
    yield from findings or _of_average(evidence)


def _of_weights(evidence: Evidence) -> Iterator[Finding]:
    """Compares the trial with one whose weights are all float32."""
    held = parameters_held(evidence.fresh.optimizer)
    half = [p for p in evidence.fresh.model.parameters() if p.dtype in _HALF and p.requires_grad and id(p) in held]
    trial = evidence.trial
    if not half or not trial.rows:
        return
    single = evidence.variant("weights in float32", Change(prepare=_to_float32))
    lost, broken = max(_unchanged(trial), _rounded_away(evidence)), not all(map(math.isfinite, trial.losses[-10:]))
    tried = single.error is None and bool(single.rows)
    # A network that converts its inputs to half precision cannot be tried: float16 ends in NaN, bfloat16 loses updates.
    if not (math.isfinite(single.level()) if tried else broken is any(p.dtype == torch.float16 for p in half)):
        return
    better = broken or (tried and single.level() * _BETTER < trial.level())
    unclear = half[0].dtype == torch.bfloat16 and not better and lost < _LOST
    squares = isinstance(trial.replica.optimizer, torch.optim.SGD)
    examined = unclear and (not warms_up(trial) if squares else _scales_by_number(trial.replica.optimizer))
    coarse = _coarse(evidence, squares=squares) if examined else 0.0
    most = _COARSE_SQUARES if squares else _COARSE
    if not better and lost < _LOST and coarse < most:
        return
    limit = f"the loss is NaN or Inf, or {_BETTER:g} times lower with all weights in float32"
    if coarse:
        limit = (
            f"{percent(most, 0)} of the updates{_BY_SQUARES * squares} in {_MORE_STEPS} steps change a weight by "
            f"{_UNITS} units in the last place or fewer"
        )
    elif not better:
        limit = (
            f"{percent(_LOST, 0)} of the weights never change, or {percent(_MOST_LOST, 0)} of those with a gradient do "
            "not change in a step"
        )
    kind = str(half[0].dtype).removeprefix("torch.")
    device = evidence.setup.device.type
    yield LOW_PRECISION.finding(
        severity="error" if broken or _little(evidence) else "warning",
        where="the weights",
        measured=f"the optimizer updates {several(len(half), 'parameter')} of type {kind}: "
        f"{_of_changes(coarse, squares) if coarse else _of_numbers(trial, lost)}"
        f"{_in_float32(trial, single, broken) if tried else ', and the loss is NaN or Inf' * broken}",
        limit=limit,
        why=f"{'A float16' if kind == 'float16' else 'A bfloat16'} weight has {11 if kind == 'float16' else 8} "
        "significant bits: updates below its precision are rounded away, and Adam's eps of 1e-8 is zero in float16.",
        remedy=f"keep the weights in float32, `model.float()`, and compute in half precision: "
        f'`with torch.autocast("{device}", dtype=torch.bfloat16):` around forward and loss (float16 with a '
        "`torch.amp.GradScaler()`)",
    )


def _of_average(evidence: Evidence) -> Iterator[Finding]:
    """An average of the network's weights in half precision, some of whose values a step does not change although they
    differ from the network's."""
    originals = {id(thing) for thing in reached_objects((evidence.setup.step,)) if isinstance(thing, nn.Module)}

    def averages(replica: Replica) -> Iterator[Any]:
        copies = copies_reached(replica, originals)
        return (thing for thing, tensors in copies if any(tensor.dtype in _HALF for tensor in tensors.values()))

    kinds = [type(thing).__name__ for thing in averages(evidence.fresh)]
    if not kinds:
        return
    known, shares = list[Any](), list[float]()

    @contextmanager
    def watched(model: nn.Module, *_: Any) -> Iterator[None]:
        names = dict(model.named_parameters())
        before = [{n: t.detach().clone() for n, t in named_tensors(one, names).items()} for one in known]
        yield
        for one, old in zip(known, before, strict=True):
            new = named_tensors(one, names)
            same = [(old[n] == new[n])[_differ(old[n], names[n])] for n in names if old[n].dtype in _HALF]
            if any(not torch.equal(old[n], new[n]) for n in names) and any(map(torch.Tensor.numel, same)):
                shares.append(float(torch.cat(same).double().mean()))

    change = Change(prepare=lambda replica: known.extend(averages(replica)), around=watched, notes=shares)
    trial = evidence.variant("averages watched", change)
    shares = trial.notes
    late = sorted(shares[len(shares) // 2 :])
    share = late[len(late) // 2] if late else 0.0
    if trial.error is not None or len(shares) < _STEPS or share < _LEFT:
        return
    yield LOW_PRECISION.finding(
        severity="warning",
        where="the training step",
        measured=f"an average of the network's weights ({kinds[0]}) is stored in half precision: of the values that "
        f"differ from the network's, {percent(share, 0)} do not change in a step",
        limit=f"in a step, {percent(_LEFT, 0)} of the values that differ from the network's by more than one unit in "
        "the last place do not change",
        why="Each update of the average is a small part of the difference, below the precision of the stored value: "
        "it is rounded away, and the average falls behind.",
        remedy="keep the average in float32: `average.float()`, and `a.mul_(0.99).add_(p.float(), alpha=0.01)` in each "
        "step",
    )


def _differ(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Whether values differ by more than one unit in the last place of the first, elementwise."""
    return (other.detach().float() - one.float()).abs() > _unit(one)


def _unit(numbers: torch.Tensor) -> torch.Tensor:
    """One unit in the last place of each number, in float32."""
    exponent = torch.frexp(numbers.float()).exponent  # for a mantissa from 0.5 to 1
    return torch.ldexp(torch.full_like(numbers, torch.finfo(numbers.dtype).eps / 2, dtype=torch.float32), exponent)


def _of_numbers(trial: Trial, lost: float) -> str:
    steps = several(len(trial.rows), "step")
    if lost < _NONE:
        return f"in {steps} all of their values change"
    return f"after {steps} {percent(lost, 0)} of their values are unchanged, or do not change in a step"


_NONE = 0.005
_BY_SQUARES = ", by their squared gradients,"


def _of_changes(coarse: float, squares: bool) -> str:
    return (
        f"{percent(coarse, 0)} of the updates{_BY_SQUARES * squares} in {_MORE_STEPS} steps change a weight by "
        f"{_UNITS} units in the last place or fewer, or not at all (more still at a smaller rate, as at the end of a "
        "schedule)"
    )


def _in_float32(trial: Trial, single: Trial, broken: bool) -> str:
    if not broken and single.level() >= trial.level():
        return ""
    own = "NaN or Inf" if broken else number(trial.level())
    return f", and the loss is {own}; with float32 weights it is {number(single.level())}"


def _little(evidence: Evidence) -> bool:
    try:
        return evidence.progress.share < 0.1
    except NoEvidence:
        return True


def _unchanged(trial: Trial) -> float:
    """The share of the weights in half precision that no step changes."""
    now, same, count = dict(trial.replica.model.named_parameters()), 0, 0
    for name, original in trial.replica.originals.items():
        if original.dtype in _HALF and original.requires_grad and name in now:
            same += int((now[name].detach() == original.detach()).sum())
            count += original.numel()
    return same / max(count, 1)


def _rounded_away(evidence: Evidence) -> float:
    """The share of the weights in half precision with a gradient that a step does not change, the median of some steps;
    0 where it is below `_MOST_LOST`."""
    shares = sorted(_shares(evidence, "weights watched", _STEPS, lambda before, after: before == after))
    share = shares[len(shares) // 2] if shares else 0.0
    return share if share >= _MOST_LOST else 0.0


def _scales_by_number(optimizer: torch.optim.Optimizer) -> bool:
    """Whether an optimizer divides each gradient by its size, as Adam does, so that all weights move by about the rate.
    With other optimizers, most of the progress comes from a few weights."""
    return any("sq" in str(key) for state in optimizer.state.values() for key in state)


def _coarse(evidence: Evidence, squares: bool) -> float:
    """The share of updates of at most a few units in the last place; with `squares`, weighted by squared gradients."""

    def few_units(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        return (after.float() - before.float()).abs() <= _UNITS * _unit(before)

    weigh = torch.square if squares else torch.ones_like
    shares = _shares(evidence, "weights watched for longer", _MORE_STEPS, few_units, weigh)
    return sum(shares) / max(len(shares), 1)


def _shares(
    evidence: Evidence,
    name: str,
    steps: int,
    holds: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    weigh: Callable[[torch.Tensor], torch.Tensor] = torch.ones_like,
) -> list[float]:
    """For each step of a trial, the share of the weights in half precision with a nonzero gradient for which
    `holds(before, after)` is True, weighted by `weigh(gradient)`."""
    shares: list[float] = []

    def prepare(replica: Replica) -> None:
        half = [p for p in replica.model.parameters() if p.dtype in _HALF and p.requires_grad]
        before: list[torch.Tensor] = []

        def begin(*_: Any) -> None:
            before[:] = [p.detach().clone() for p in half]

        def end(*_: Any) -> None:
            pairs = [(a, p.detach(), p.grad) for a, p in zip(before, half, strict=True)]
            known = [(holds(a, now)[grad != 0], grad[grad != 0].double()) for a, now, grad in pairs if grad is not None]
            weights = weigh(torch.cat([grad for _, grad in known])) if known else torch.zeros(0)
            if float(weights.sum()) > 0:
                shares.append(float((torch.cat([one for one, _ in known]) * weights).sum() / weights.sum()))

        replica.optimizer.register_step_pre_hook(begin)
        replica.optimizer.register_step_post_hook(end)

    by_step: list[float] = evidence.variant(name, Change(prepare=prepare, notes=shares), steps=steps).notes
    return by_step


def _to_float32(replica: Replica) -> None:
    to_float32(replica)
    change_inputs(replica.model, lambda args: mapped(args, _float))


def _float(_: Any, tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype in _HALF else tensor


LOW_PRECISION = Check(
    codes=("optim.low-precision",),
    run=_run,
    explains="loss.not-finite loss.degenerate model.collapsed model.dead-units optim.lr-too-high optim.lr-too-low "
    "optim.no-step optim.clip-too-small fit.*",
)
