"""`model.frozen-parameters`: are layers frozen that were never trained?"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from difflib import get_close_matches

from torch import Tensor, nn
from torch.optim import Optimizer

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.evaluated.other_networks import untrained_helpers
from striate.doctor.checks.model.heads import python_path
from striate.doctor.checks.model.mode import never_measured
from striate.doctor.checks.model.origins import are_untrained
from striate.doctor.checks.model.variants import gain_text, try_change
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change
from striate.doctor.setup.reached_objects import parameters_held
from striate.doctor.setup.replicas import Replica
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import assigned, called, nodes_in
from striate.records import Finding
from striate.wording import listed_names, percent, several

_CODE = "model.frozen-parameters"
_SHARE = 0.2
"""Share of the weights in use. A fixed first layer of filters is smaller, and often intended."""
_MOST = 0.5
"""From this share on, random features are a mistake, even if a short trial shows no difference."""

_RECURRENT = 8
"""Calls in a step: a backbone runs once, or a few times for several views."""

_SWITCH = "requires_grad"
_ALIKE = 0.9
_OF_A_NETWORK = ("parameters", "named_parameters", "modules", "named_modules", "children", "named_children")

_LIMIT = f"less than {percent(_SHARE, 0)} of the weights frozen, or frozen weights that were trained before"


def _find_frozen_parameters(evidence: Evidence) -> Iterator[Finding]:
    model = evidence.setup.model
    used = {name: p for name, p in model.named_parameters() if name in evidence.graph.used and p.ndim > 1}
    switched = _switched_modules(model)
    if switched:
        yield _switch_without_effect(switched)
        return
    changed = evidence.trial.changed  # such as an average of weights, which needs no gradient
    frozen = {name: p for name, p in used.items() if not p.requires_grad and name not in changed}
    if not frozen or _is_reservoir(evidence, set(frozen)):
        return
    share = sum(p.numel() for p in frozen.values()) / sum(p.numel() for p in used.values())
    if not any(parameter.requires_grad for parameter in model.parameters()):
        yield _finding("error", list(frozen), f"none of {several(len(frozen), 'weight')} requires a gradient", "")
        return
    unmeasured = _unmeasured(evidence)
    if (share < _SHARE and not unmeasured) or not are_untrained(evidence.fresh.model, set(frozen)):
        return
    optimizer = evidence.setup.optimizer
    held = parameters_held(optimizer) if isinstance(optimizer, Optimizer) else None
    declared = held is not None and not any(id(p) in held for p in frozen.values())
    names = set(frozen)
    remedy = try_change(evidence, "unfrozen", Change(prepare=lambda replica: _unfreeze(replica, names)))
    better = remedy is not None and remedy.better
    measured = (
        f"{len(frozen)} of {several(len(used), 'weight')} in use, {percent(share, 0)} of their values, do not require "
        "a gradient and look untrained"
    )
    if better:
        severity = "warning" if declared and not unmeasured else "error"
    else:
        severity = "error" if unmeasured else "warning" if share >= _MOST else "note"
    limit = _LIMIT
    if unmeasured:
        measured += f"; the frozen {listed_names(unmeasured)} use the initial mean 0 and variance 1"
        limit = "no frozen batch norm in evaluation mode with initial statistics, beside untrained frozen weights"
    yield _finding(severity, list(frozen), measured, gain_text(remedy, "with all of them trained"), limit)


def _is_reservoir(evidence: Evidence, frozen: set[str]) -> bool:
    """Whether each pass uses all frozen weights many times, as an echo state network does with its random weights
    (Jaeger 2001), and trains others."""
    times = Counter(name for call in evidence.graph.calls for name in frozen & set(call.parameters))
    return len(times) == len(frozen) and min(times.values()) >= _RECURRENT and len(frozen) < len(evidence.graph.used)


def _unmeasured(evidence: Evidence) -> list[str]:
    """Batch norms that are frozen and in evaluation mode with their initial statistics. They show that random features
    are not intended, even if few weights are frozen."""
    return [
        name
        for name, part in evidence.fresh.model.named_modules()
        if never_measured(part)
        and evidence.first.modes.get(name) is False
        and {p.requires_grad for p in part.parameters()} == {False}
    ]


def _find_untrained_layers(evidence: Evidence) -> Iterator[Finding]:
    findings = [] if evidence.setup.source is None else list(_misspelled_switches(evidence.setup.source))
    findings = findings or list(_find_frozen_parameters(evidence))
    yield from findings
    # Data without targets may get those of a random network on purpose.
    if findings or evidence.setup.source is None or evidence.samples.y is None:
        return
    with_gradients = [id(module) for module in evidence.setup.source.without_optimizer]
    for name, where, numbers in untrained_helpers(evidence):
        if id(evidence.setup.source.names.get(name)) in with_gradients:
            continue  # it should be trained, too: `optim.parameters-missing` reports it
        yield FROZEN_PARAMETERS.finding(
            severity="warning",
            where=where,
            measured=f"each step runs `{name}`, which is not the network that is trained: its "
            f"{several(numbers, 'weight')} look untrained, and nothing in the loop trains them",
            limit="another network in the loop with untrained weights, which nothing trains",
            why="Its outputs are random: a student learns nothing from such a teacher, and such features mean nothing.",
            remedy=f"train `{name}` before, or load its weights: `{name}.load_state_dict(torch.load(...))`; if another "
            "network was trained for this, pass that one.",
        )
        return


def _misspelled_switches(source: ScriptSource) -> Iterator[Finding]:
    """Assignments to attributes that are spelled nearly as `requires_grad`, for any network of the script."""
    read = {node.attr for node in source.nodes(ast.Attribute) if isinstance(node.ctx, ast.Load)}
    read |= {node.name for node in source.nodes(ast.FunctionDef)}  # the user's properties
    for statement in source.nodes(ast.Assign):
        for target, value in assigned(statement):
            if not isinstance(target, ast.Attribute) or target.attr in read or not _is_misspelled(target.attr):
                continue
            if _is_part_of_network(source, target.value):
                yield FROZEN_PARAMETERS.finding(
                    severity="warning",
                    where=f"line {target.lineno}",
                    measured=f"`{ast.unparse(statement)}` sets an attribute `{target.attr}` that nothing reads: that "
                    f"of torch is `{_SWITCH}`",
                    limit=f"no attribute of parameters or modules that is set, never read and spelled nearly as "
                    f"`{_SWITCH}`",
                    why="Python adds the attribute and says nothing: the line neither freezes nor unfreezes anything.",
                    remedy=f"`{ast.unparse(target.value)}.requires_grad_({ast.unparse(value)})`, before you create the "
                    "optimizer.",
                )
                return


def _is_misspelled(name: str) -> bool:
    plain = name.lower().replace("_", "")
    return name != _SWITCH and bool(get_close_matches(plain, ["requiresgrad", "requiresgradient"], 1, _ALIKE))


def _is_part_of_network(source: ScriptSource, node: ast.expr) -> bool:
    """Whether an expression is a tensor or a module, or the variable of a loop over those of a network."""
    if isinstance(source.value(node), Tensor | nn.Module):
        return True
    return any(
        ast.unparse(part) == ast.unparse(node)
        for loop in source.loops_of(node)
        if isinstance(loop, ast.For) and any(called(inner) in _OF_A_NETWORK for inner in ast.walk(loop.iter))
        for part in nodes_in(loop.target, ast.Name)
    )


def _switched_modules(model: nn.Module) -> dict[str, bool]:
    """Modules with an attribute `requires_grad`, which torch does not read, whose parameters do not agree with it."""
    return {
        path: value
        for path, part in model.named_modules()
        if isinstance(value := vars(part).get("requires_grad"), bool)
        and any(parameter.requires_grad is not value for parameter in part.parameters())
    }


def _switch_without_effect(switched: dict[str, bool]) -> Finding:
    path, value = next(iter(switched.items()))
    module = python_path(path, "model") if path else "model"
    return Finding(
        code=_CODE,
        severity="error" if value else "warning",
        where=listed_names(list(switched)),
        measured=f"`{module}.requires_grad = {value}` was set on a module, and its parameters "
        f"{'do not require' if value else 'still require'} a gradient",
        threshold="parameters that agree with the attribute of their module",
        why="nn.Module has no switch of this name: the line sets an attribute that nothing reads.",
        remedy="; ".join(
            f"`{python_path(name, 'model') if name else 'model'}.requires_grad_({on})`" for name, on in switched.items()
        )
        + ", with the underscore, before you create the optimizer.",
    )


def _finding(severity: str, names: list[str], measured: str, gain: str, limit: str = _LIMIT) -> Finding:
    layers = list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
    return Finding(
        code=_CODE,
        severity="error" if severity == "error" else "warning" if severity == "warning" else "note",
        where=listed_names(layers),
        measured=f"{measured}{gain}",
        threshold=limit,
        why="A frozen layer with random weights keeps producing random features.",
        remedy=f"`for p in {python_path(layers[0], 'model')}.parameters(): p.requires_grad_(True)` before you create "
        "the optimizer; or load trained weights into the frozen layers.",
    )


def _unfreeze(replica: Replica, names: set[str]) -> None:
    known = parameters_held(replica.optimizer)
    fresh = []
    for name, parameter in replica.model.named_parameters():
        if name in names:
            parameter.requires_grad_(True)
            if id(parameter) not in known:
                fresh.append(parameter)
    if fresh:
        replica.optimizer.add_param_group({"params": fresh})


FROZEN_PARAMETERS = Check(
    codes=(_CODE,),
    run=_find_untrained_layers,
    quick=False,
    explains=(
        "model.mode model.collapsed model.redundant-filters model.vanishing-gradient optim.lr-too-low optim.no-step "
        "optim.parameters-missing fit.*"
    ),
)
