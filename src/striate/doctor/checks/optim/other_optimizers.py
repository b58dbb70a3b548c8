"""Loops with several networks: steps of an optimizer without any gradient, and gradients without any optimizer."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.origins import are_untrained
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change
from striate.doctor.setup.reached_objects import parameters_held, reached_optimizers
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import Step
from striate.records import Finding
from striate.wording import several

_STEPS = 12
_Shapes = tuple[tuple[int, ...], ...]


def without_gradients(evidence: Evidence) -> Iterator[Finding]:
    """An optimizer of a loop with several that makes steps, and none of whose parameters ever has a gradient."""
    source = evidence.setup.source
    if source is None:
        return
    named = {name: value for name, value in source.names.items() if isinstance(value, Optimizer)}
    if len(reached_optimizers(source.names)) < 2:
        return
    made: dict[int, tuple[Optimizer, int, bool]] = {}

    def wrap(step: Step) -> Step:
        def stepping(optimizer: Optimizer, *_: Any) -> None:
            before = made.get(id(optimizer), (optimizer, 0, False))
            made[id(optimizer)] = optimizer, before[1] + 1, before[2] or _has_gradients(optimizer)

        def watched(*given: Any) -> Any:
            handle = register_optimizer_step_pre_hook(stepping)
            try:
                return step(*given)
            finally:
                handle.remove()

        return watched

    trial = evidence.variant("with optimizers watched", Change(wrap_step=wrap, notes=made), steps=_STEPS)
    for found, count, moved in trial.notes.values():
        if moved or count < _STEPS // 2 or trial.error is not None:
            continue
        shapes = _shapes(found)
        name = next((name for name, value in named.items() if _shapes(value) == shapes), type(found).__name__)
        yield Finding(
            code="optim.no-step",
            severity="error",
            where="the training step",
            measured=f"`{name}` steps in each pass of the loop, but none of its {several(len(shapes), 'parameter')} "
            "ever gets a nonzero gradient",
            threshold=f"a gradient in {_STEPS} passes",
            why="Its network never changes: no gradient reaches the optimizer.",
            remedy="call `backward()` on a loss that is computed from its network, without `.detach()` or "
            "`torch.no_grad()` in between, and call `zero_grad()` before `backward()`, not after it",
        )
        return


def left_out(source: ScriptSource) -> Iterator[nn.Module]:
    """Networks with weights as initialized that get gradients, and that no optimizer holds."""
    for module in source.without_optimizer:
        weights = {name for name, p in module.named_parameters() if p.ndim > 1}
        if weights and are_untrained(module, weights):
            yield module


def without_optimizer(source: ScriptSource) -> Iterator[Finding]:
    """A network with weights as initialized that the loop trains along, and no optimizer holds."""
    if (found := _given_to_another(source)) is not None:
        yield found
        return
    for module in left_out(source):
        name = next((name for name, value in source.names.items() if value is module), type(module).__name__)
        count = len(list(module.parameters()))
        yield Finding(
            code="optim.parameters-missing",
            severity="error",
            where=f"`{name}`",
            measured=f"the {several(count, 'parameter')} of `{name}` get gradients in the first step, but no "
            "optimizer holds any of them",
            threshold="a gradient, weights as initialized, and no optimizer",
            why="It keeps its initial weights, and the layers after it have to make do with them.",
            remedy=f"one optimizer for both: `torch.optim.Adam([*model.parameters(), *{name}.parameters()])`",
        )
        return


def _given_to_another(source: ScriptSource) -> Finding | None:
    """An optimizer of a network that code only asks without gradients, as a target network, where a network of the
    same class is asked with gradients, and no optimizer holds any of its parameters; or one of two that hold the same
    network, where another one with gradients, as initialized and the only of its class, is held by none."""
    given = (node.attr for node in source.nodes(ast.Attribute) if isinstance(node.ctx, ast.Store))
    if not {"grad", "_grad"}.isdisjoint(given):  # by another network
        return None
    optimizers = reached_optimizers(source.names)
    held = parameters_held(*optimizers)
    networks = {name: value for name, value in source.names.items() if isinstance(value, nn.Module)}
    trained = {type(value) for value in networks.values() if any(id(p) in held for p in value.parameters())}
    for name, model in networks.items():
        own = {id(p) for p in model.parameters() if p.requires_grad}
        if not own or own & held or True not in _asked_with_gradients(source, model):
            continue
        untrained = are_untrained(model, {key for key, p in model.named_parameters() if p.ndim > 1})
        for other, copy in networks.items():
            whole = {id(p) for p in copy.parameters()}
            holding = [found for found in optimizers if parameters_held(found) == whole]
            names = [key for key, value in source.names.items() if any(value is found for found in holding)]
            twice = len(holding) > 1 and untrained and type(model) not in trained
            same = holding and type(copy) is type(model) and _asked_with_gradients(source, copy) == {False}
            if not twice and not same:
                continue
            asked = "that runs with gradients" if twice else "of the same class"
            named = next((key for key in names if name in key), names[-1] if names else type(holding[-1]).__name__)
            return Finding(
                code="optim.parameters-missing",
                severity="error",
                where=f"`{named}`",
                measured=f"`{named}` holds the parameters of `{other}`, which "
                f"{'another optimizer holds as well' if twice else 'runs only without gradients'}, and no optimizer "
                f"holds those of `{name}`, a network {asked}",
                threshold="an optimizer holds a network that runs only without gradients, or that another optimizer "
                "holds too, and no optimizer holds another network that gets gradients",
                why=f"`{name}` keeps its initial weights.",
                remedy=f"`{type(holding[-1]).__name__}({name}.parameters(), …)`",
            )
    return None


def _asked_with_gradients(source: ScriptSource, model: nn.Module) -> set[bool]:
    """Whether calls of a network have gradients, each; True, too, where code hands it on to others."""
    found = set[bool]()
    for node in source.nodes():
        read = isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load)
        if not read or source.value(node) is not model:
            continue
        around = source.parent(node)
        if isinstance(around, ast.Attribute) and hasattr(nn.Module, around.attr) and around.attr != "forward":
            continue
        asks = isinstance(around, ast.Attribute) or (isinstance(around, ast.Call) and around.func is node)
        found.add(not asks or not source.without_gradient(node))
    return found


GIVEN_TO_NONE = Check(
    codes=("optim.parameters-missing",),
    question="Does an optimizer hold each network that has gradients?",
    run=lambda evidence: without_optimizer(evidence.source),
    of_source=True,
)
"""Of a script that plays an environment, none of whose steps is made."""


def _has_gradients(optimizer: Optimizer) -> bool:
    gradients = (p.grad for group in optimizer.param_groups for p in group["params"])
    return any(gradient is not None and bool(gradient.count_nonzero()) for gradient in gradients)


def _shapes(optimizer: Optimizer) -> _Shapes:
    return tuple(tuple(p.shape) for group in optimizer.param_groups for p in group["params"])
