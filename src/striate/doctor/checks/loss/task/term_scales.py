"""`loss.wrong-for-task` of variational autoencoders: a mean over pixels is added to a sum over codes."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import Function, ScriptSource
from striate.doctor.setup.syntax import assigned, called, defaults_of, is_operation, nodes_in
from striate.records import Finding

_RECONSTRUCTION = ("mse_loss", "l1_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits")
_FEWEST, _WEIGHT = 64, 0.5


def _run(evidence: Evidence) -> Iterator[Finding]:
    pixels = evidence.train.inputs[0].numel()
    for function in evidence.source.nodes(ast.FunctionDef) if pixels >= _FEWEST else ():
        mean, total = _mean_of(evidence.source, function), _sum_of(evidence.source, function)
        if mean is None or total is None or _is_weighed(evidence.source, function, total):
            continue
        yield TERM_SCALES.finding(
            severity="warning",
            where=f"line {mean.lineno}",
            measured=f"`{ast.unparse(mean)}` is a mean over samples and their {pixels} values, but the divergence "
            f"in line {total.lineno} is a sum",
            why="The divergence outweighs the reconstruction: all codes become the same, and every output becomes "
            "the mean of the data.",
            remedy="sum both over the values of a sample: `reduction='sum'`, and divide both by `len(x)`",
        )
        return


def _mean_of(source: ScriptSource, function: Function) -> ast.Call | None:
    """A reconstruction loss that is the mean over all elements, and is not multiplied by anything."""
    for node in nodes_in(function, ast.Call):
        if called(node) not in _RECONSTRUCTION or _is_multiplied(source, node):
            continue
        if any(_is_in_logarithm(source, part) for part in (node, *_names_of(function, node))):
            continue
        options = {word.arg: source.value(word.value) for word in node.keywords}
        if options.get("reduction", "mean") == "mean" and "weight" not in options:
            return node
    return None


def _sum_of(source: ScriptSource, function: Function) -> ast.Call | None:
    """The divergence `torch.sum(1 + logvar - mu.pow(2) - logvar.exp())`, a sum over codes; over samples it may be a sum
    or a mean."""
    for node in nodes_in(function, ast.Call):
        if called(node) != "sum":
            continue
        text = ast.unparse(node)
        summed = "exp" in text and "1 +" in text
        outer = source.parent(node)
        while isinstance(outer, ast.BinOp | ast.UnaryOp):
            below = ast.unparse(outer.right) if is_operation(outer, ast.Div) else ""
            summed = summed and "numel" not in below and "*" not in below
            outer = source.parent(outer)
        if summed and "log" in text:
            return node
    return None


def _is_multiplied(source: ScriptSource, node: ast.AST) -> bool:
    outer = source.parent(node)
    return is_operation(outer, ast.Mult)


def _names_of(function: Function, node: ast.expr) -> list[ast.Name]:
    """Where a function reads the variables to which it assigns this value."""
    names = {ast.unparse(to) for part in ast.walk(function) for to, value in assigned(part) if value is node}
    return [part for part in nodes_in(function, ast.Name) if part.id in names]


def _is_in_logarithm(source: ScriptSource, node: ast.AST) -> bool:
    """Whether the logarithm of a value is taken, as in a likelihood whose variance is the error itself. A call of
    `self.log("loss", x)` is no logarithm."""
    outer = [part for part in source.enclosing(node, ast.Call) if called(part) == "log"]
    return any(ast.unparse(part.func) in ("torch.log", "math.log") or not part.args for part in outer)


def _is_weighed(source: ScriptSource, function: Function, total: ast.Call) -> bool:
    """Whether the divergence has a weight that makes up for its scale, or an unknown one."""
    inner: ast.AST = total
    for part in source.enclosing(total):
        if is_operation(part, ast.Mult):
            other = part.left if part.right is inner else part.right
            weight = _weight(source, other)
            if weight is None or (abs(weight) < _WEIGHT):  # the formula of the divergence has a factor of 0.5
                return True
        elif isinstance(part, ast.stmt):
            break
        inner = part
    names = {
        ast.unparse(target)
        for node in nodes_in(function, ast.Assign)
        if any(part is total for part in ast.walk(node.value))
        for target in node.targets
    }
    for node in source.nodes(ast.BinOp):
        if not isinstance(node.op, ast.Mult):
            continue
        for one, other in ((node.left, node.right), (node.right, node.left)):
            if ast.unparse(one) in names and ((weight := _weight(source, other)) is None or weight < _WEIGHT):
                return True
    return False


def _weight(source: ScriptSource, node: ast.expr) -> float | None:
    """The value of a factor, or its final value if it grows from epoch to epoch, as `min(1.0, epoch / 10)` does; None
    if unknown."""
    assigned_value = source.last_value(node, node.id) if isinstance(node, ast.Name) else None
    known = source.value(assigned_value if isinstance(assigned_value, ast.Constant) else node)
    end = _ramp_end(source, node)  # first, since a ramp has a value at the first step
    if end is None and isinstance(known, int | float):
        return float(known)
    return _by_default(source, node) if end is None else end


def _by_default(source: ScriptSource, weight: ast.expr) -> float | None:
    """The default of a function's parameter; None if it has none."""
    function = source.function_of(weight)
    if not isinstance(function, ast.FunctionDef) or not isinstance(weight, ast.Name):
        return None
    value = source.value(defaults_of(function).get(weight.id))
    return float(value) if isinstance(value, int | float) else None


def _ramp_end(source: ScriptSource, weight: ast.expr) -> float | None:
    """The highest value of `min(1.0, epoch / 10)`, where a variable is assigned that, or what a function of the user's
    returns that ends so; None for other weights."""
    given: list[ast.expr] = [weight] if isinstance(weight, ast.Call) else []
    if isinstance(weight, ast.Name):
        given = [
            node.value
            for node in source.nodes(ast.Assign)
            if any(weight.id == getattr(target, "attr", getattr(target, "id", "")) for target in node.targets)
        ]
    for value in given:
        inner = source.functions_of(value) if isinstance(value, ast.Call) else []
        returned = [last.value for function in inner if isinstance(last := function.body[-1], ast.Return)]
        for ramp in (value, *returned):
            if isinstance(ramp, ast.Call) and called(ramp) == "min":
                ends = [source.value(part) for part in ramp.args if isinstance(part, ast.Constant | ast.Attribute)]
                return max((float(end) for end in ends if isinstance(end, int | float)), default=None)
    return None


TERM_SCALES = Check(
    codes=("loss.wrong-for-task",),
    threshold=f"a mean over {_FEWEST} or more values per sample, added to a divergence that is a sum and has a weight "
    f"of {_WEIGHT:g} or more",
    run=_run,
    of_source=True,
    explains="model.collapsed fit.*",
)
