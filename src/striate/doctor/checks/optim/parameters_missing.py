"""`optim.parameters-missing`: does every parameter that gets gradients belong to an optimizer?"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.origins import are_untrained
from striate.doctor.checks.optim.other_optimizers import without_optimizer
from striate.doctor.evidence.clock import NoEvidence, OutOfTime
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.rates import optimizer_line
from striate.doctor.evidence.trial import FEWEST_TO_JUDGE, Change, Trial
from striate.doctor.evidence.trial_variants import optimized, unchanged_parameters
from striate.doctor.setup.reached_objects import parameters_held, reached_optimizers
from striate.doctor.setup.replicas import Replica
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called, nodes_in, receiver_of
from striate.records import Finding
from striate.wording import listed_names, percent, several

_WORTH = 1.15
"""How many times lower the loss has to be with all parameters; final losses of trials differ by some percent by
chance."""
_LEARNED = 1.5
"""How many times worse both trials with shuffled values have to be, if these values were learned."""


_OPTIMIZER_MAKER = re.compile(r"(opt|optim|optimizer)_?(func|fn|class|cls|factory|type)", re.IGNORECASE)
"""Names of variables that hold the class of an optimizer, or a function that creates one."""


def _with_all_parameters(trial: Trial) -> str:
    """The line of Python that creates the user's optimizer with all parameters."""
    return optimizer_line(trial.replica.optimizer, [float(trial.replica.optimizer.param_groups[0]["lr"])])


def _find_parameters_missing(evidence: Evidence) -> Iterator[Finding]:
    """Parameters that get gradients and are in no parameter group of the optimizer, and that nothing else changes."""
    trial = evidence.trial
    if evidence.setup.own_optimizer or not trial.rows or trial.changed_original:
        return
    if evidence.setup.source is not None:
        late = _unfrozen_later(evidence)
        yield from without_optimizer(evidence.source) if late is None else [late]
    held = set(optimized(trial))
    gradients = dict(trial.first.gradients)
    gradients.update({name: value for name, value in trial.later.gradients.items() if value})
    missing = [name for name in unchanged_parameters(trial) if gradients.get(name) and name not in held]
    if not missing:
        return
    if not held and len(missing) == sum(value is not None for value in gradients.values()):
        if any(row.steps for row in trial.rows):
            count = sum(len(group["params"]) for group in trial.replica.optimizer.param_groups)
            yield _of_another_network(evidence, missing, count)
        return
    if len(trial.rows) >= FEWEST_TO_JUDGE:
        yield from _some_missing(evidence, missing)


def _unfrozen_later(evidence: Evidence) -> Finding | None:
    """The finding for frozen parameters that are in no optimizer, and that the script unfreezes in a later epoch
    without adding them to one."""
    source, optimizer = evidence.source, evidence.setup.optimizer
    if not isinstance(optimizer, torch.optim.Optimizer):
        return None
    held = parameters_held(optimizer, *reached_optimizers(source.names))
    if any(site.often != "once" for site in source.calls("add_param_group", type(optimizer).__name__)):
        return None
    for node in source.nodes():
        if not _unfreezes(node) or source.often(node) == "once" or _creates_optimizer_later(source, node):
            continue
        part = _unfrozen(source, node)
        missing = [] if part is None else [name for name, p in part.named_parameters() if id(p) not in held]
        if not missing:
            continue
        return Finding(
            code="optim.parameters-missing",
            severity="error",
            where=f"line {getattr(node, 'lineno', 0)}",
            measured=f"`{ast.unparse(node)}` unfreezes parameters that are in no parameter group of the "
            f"optimizer: {listed_names(missing)}",
            threshold="frozen parameters that no optimizer holds, and that a later epoch unfreezes",
            why="They get gradients from then on, but never change.",
            remedy="Make the optimizer with all parameters, "
            f"`torch.optim.{type(optimizer).__name__}(model.parameters(), …)`: it skips those that have no "
            f"gradient. Or add these when they are unfrozen: `optimizer.add_param_group({{'params': …}})`.",
        )
    return None


