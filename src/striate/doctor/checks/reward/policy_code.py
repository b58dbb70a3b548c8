"""Mistakes in the code of policies: log probabilities without a gradient, probabilities passed as logits, and a
learning rate at which a policy forgets what it learned."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TypeGuard

import torch
from torch import optim

from striate.doctor.checks.check import Check
from striate.doctor.checks.reward.policy_sign import GAIN, LOG_PROBABILITY, goes_backward
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.reached_objects import reached_optimizers
from striate.doctor.setup.reward_code import name_or_key, network_called, origins
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called, is_operation, nodes_in, receiver_of, says_no_gradient
from striate.records import Finding

_CUT = ("detach", "item", "tolist", "numpy")
_DISTRIBUTIONS = ("Categorical", "OneHotCategorical", "Multinomial", "Bernoulli")
_SHAPED = ("reshape", "view", "flatten", "squeeze", "to", "float")
_SQUASHED = ("softmax", "sigmoid")
_RATE = 0.05
_BY_THE_RATE = (optim.Adam, optim.AdamW, optim.NAdam, optim.RAdam, optim.Adamax, optim.RMSprop)
"""Optimizers whose steps are about as long as the learning rate, whatever the gradient is."""


def _run(evidence: Evidence) -> Iterator[Finding]:
    source = evidence.source
    findings = list(_without_gradient(source)) or list(_recorded_without_gradient(source))
    findings = findings or list(_squashed_twice(source))
    yield from findings or _rate(evidence)


def _without_gradient(source: ScriptSource) -> Iterator[Finding]:
    """A script that detaches all log probabilities of actions, although a loss goes backward."""
    calls = [site for site in source.calls("log_prob") if receiver_of(site.node) is not None]
    cut = [site for site in calls if _is_cut(source, site.node)]
    if not calls or len(cut) < len(calls) or not source.calls("backward"):
        return
    outer = source.parent(source.parent(cut[0].node) or cut[0].node)
    text = ast.unparse(outer) if isinstance(outer, ast.Call) else cut[0].text
    yield POLICY_CODE.finding(
        code="model.graph-detached",
        severity="error",
        where=cut[0].where,
        measured=f"`{text}`: no log probability of the script keeps its graph",
        limit="no log probability of the script keeps its graph",
        why="The rewards of an action cannot reach the weights that chose it: the policy never changes.",
        remedy=f"use `{cut[0].text}` without detaching it in the loss; detach only what an older policy gave",
    )


def _is_cut(source: ScriptSource, call: ast.Call) -> bool:
    outer = source.parent(call)
    return isinstance(outer, ast.Attribute) and outer.attr in (*_CUT, "data")


def _recorded_without_gradient(source: ScriptSource) -> Iterator[Finding]:
    """A product of log probabilities and rewards or returns that has no gradient at the first step, and gets none from
    any line of its function."""
    products = [node for node in source.nodes() if _is_product(node)]
    for node in products:
        outer = source.parent(node)
        if (
            (outer is not None and _is_product(outer))
            or source.without_gradient(node)
            or not goes_backward(source, node)
        ):
            continue
        parts = [part for part in ast.walk(node) if isinstance(part, ast.Name | ast.Attribute | ast.Subscript)]
        tensors = [value for part in parts if isinstance(value := source.value(part), torch.Tensor)]
        logs = [part for part in parts if LOG_PROBABILITY.search(name_or_key(part))]
        values = [source.value(part) for part in logs]
        if not values or not all(isinstance(value, torch.Tensor) and value.is_floating_point() for value in values):
            continue
        if not any(GAIN.search(name_or_key(part)) for part in parts) or any(value.requires_grad for value in tensors):
            continue
        others: list[ast.expr] = list(nodes_in(node, ast.Call))
        others += [part for part in parts if not GAIN.search(name_or_key(part))]
        sources = (origin for part in others for origin in (part, *origins(source.scope_of(node), part)))
        if not all(_is_recorded(source, part) for part in logs) and any(
            _may_have_gradient(source, origin) for origin in sources
        ):
            continue
        yield POLICY_CODE.finding(
            code="model.graph-detached",
            severity="error",
            where=f"line {node.lineno}",
            measured=f"`{ast.unparse(logs[0])}` in `{ast.unparse(node)}` has no gradient: it was recorded without one",
            limit="no log probability of a loss keeps its graph",
            why="The rewards of an action cannot reach the weights that chose it: the policy never changes.",
            remedy="compute `log_prob = distribution.log_prob(actions)` from the network's current outputs for the "
            "recorded observations, outside of torch.no_grad()",
        )
        return


def _is_recorded(source: ScriptSource, part: ast.expr) -> bool:
    """Whether a variable is another tensor without a gradient, in another shape: `buffer.reshape(-1)`."""
    base = source.last_value(part, ast.unparse(part))
    while isinstance(base, ast.Call) and called(base) in _SHAPED and receiver_of(base) is not None:
        base = receiver_of(base)
    value = source.value(base) if isinstance(base, ast.Name | ast.Attribute | ast.Subscript) else None
    is_other = base is not None and ast.unparse(base) != ast.unparse(part)
    return is_other and isinstance(value, torch.Tensor) and not value.requires_grad


def _is_product(node: ast.AST) -> TypeGuard[ast.BinOp]:
    return is_operation(node, ast.Mult)


def _may_have_gradient(source: ScriptSource, part: ast.AST) -> bool:
    """Whether the result of a call may have a graph: of a network, of a distribution, or of a function of the
    script."""
    if not isinstance(part, ast.Call) or source.without_gradient(part):
        return False
    functions = source.functions_of(part)
    known = functions and all(says_no_gradient(function.decorator_list) for function in functions)
    return not known and (
        bool(functions)
        or called(part) in ("log_prob", *_DISTRIBUTIONS)
        or source.runs_network(part)
        or network_called(source, part) is not None
    )


def _squashed_twice(source: ScriptSource) -> Iterator[Finding]:
    """`Categorical(logits=…)` of the output of a softmax."""
    for site in source.calls(*_DISTRIBUTIONS):
        for word in site.node.keywords:
            logits = word.value if word.arg == "logits" else None
            if isinstance(logits, ast.Name):
                logits = source.last_value(site.node, logits.id)
            if logits is None or called(logits) not in _SQUASHED:
                continue
            yield POLICY_CODE.finding(
                code="model.double-softmax",
                severity="error",
                where=site.where,
                measured=f"`{site.text}` takes the result of `{called(logits)}` as logits",
                limit="a distribution whose logits come from a softmax",
                why="After a second softmax, probabilities differ by a factor of e at most: the policy is never sure.",
                remedy=f"`{called(site.node)}(logits=…)` of the unnormalized scores, or `{called(site.node)}(probs=…)`",
            )
            return


def _rate(evidence: Evidence) -> Iterator[Finding]:
    """A high rate of Adam or a similar optimizer, in a script whose steps cannot be repeated."""
    if evidence.setup.train != [] or not evidence.source.calls("log_prob", "gather"):
        return
    for optimizer in reached_optimizers(evidence.source.names):
        rate = max(float(group["lr"]) for group in optimizer.param_groups)
        if isinstance(optimizer, _BY_THE_RATE) and rate >= _RATE:
            yield POLICY_CODE.finding(
                code="optim.lr-too-high",
                severity="warning",
                where="the optimizer",
                measured=f"{type(optimizer).__name__} has a rate of {rate:g}, and moves each weight by about that "
                "much in each step",
                limit=f"a rate of {_RATE:g} or more with Adam",
                why="Weights are of a size of about 0.1: a few such steps change them completely, units saturate, "
                "and the policy takes the same action whatever it sees.",
                remedy="a rate of 0.0003 to 0.003: `for group in optimizer.param_groups: group['lr'] = 3e-4`",
            )
            return


POLICY_CODE = Check(
    codes=("model.graph-detached", "model.double-softmax", "optim.lr-too-high"),
    run=_run,
    of_source=True,
)
