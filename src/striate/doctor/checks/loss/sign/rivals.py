"""`loss.sign`, `data.step-labels` and `model.graph-detached` of networks that train against each other: which way does
the loss push what the judge says of each?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.batch import copied, main_tensor
from striate.doctor.setup.reached_objects import parameters_held, reached_optimizers
from striate.doctor.setup.replicas import make_replica
from striate.machine.memory import ran_out
from striate.observe.gradients import on_gradient
from striate.observe.module_calls import forward_hooks_everywhere
from striate.records import Finding
from striate.wording import several

_ALIKE, _ONE_WAY = 0.7, 0.5


@dataclass(eq=False)
class _Judged:
    """One call of a network on what another drew, or on others: its gradients, added up."""

    judge: nn.Module
    drawn: bool
    learning: bool
    """Whether a gradient can go on to the network that drew it."""
    drew: type | None = None
    """The class of that network."""
    gradients: list[torch.Tensor] = field(default_factory=list)

    @property
    def push(self) -> int:
        """1 where a step makes its outputs larger, -1 where smaller, 0 where some of both or neither."""
        if not self.gradients:
            return 0
        total = torch.stack([g.double().flatten().sum() for g in self.gradients]).sum()
        size = torch.stack([g.double().flatten().abs().sum() for g in self.gradients]).sum()
        return 0 if float(total.abs()) <= _ONE_WAY * float(size) else (-1 if float(total) > 0 else 1)


def _run(evidence: Evidence) -> Iterator[Finding]:
    if not evidence.setup.rivals:
        return
    calls = _judged(evidence)
    real = next((call for call in calls if not call.drawn and call.push), None)
    same = [call for call in calls if real is not None and call.judge is real.judge and call.drawn and call.push]
    apart = next((call for call in same if not call.learning), None)
    fooled = next((call for call in same if call.learning), None)
    if real is None or apart is None:
        return
    name = type(real.judge).__name__
    way = {1: "larger", -1: "smaller"}
    if apart.push == real.push:
        yield RIVALS.finding(
            code="data.step-labels" if _by_labels(evidence) else "loss.sign",
            severity="error",
            where=f"the loss of {name}",
            measured=f"the step of {name} makes its outputs {way[real.push]} for real images, and "
            f"{way[apart.push]} for generated images, too",
            limit=f"outputs of {name} that its step pushes in the same direction for real and for generated images",
            why=f"{name} learns the same prediction for both and cannot tell them apart, so the other network learns "
            "nothing from it.",
            remedy="use the other label for generated images: "
            "`criterion(netD(fake.detach()), torch.zeros(len(fake)))`, or `label.fill_(fake_label)` before the loss",
        )
    elif fooled is not None and fooled.push != real.push:
        yield RIVALS.finding(
            code="loss.sign",
            severity="error",
            where="the loss of the generator",
            measured=f"the generator's step makes the outputs of {name} {way[fooled.push]} for the images that it "
            f"generates; the step of {name} makes them {way[real.push]} for real images",
            limit=f"a generator's step that pushes the outputs of {name} in another direction than its own step does "
            "for real images",
            why="The generator learns to produce images that are easily told from real ones.",
            remedy=f"use the label of real images: `criterion(netD(fake), torch.ones(len(fake)))`; for a mean, "
            f"`{'-' if real.push > 0 else ''}netD(fake).mean()`",
        )
    elif fooled is not None and (lost := _in_no_optimizer(evidence, fooled)):
        yield RIVALS.finding(
            code="optim.parameters-missing",
            severity="error",
            where=f"`{lost}`",
            measured=f"`{lost}` generates the images that {name} judges and gets gradients, but no optimizer holds "
            "any of its parameters",
            limit="no optimizer holds a parameter of the generator",
            why="The generator keeps its initial weights, so its images are told from real ones ever more easily.",
            remedy=f"create an optimizer for it: `torch.optim.Adam({lost}.parameters())`",
        )
    elif fooled is None and len(same) > sum(call.judge is real.judge and not call.drawn for call in calls):
        yield RIVALS.finding(
            code="model.graph-detached",
            severity="error",
            where="the loss of the generator",
            measured=f"{name} judges generated images {several(len(same), 'time')} in a step, but no gradient comes "
            "back to the generator",
            limit="no gradient comes back to the generator anywhere in a step",
            why="The generator learns nothing.",
            remedy="remove `.detach()` and `torch.no_grad()` from the generator's own step: `criterion(netD(fake), "
            "torch.ones(len(fake)))`",
        )


def _in_no_optimizer(evidence: Evidence, call: _Judged) -> str:
    """The name of the network that drew what was judged, where none of its parameters is in an optimizer; `` else."""
    if evidence.setup.source is None:
        return ""
    names = evidence.setup.source.names
    held = parameters_held(*reached_optimizers(names))
    own = {name: network for name, network in names.items() if isinstance(network, nn.Module)}
    alike = {name: {id(p) for p in one.parameters()} for name, one in own.items() if type(one) is call.drew}
    # One that is held is the one that learns: others of its class may be averages of it.
    return next(iter(alike), "") if all(held.isdisjoint(parameters) for parameters in alike.values()) else ""


def _by_labels(evidence: Evidence) -> bool:
    """Whether the answers are asked for by targets, all of one value."""
    return any(call.target.is_floating_point() and len(call.target.unique()) == 1 for call in evidence.calls.losses)


def _judged(evidence: Evidence) -> list[_Judged]:
    """The calls, in one step, of networks that are shown what another network drew, and of the same on others."""
    replica = make_replica(evidence.setup)
    drawn: list[tuple[nn.Module, torch.Tensor]] = []
    calls: list[_Judged] = []
    depth = 0

    def enter(*_: Any) -> None:
        nonlocal depth
        depth += 1

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        nonlocal depth
        depth -= 1
        shown, told = main_tensor(args), main_tensor(output)
        if depth or shown is None or told is None or not any(True for _ in module.parameters()):
            return
        drew = next((type(other) for other, image in drawn if other is not module and _alike(shown, image)), None)
        by_other = drew is not None
        call = _Judged(module, by_other, by_other and shown.requires_grad, drew)
        on_gradient(told, lambda gradient: call.gradients.append(gradient.detach()))
        if by_other or not shown.requires_grad:  # what lies between both asks for gradients of its own
            calls.append(call)
        drawn.append((module, told.detach()))

    try:
        with forward_hooks_everywhere(enter, leave):
            replica.step(replica.model, copied(evidence.train.raw[0]), replica.optimizer, replica.loss)
    except Exception as error:
        if ran_out(error):
            raise
        raise NoEvidence(f"a step of networks that train against each other fails: {type(error).__name__}") from error
    judges = {id(call.judge) for call in calls if call.drawn}
    return [call for call in calls if id(call.judge) in judges]


def _alike(shown: torch.Tensor, image: torch.Tensor) -> bool:
    """Whether a network is shown another's output, with or without noise on it."""
    if shown.shape != image.shape or shown[0].numel() < 2 or not shown.is_floating_point():
        return False
    pair = torch.stack([shown.detach().flatten().float(), image.flatten().float()])
    return bool(torch.corrcoef(pair)[0, 1] > _ALIKE)


RIVALS = Check(
    codes=("loss.sign", "data.step-labels", "model.graph-detached", "optim.parameters-missing"),
    question="If two networks train against each other, does each push the discriminator's outputs the right way?",
    run=_run,
    explains="loss.degenerate model.collapsed optim.no-step",
)