def _creates_optimizer_later(source: ScriptSource, node: ast.AST) -> bool:
    """Whether the script creates an optimizer after a node, or after a call of the function around it, in the same
    function or in one that it calls there."""
    function = source.function_of(node)
    moments = [node, *([] if function is None else [site.node for site in source.calls_of(function)])]
    later = [
        other
        for moment in moments
        for other in ast.walk(source.scope_of(moment))
        if getattr(other, "lineno", 0) > getattr(moment, "lineno", 0)
    ]
    later += list(nodes_in(source.called_from(later)))
    return any(_creates_optimizer(other) for other in later if isinstance(other, ast.Call))


def _creates_optimizer(call: ast.Call) -> bool:
    kind = getattr(torch.optim, called(call), None)
    known = isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)
    return known or _OPTIMIZER_MAKER.fullmatch(called(call)) is not None


def _unfrozen(source: ScriptSource, node: ast.AST) -> nn.Module | None:
    """The module whose parameters a node unfreezes, in a loop `for p in net.body.parameters():` or by
    `net.body.requires_grad_()`; None if unknown."""
    owner: ast.expr | None = receiver_of(node) if isinstance(node, ast.Call) else None
    for loop in source.loops_of(node)[:1]:
        if isinstance(loop, ast.For) and isinstance(loop.iter, ast.Call) and called(loop.iter) == "parameters":
            owner = receiver_of(loop.iter)
    module = source.value(owner)
    return module if isinstance(module, nn.Module) else None


def _unfreezes_some(source: ScriptSource) -> bool:
    """Whether the script sets `requires_grad` of some parameters to something other than False, so that it intends to
    train them."""
    assigned = (
        node.value
        for node in source.nodes(ast.Assign)
        if any(isinstance(target, ast.Attribute) and target.attr == "requires_grad" for target in node.targets)
    )
    return any(not (isinstance(value, ast.Constant) and value.value is False) for value in assigned) or any(
        _unfreezes(site.node) for site in source.calls("requires_grad_")
    )


def _unfreezes(node: ast.AST) -> bool:
    """Whether a node is `p.requires_grad = True` or `requires_grad_()`."""
    if isinstance(node, ast.Assign):
        named = any(isinstance(target, ast.Attribute) and target.attr == "requires_grad" for target in node.targets)
        return named and isinstance(node.value, ast.Constant) and node.value.value is True
    if not isinstance(node, ast.Call) or called(node) != "requires_grad_":
        return False
    return not node.args or (isinstance(node.args[0], ast.Constant) and node.args[0].value is True)


def _of_another_network(evidence: Evidence, missing: Sequence[str], count: int) -> Finding:
    own, source = dict(evidence.setup.model.named_parameters()), evidence.setup.source
    line = _with_all_parameters(evidence.trial)
    tables = {} if source is None else {name: v for name, v in source.names.items() if isinstance(v, dict)}
    table = next((n for n, v in tables.items() if v.keys() == own.keys() and all(v[k] is own[k] for k in v)), None)
    if table is not None:
        line = line.replace("model.parameters()", f"list({table}.values())")
    return Finding(
        code="optim.parameters-missing",
        severity="error",
        where="the optimizer",
        measured=f"the optimizer holds {count} parameters, none of which belongs to this network; the network's own "
        f"{len(missing)}, which get gradients, never change",
        threshold="no parameter in common",
        why="The optimizer was made for another network, or for this one before it was replaced or copied.",
        remedy=f"Make the optimizer last, with the parameters of the network that is trained: `{line}`.",
    )


