"""Loops with several networks: optimizers that step without gradients, and networks with gradients but no optimizer."""

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
from striate.records import Finding
from striate.wording import several

_STEPS = 12
_Shapes = tuple[tuple[int, ...], ...]


def without_gradients(evidence: Evidence) -> Iterator[Finding]:
    """An optimizer, in a loop with several ones, that steps although none of its parameters ever has a gradient."""
    source = evidence.setup.source
    if source is None:
        return
    named = {name: value for name, value in source.names.items() if isinstance(value, Optimizer)}
    if len(reached_optimizers(source.names)) < 2:
        return
    made: dict[int, tuple[Optimizer, int, bool]] = {}

    def stepping(optimizer: Optimizer, *_: Any) -> None:
        before = made.get(id(optimizer), (optimizer, 0, False))
        made[id(optimizer)] = optimizer, before[1] + 1, before[2] or _has_gradients(optimizer)

    change = Change(around=lambda *_: register_optimizer_step_pre_hook(stepping), notes=made)
    trial = evidence.variant("with optimizers watched", change, steps=_STEPS)
    for optimizer, count, has_gradients in trial.notes.values():
        if has_gradients or count < _STEPS // 2 or trial.error is not None:
            continue
        shapes = _shapes(optimizer)
        name = next((name for name, value in named.items() if _shapes(value) == shapes), type(optimizer).__name__)
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


def not_optimized(source: ScriptSource) -> Iterator[nn.Module]:
    """Networks that look untrained and get gradients, but that no optimizer holds."""
    for module in source.without_optimizer:
        weights = {name for name, p in module.named_parameters() if p.ndim > 1}
        if weights and are_untrained(module, weights):
            yield module


def without_optimizer(source: ScriptSource) -> Iterator[Finding]:
    """A network that looks untrained and gets gradients in the loop, but that no optimizer holds."""
    if (finding := _wrong_network_optimized(source)) is not None:
        yield finding
        return
    for module in not_optimized(source):
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


def _wrong_network_optimized(source: ScriptSource) -> Finding | None:
    """The finding for an optimizer that holds the wrong network, while a network that runs with gradients has none.

    Either the optimizer holds a network of the same form that runs only without gradients, such as a target network;
    or another optimizer holds the same network, and the network without one looks untrained and is the only one of its
    form.
    """
    stored = (node.attr for node in source.nodes(ast.Attribute) if isinstance(node.ctx, ast.Store))
    if not {"grad", "_grad"}.isdisjoint(stored):  # gradients may come from another network
        return None
    optimizers = reached_optimizers(source.names)
    held = parameters_held(*optimizers)
    networks = {name: value for name, value in source.names.items() if isinstance(value, nn.Module)}
    trained = {_form(value) for value in networks.values() if any(id(p) in held for p in value.parameters())}
    for name, model in networks.items():
        own = {id(p) for p in model.parameters() if p.requires_grad}
        if not own or own & held or True not in _runs_with_gradients(source, model):
            continue
        untrained = are_untrained(model, {key for key, p in model.named_parameters() if p.ndim > 1})
        for other, copy in networks.items():
            parameters = {id(p) for p in copy.parameters()}
            holding = [optimizer for optimizer in optimizers if parameters_held(optimizer) == parameters]
            names = [key for key, value in source.names.items() if any(value is one for one in holding)]
            twice = len(holding) > 1 and untrained and _form(model) not in trained
            same = holding and _form(copy) == _form(model) and _runs_with_gradients(source, copy) == {False}
            if not twice and not same:
                continue
            kind = "that runs with gradients" if twice else "of the same class"
            named = next((key for key in names if name in key), names[-1] if names else type(holding[-1]).__name__)
            return Finding(
                code="optim.parameters-missing",
                severity="error",
                where=f"`{named}`",
                measured=f"`{named}` holds the parameters of `{other}`, which "
                f"{'another optimizer holds as well' if twice else 'runs only without gradients'}, and no optimizer "
                f"holds those of `{name}`, a network {kind}",
                threshold="an optimizer holds a network that runs only without gradients, or that another optimizer "
                "holds too, and no optimizer holds another network that gets gradients",
                why=f"`{name}` keeps its initial weights.",
                remedy=f"`{type(holding[-1]).__name__}({name}.parameters(), …)`",
            )
    return None


def _form(network: nn.Module) -> tuple[object, ...]:
    """Class and shapes of a network: containers such as `nn.Sequential` are of one class, whatever they hold."""
    return type(network), *(tuple(p.shape) for p in network.parameters())


def _runs_with_gradients(source: ScriptSource, model: nn.Module) -> set[bool]:
    """For the uses of a network, whether they may compute gradients: False for calls without gradients, True for other
    calls, and where the script passes the network on."""
    uses = set[bool]()
    for node in source.nodes():
        read = isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load)
        if not read or source.value(node) is not model:
            continue
        around = source.parent(node)
        if isinstance(around, ast.Attribute) and hasattr(nn.Module, around.attr) and around.attr != "forward":
            continue
        runs = isinstance(around, ast.Attribute) or (isinstance(around, ast.Call) and around.func is node)
        uses.add(not runs or not source.without_gradient(node))
    return uses


WITHOUT_OPTIMIZER = Check(
    codes=("optim.parameters-missing",),
    run=lambda evidence: without_optimizer(evidence.source),
    of_source=True,
)
"""For scripts that play an environment, whose steps cannot be repeated."""


def _has_gradients(optimizer: Optimizer) -> bool:
    gradients = (p.grad for group in optimizer.param_groups for p in group["params"])
    return any(gradient is not None and bool(gradient.count_nonzero()) for gradient in gradients)


def _shapes(optimizer: Optimizer) -> _Shapes:
    return tuple(tuple(p.shape) for group in optimizer.param_groups for p in group["params"])
