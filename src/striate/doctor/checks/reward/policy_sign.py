"""`loss.sign` of policies: does the loss grow with the log probability of rewarded actions?"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called, is_operation, last_name
from striate.records import Finding

LOG_PROBABILITY = re.compile(
    r"^(saved_|action_|new_|chosen_)?log_?p(rob(s|abilit(y|ies))?|s|i)?(_a(ctions?)?)?$|^logp|ratio"
)
"""Names of log probabilities, and of the ratio to the probability when the action was chosen (Schulman et al. 2017)."""
GAIN = re.compile(r"return|reward|adv|^[RG]$|^gae|^td|delta|discounted|^ret(s)?$")
_COST = re.compile(r"cost")
_KEEPS = frozenset(
    ["mean", "sum", "stack", "cat", "append", "tensor", "squeeze", "view", "reshape", "flatten", "to", "min", "minimum",
     "max", "maximum"]
)  # fmt: skip
_DEEPEST = 6


def _run(evidence: Evidence) -> Iterator[Finding]:
    source = evidence.source
    nodes = list(source.nodes())
    if any(isinstance(n, ast.keyword) and n.arg == "maximize" for n in nodes):
        return
    # A negated log probability without gradient is only logged.
    if any(_negated(n) and not source.without_gradient(n) for n in nodes):
        return
    for node in nodes:
        if not is_operation(node, ast.Mult):
            continue
        if _is(node.left, LOG_PROBABILITY) + _is(node.right, LOG_PROBABILITY) != 1:
            continue
        gain = node.right if _is(node.left, LOG_PROBABILITY) else node.left
        if _is(gain, GAIN) and not _is(gain, _COST) and _sign_in_loss(source, node, _DEEPEST) == 1:
            yield POLICY_SIGN.finding(
                severity="error",
                where=f"line {node.lineno}",
                measured=f"`{ast.unparse(node)}` is minimized as it is: actions become less likely, the more reward "
                "they bring",
                why="The policy learns to avoid rewarded actions.",
                remedy=f"`-({ast.unparse(node)})`",
            )
            return


def _negated(node: ast.AST) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and _is(node.operand, LOG_PROBABILITY)


def _is(node: ast.AST, pattern: re.Pattern[str]) -> bool:
    """Whether the name of a variable, of which an element may be taken or a method called, matches a pattern."""
    while True:
        if isinstance(node, ast.Name | ast.Attribute):
            return bool(pattern.search(last_name(node)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if pattern.search(node.func.attr):
                return True
            outer = isinstance(node.func.value, ast.Name) and node.func.value.id in ("torch", "F")
            node = node.args[0] if outer and node.args else node.func.value
        elif isinstance(node, ast.Subscript):
            node = node.value
        else:
            return False


def _sign_in_loss(source: ScriptSource, node: ast.AST, depth: int) -> int:
    """1 if the loss that goes backward grows with an expression, -1 if it falls, 0 if the code does not show it."""
    sign = 1
    for outer in source.enclosing(node):
        if isinstance(outer, ast.UnaryOp) and isinstance(outer.op, ast.USub):
            sign = -sign
        elif isinstance(outer, ast.BinOp):
            factor = _sign_of_side(outer, node)
            if not factor:
                return 0
            sign *= factor
        elif isinstance(outer, ast.Call):
            if called(outer) == "backward":
                return sign
            if called(outer) not in _KEEPS:
                return 0
            if called(outer) == "append" and isinstance(outer.func, ast.Attribute):
                return sign * _sign_of_name(source, node, ast.unparse(outer.func.value), depth)
        elif isinstance(outer, ast.Assign):
            return sign * _sign_of_name(source, node, ast.unparse(outer.targets[0]), depth)
        elif isinstance(outer, ast.AugAssign) and isinstance(outer.op, ast.Add | ast.Sub):
            sign = sign if isinstance(outer.op, ast.Add) else -sign
            return sign * _sign_of_name(source, node, ast.unparse(outer.target), depth)
        elif not isinstance(outer, ast.Attribute | ast.List | ast.ListComp | ast.GeneratorExp):
            return 0
        node = outer
    return 0


def goes_backward(source: ScriptSource, node: ast.AST) -> bool:
    """Whether the code shows that the loss that goes backward grows or falls with an expression."""
    return _sign_in_loss(source, node, _DEEPEST) != 0


def _sign_of_side(outer: ast.BinOp, node: ast.AST) -> int:
    """1 if the result of an operation grows with one of its sides, -1 if it falls, 0 if the code does not show it."""
    if isinstance(outer.op, ast.Add):
        return 1
    if isinstance(outer.op, ast.Sub):
        return 1 if outer.left is node else -1
    other = outer.right if outer.left is node else outer.left
    if isinstance(outer.op, ast.Mult | ast.Div):
        return -1 if isinstance(other, ast.UnaryOp) and isinstance(other.op, ast.USub) else 1
    return 0


def _sign_of_name(source: ScriptSource, node: ast.AST, name: str, depth: int) -> int:
    """`_sign_in_loss` of a variable, by its first later use in the same function that shows it."""
    for use in ast.walk(source.scope_of(node)) if depth else ():
        if not isinstance(use, ast.Name | ast.Attribute) or not isinstance(use.ctx, ast.Load):
            continue
        if use.lineno >= getattr(node, "lineno", 0) and ast.unparse(use) == name:
            sign = _sign_in_loss(source, use, depth - 1)
            if sign:
                return sign
    return 0


POLICY_SIGN = Check(
    codes=("loss.sign",),
    threshold="a product of log probabilities and returns, rewards or advantages goes backward without a minus sign",
    run=_run,
    of_source=True,  # also of bandits, whose script plays no environment
)