def _some_missing(evidence: Evidence, missing: Sequence[str]) -> Iterator[Finding]:
    """The finding for some missing parameters, whose severity depends on whether a trial with all of them is better."""
    trial = evidence.trial
    sizes = {name: p.numel() for name, p in trial.replica.model.named_parameters()}
    matrices = [name for name in missing if trial.replica.originals[name].ndim > 1]
    change = Change(prepare=lambda replica: _add(replica, missing))
    try:
        own = evidence.progress
        other = evidence.progress_of(evidence.variant("optimizer of all parameters", change))
    except NoEvidence as reason:
        if isinstance(reason, OutOfTime) or evidence.setup.rivals:
            raise
        # With a loss that may be below zero, for example, progress cannot be measured.
        helps, compared, before = False, "", "They do not look newly initialized."
        trained = not are_untrained(evidence.fresh.model, set(matrices))
    else:
        helps = other.beats(own, _WORTH)
        compared = (
            f"; with them in the optimizer the loss after {several(other.steps, 'step')} is {other} instead of {own}"
        )
        before = "They were trained before: if their values are shuffled, the network learns worse."
        trained = bool(matrices) and _hold_learned_values(evidence, missing)
    share = sum(sizes[name] for name in missing) / max(1, sum(sizes.values()))
    unfrozen = helps and evidence.setup.source is not None and _unfreezes_some(evidence.source)
    trained = trained and not unfrozen
    new = not matrices and not trained and _are_initial_vectors(trial, missing)
    severity = "note" if trained or not (helps or matrices or new) else ("error" if helps else "warning")
    hint = (
        f" {before} To keep them as they are, call `requires_grad_(False)`; that also saves computing their gradients."
        if trained
        else " Each holds one value throughout, as after its creation: nothing has ever trained them."
        if new
        else ""
    )
    yield Finding(
        code="optim.parameters-missing",
        severity=severity,  # type: ignore[arg-type]
        where=listed_names(missing),
        measured=f"{len(missing)} of {several(len(sizes), 'parameter')} ({percent(share, 0)} of all values) get "
        f"gradients, but are in no parameter group of the optimizer and never change{compared}",
        threshold="a gradient in the first step, and no change in the whole trial",
        why=f"They keep the values that they had at the start.{hint}",
        remedy=f"Give the optimizer all parameters, after the network is complete: `{_with_all_parameters(trial)}`.",
    )


def _are_initial_vectors(trial: Trial, missing: Sequence[str]) -> bool:
    """Whether missing biases, scales and the like have their initial values, each a constant, while the optimizer holds
    other vectors of the network. Vectors that are left out on purpose are either trained ones or all vectors."""
    known = trial.replica.originals
    others = any(name in known and known[name].ndim < 2 for name in optimized(trial))
    return others and all(bool((known[name] == known[name].flatten()[:1]).all()) for name in missing)


def _add(replica: Replica, missing: Sequence[str]) -> None:
    added = [p for name, p in replica.model.named_parameters() if name in set(missing)]
    replica.optimizer.param_groups[0]["params"] += added  # no new group, since the user's schedules count groups


def _hold_learned_values(evidence: Evidence, missing: Sequence[str]) -> bool:
    """Whether the network learns worse if the values within missing parameters are shuffled, twice; for random values
    the order does not matter."""
    for seed in (1, 2):
        change = Change(prepare=lambda replica, seed=seed: _mix(replica, missing, seed))  # type: ignore[misc]
        mixed = evidence.variant(f"missing parameters mixed {seed}", change)
        if not evidence.progress.beats(evidence.progress_of(mixed), _LEARNED):
            return False
    return True


def _mix(replica: Replica, missing: Sequence[str], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in replica.model.named_parameters():
            if name in missing and parameter.ndim > 1:
                order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
                parameter.copy_(parameter.reshape(-1)[order].reshape(parameter.shape))


PARAMETERS_MISSING = Check(
    codes=("optim.parameters-missing",),
    run=_find_parameters_missing,
    explains="model.collapsed model.too-small optim.lr-too-low optim.no-step fit.*",
)
