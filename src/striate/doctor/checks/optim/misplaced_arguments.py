"""Positional arguments of an optimizer that go to another parameter than intended, and exchanged betas."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.optim import Optimizer

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.reached_objects import reached_optimizers
from striate.doctor.setup.script_source import Site
from striate.doctor.setup.syntax import called, last_name
from striate.records import Finding
from striate.wording import listed

_LOW, _DECAY = "optim.lr-too-low", "optim.weight-decay-too-high"
_SHORTENS = {
    "eps": ("weight_decay", "momentum", "lr", "alpha", "rho"),
    "alpha": ("weight_decay", "eps"),  # usual momentums are usual values of alpha, too
    "dampening": ("momentum",),
    "momentum": ("weight_decay",),
    "lr_decay": ("weight_decay", "momentum"),
}
"""Parameters that make steps shorter if they get a value that is intended for one of the listed parameters."""
_SHORT_FORMS = {"wd": "weight_decay", "mom": "momentum"}
_DECAYS, _MOMENTUMS = 0.01, 0.5
"""The highest usual decay, and the lowest usual momentum."""
_DECAYS_OF_ADAMW = (0.005, 0.5)
"""Range of usual decays of AdamW; as eps they are a million times the usual value, which nobody passes without a
name."""


_LONG = 0.99
"""The lowest usual `beta2`, and above the highest usual `beta1`."""


class _Argument(NamedTuple):
    """A positional argument that goes to the wrong parameter."""

    text: str
    """The argument as the script has it."""
    intended: str
    """Name of the intended parameter."""
    actual: str
    """Name of the parameter that gets it."""


def _run(evidence: Evidence) -> Iterator[Finding]:
    optimizers = reached_optimizers(evidence.source.names) or [evidence.trial.replica.optimizer]
    for optimizer in optimizers:
        first, second = optimizer.defaults.get("betas", (0.0, 1.0))[:2]
        if float(first) >= _LONG > float(second):
            yield _exchanged(type(optimizer).__name__, float(first), float(second))
            return
    for site in evidence.source.calls(*{type(one).__name__ for one in optimizers}):
        kind = next(type(one) for one in optimizers if type(one).__name__ == called(site.node))
        arguments = list(_misplaced(evidence, site, kind))
        shortening = [one for one in arguments if one.intended in _SHORTENS.get(one.actual, ())]
        decays = [one for one in arguments if one.actual == "weight_decay" and one.intended == "momentum"]
        if shortening or decays:
            yield _finding(site, arguments, _LOW if shortening else _DECAY)
            return


def _exchanged(name: str, first: float, second: float) -> Finding:
    return MISPLACED.finding(
        severity="warning",
        where="the optimizer",
        measured=f"`betas=({first:g}, {second:g})` of {name} are exchanged: gradients are averaged over about "
        f"{1 / (1 - first):,.0f} steps, and their squares over {1 / (1 - second):,.0f}",
        limit=f"a `beta1` of {_LONG:g} or more, and a `beta2` below it",
        why="Steps go where gradients of long ago pointed, and are as long as the last batches say: training is slow "
        "and unstable.",
        remedy=f"`betas=({second:g}, {first:g})`",
    )


def _misplaced(evidence: Evidence, site: Site, kind: type[Optimizer]) -> Iterator[_Argument]:
    """Misplaced arguments by the names of their variables; or else by their values."""
    parameters = list(inspect.signature(kind).parameters)
    by_name = {word.arg for word in site.node.keywords}
    placed = dict[str, ast.expr]()
    for parameter, part in zip(parameters, site.node.args, strict=False):
        if isinstance(part, ast.Starred):
            break
        placed[parameter] = part
    found = False
    for parameter, part in placed.items():
        intended = _intended(last_name(part).lower(), parameters)
        without_effect = parameter == "momentum" and evidence.source.is_number(part, 0)  # the default of both
        if intended and intended != parameter and not without_effect:
            found = True
            yield _Argument(ast.unparse(part), intended, parameter)
    if found:
        return
    numbers = {parameter: evidence.source.value(part) for parameter, part in placed.items()}
    numbers = {parameter: number for parameter, number in numbers.items() if isinstance(number, int | float)}
    decays = bool({"weight_decay", None} & {*by_name, *placed})
    momentum = numbers.get("momentum", 0)
    if (
        kind is torch.optim.SGD
        and not decays
        and 0 < momentum <= _DECAYS
        and isinstance(placed["momentum"], ast.Constant)
    ):
        yield _Argument(ast.unparse(placed["momentum"]), "weight_decay", "momentum")
    alpha, eps = numbers.get("alpha"), numbers.get("eps")
    if eps is None or "eps" in last_name(placed["eps"]).lower():
        return
    if kind is torch.optim.RMSprop and alpha is not None and alpha <= _DECAYS and eps >= _MOMENTUMS:
        yield _Argument(ast.unparse(placed["alpha"]), "weight_decay", "alpha")
        yield _Argument(ast.unparse(placed["eps"]), "momentum", "eps")
    if kind is torch.optim.AdamW and not decays and _DECAYS_OF_ADAMW[0] <= eps <= _DECAYS_OF_ADAMW[1]:
        yield _Argument(ast.unparse(placed["eps"]), "weight_decay", "eps")


def _intended(name: str, parameters: list[str]) -> str:
    """The parameter that a variable is named for: `weight_decay`, `args.wd`, `self.sgd_momentum`; empty for others."""
    if name in _SHORT_FORMS.keys() | parameters:
        intended = _SHORT_FORMS.get(name, name)
        return intended if intended in parameters else ""
    return next((one for one in ("weight_decay", "momentum") if name.endswith("_" + one) and one in parameters), "")


def _finding(site: Site, arguments: list[_Argument], code: str) -> Finding:
    text = listed([f"`{one.text}` is given to `{one.actual}`, not to `{one.intended}`" for one in arguments])
    before = [ast.unparse(part) for part in site.node.args]
    before = before[: min(before.index(one.text) for one in arguments)]
    by_name = [f"{one.intended}={one.text}" for one in arguments] + [ast.unparse(word) for word in site.node.keywords]
    name = called(site.node)
    return MISPLACED.finding(
        code=code,
        severity="warning",
        where=site.where,
        measured=f"in `{site.text}` {text}: arguments without a name go to the parameters of {name} in their order",
        why="What is usual for one parameter is not for another: as `eps`, `dampening`, `momentum` or `lr_decay` it "
        "makes steps far too short, and the parameters that it is meant for keep their defaults."
        if code == _LOW
        else "Weights shrink faster than they learn, and there is no momentum.",
        remedy=f"give them by name: `{ast.unparse(site.node.func)}({', '.join([*before, *by_name])})`",
    )


MISPLACED = Check(
    codes=(_LOW, _DECAY),
    threshold="arguments without a name at the places of other parameters, by the names of their variables, or by "
    "numbers: a decay at the place of RMSprop's `alpha` with a momentum at that of `eps`, or a decay at the place of "
    "AdamW's `eps` or of SGD's `momentum`",
    run=_run,
    of_source=True,
    explains="fit.* optim.lr-too-high",
)
