"""`loss.sign`, `data.step-labels` and `model.graph-detached` of networks that train against each other: in which
direction do the losses push the discriminator's outputs?"""

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
class _Call:
    """One call of a network that may be a discriminator, and the gradients that its output gets."""

    network: nn.Module
    generated: bool
    """Whether the input is the output of another network."""
    reaches_generator: bool
    """Whether a gradient can reach the network that generated the input."""
    generator: type | None = None
    """The class of that network; None if the input is not generated."""
    gradients: list[torch.Tensor] = field(default_factory=list)

    @property
    def push(self) -> int:
        """1 if a step makes the outputs larger, -1 if it makes them smaller, 0 if neither or some of both."""
        if not self.gradients:
            return 0
        total = torch.stack([g.double().flatten().sum() for g in self.gradients]).sum()
        size = torch.stack([g.double().flatten().abs().sum() for g in self.gradients]).sum()
        return 0 if float(total.abs()) <= _ONE_WAY * float(size) else (-1 if float(total) > 0 else 1)


def _run(evidence: Evidence) -> Iterator[Finding]:
    if not evidence.setup.rivals:
        return
    calls = _discriminator_calls(evidence)
    real = next((call for call in calls if not call.generated and call.push), None)
    fakes = [
        call for call in calls if real is not None and call.network is real.network and call.generated and call.push
    ]
    # Where none reaches the generator, that with the label of real images is its step.
    detached = sorted(
        (call for call in fakes if not call.reaches_generator),
        key=lambda call: real is not None and call.push == real.push,
    )
    own_step = next(iter(detached), None)
    generator_step = next((call for call in fakes if call.reaches_generator), None)
    if real is None or own_step is None:
        return
    name = type(real.network).__name__
    change = {1: "larger", -1: "smaller"}
    if own_step.push == real.push:
        yield RIVALS.finding(
            code="data.step-labels" if _by_labels(evidence) else "loss.sign",
            severity="error",
            where=f"the loss of {name}",
            measured=f"the step of {name} makes its outputs {change[real.push]} for real images, and "
            f"{change[own_step.push]} for generated images, too",
            limit=f"outputs of {name} that its step pushes in the same direction for real and for generated images",
            why=f"{name} learns the same prediction for both and cannot tell them apart, so the other network learns "
            "nothing from it.",
            remedy="use the other label for generated images: "
            "`criterion(netD(fake.detach()), torch.zeros(len(fake)))`, or `label.fill_(fake_label)` before the loss",
        )
    elif generator_step is not None and generator_step.push != real.push:
        yield RIVALS.finding(
            code="loss.sign",
            severity="error",
            where="the loss of the generator",
            measured=f"the generator's step makes the outputs of {name} {change[generator_step.push]} for the images "
            f"that it generates; the step of {name} makes them {change[real.push]} for real images",
            limit=f"a generator's step that pushes the outputs of {name} in another direction than its own step does "
            "for real images",
            why="The generator learns to produce images that are easy to distinguish from real ones.",
            remedy=f"use the label of real images: `criterion(netD(fake), torch.ones(len(fake)))`; for a mean, "
            f"`{'-' if real.push > 0 else ''}netD(fake).mean()`",
        )
    elif generator_step is not None and (generator := _not_optimized(evidence, generator_step)):
        yield RIVALS.finding(
            code="optim.parameters-missing",
            severity="error",
            where=f"`{generator}`",
            measured=f"`{generator}` generates the images that {name} judges and gets gradients, but no optimizer "
            "holds any of its parameters",
            limit="no optimizer holds a parameter of the generator",
            why="The generator keeps its initial weights, so its images become easier to distinguish from real ones.",
            remedy=f"create an optimizer for it: `torch.optim.Adam({generator}.parameters())`",
        )
    elif generator_step is None and len(fakes) > sum(
        call.network is real.network and not call.generated for call in calls
    ):
        yield RIVALS.finding(
            code="model.graph-detached",
            severity="error",
            where="the loss of the generator",
            measured=f"{name} judges generated images {several(len(fakes), 'time')} in a step, but no gradient comes "
            "back to the generator",
            limit="no gradient comes back to the generator anywhere in a step",
            why="The generator learns nothing.",
            remedy="remove `.detach()` and `torch.no_grad()` from the generator's own step: `criterion(netD(fake), "
            "torch.ones(len(fake)))`",
        )


def _not_optimized(evidence: Evidence, call: _Call) -> str:
    """The name of the network that generated the input of a call, if no optimizer holds its parameters; else empty."""
    if evidence.setup.source is None:
        return ""
    names = evidence.setup.source.names
    held = parameters_held(*reached_optimizers(names))
    own = {name: network for name, network in names.items() if isinstance(network, nn.Module)}
    alike = {name: {id(p) for p in one.parameters()} for name, one in own.items() if type(one) is call.generator}
    # If an optimizer holds one network of the class, the others may be averages of it.
    return next(iter(alike), "") if all(held.isdisjoint(parameters) for parameters in alike.values()) else ""


def _by_labels(evidence: Evidence) -> bool:
    """Whether the losses have targets that are all of one value, as labels for real and for generated images."""
    return any(call.target.is_floating_point() and len(call.target.unique()) == 1 for call in evidence.calls.losses)


def _discriminator_calls(evidence: Evidence) -> list[_Call]:
    """The calls, in one step, of networks that get another network's output in at least one call. Raises NoEvidence."""
    replica = make_replica(evidence.setup)
    outputs: list[tuple[nn.Module, torch.Tensor]] = []
    calls: list[_Call] = []
    depth = 0

    def enter(*_: Any) -> None:
        nonlocal depth
        depth += 1

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        nonlocal depth
        depth -= 1
        x, y = main_tensor(args), main_tensor(output)
        if depth or x is None or y is None or not any(True for _ in module.parameters()):
            return
        generator = next((type(other) for other, image in outputs if other is not module and _alike(x, image)), None)
        generated = generator is not None
        call = _Call(module, generated, generated and x.requires_grad, generator)
        on_gradient(y, lambda gradient: call.gradients.append(gradient.detach()))
        if generated or not x.requires_grad:  # not interpolated inputs, of which a gradient penalty takes gradients
            calls.append(call)
        outputs.append((module, y.detach()))

    try:
        with forward_hooks_everywhere(enter, leave):
            replica.step(replica.model, copied(evidence.train.raw[0]), replica.optimizer, replica.loss)
    except Exception as error:
        if ran_out(error):
            raise
        raise NoEvidence(f"a step of networks that train against each other fails: {type(error).__name__}") from error
    discriminators = {id(call.network) for call in calls if call.generated}
    return [call for call in calls if id(call.network) in discriminators]


def _alike(x: torch.Tensor, image: torch.Tensor) -> bool:
    """Whether an input is another network's output, with or without noise."""
    if x.shape != image.shape or x[0].numel() < 2 or not x.is_floating_point():
        return False
    pair = torch.stack([x.detach().flatten().float(), image.flatten().float()])
    return bool(torch.corrcoef(pair)[0, 1] > _ALIKE)


RIVALS = Check(
    codes=("loss.sign", "data.step-labels", "model.graph-detached", "optim.parameters-missing"),
    run=_run,
    explains="loss.degenerate model.collapsed optim.no-step",
)
