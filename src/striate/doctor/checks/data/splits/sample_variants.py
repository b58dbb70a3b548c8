"""Lists of several variants of each sample in code: `[change(x) for x in images for _ in range(2)]`."""

from __future__ import annotations

import ast

from striate.doctor.setup.script_source import Function, ScriptSource
from striate.doctor.setup.syntax import argument, called, names_in, nodes_in, receiver_of

_MOST = 10
"""The most variants of a sample; a prototype of a class, from which all its samples are generated, has more."""
_REPEATED, _MODULES = ("repeat", "repeat_interleave"), ("np", "numpy", "torch")


def are_sample_variants(made: ast.expr, line: ast.Assign, source: ScriptSource) -> bool:
    """Whether a list, or an array made from one, contains several variants of each sample with their labels: the labels
    are repeated as often in the same function, or paired with the variants."""
    found = next(nodes_in(made, ast.ListComp), None)
    if found is None or len(found.generators) != 2 or any(part.ifs for part in found.generators):
        return False
    samples, again = found.generators
    names, counted = names_in(samples.target), names_in(again.target)
    times = argument(again.iter, 0, "") if isinstance(again.iter, ast.Call) and called(again.iter) == "range" else None
    count = source.value(times)
    if type(count) is not int or not 1 < count <= _MOST or counted & names_in(found.elt):
        return False
    if called(samples.iter) == "zip":
        return _has_label(found.elt, names)
    changed = isinstance(found.elt, ast.Call) and bool(names & names_in(found.elt))
    return changed and any(
        _are_of_same(samples.iter, labels, line, source) for labels in _repeated(line, source, ast.unparse(again.iter))
    )


def _has_label(sample: ast.expr, names: set[str]) -> bool:
    """Whether `sample` is a pair of a computed value and an unchanged variable, such as a variant and its label."""
    pair = sample.elts if isinstance(sample, ast.Tuple) else []
    plain = {part.id for part in pair if isinstance(part, ast.Name)}
    computed = [part for part in pair if isinstance(part, ast.Call)]
    return bool(plain & names) and any((names - plain) & names_in(part) for part in computed)


def _repeated(line: ast.Assign, source: ScriptSource, over: str) -> list[ast.expr]:
    """The expressions that the function around a line repeats as often as the range `over`."""
    found, scope = list[ast.expr](), source.scope_of(line)
    for part in ast.walk(scope):
        if isinstance(part, ast.ListComp) and len(part.generators) == 2 and isinstance(part.elt, ast.Name):
            own, again = part.generators
            if ast.unparse(again.iter) == over and part.elt.id in names_in(own.target):
                found.append(own.iter)
        if isinstance(part, ast.Call) and called(part) in _REPEATED:
            owner = receiver_of(part)
            of_module = isinstance(owner, ast.Name) and owner.id in _MODULES
            given = part.args if owner is None or of_module else [owner, *part.args]
            if len(given) > 1 and f"range({ast.unparse(given[1])})" == over:
                found.append(given[0])
    return found


def _are_of_same(samples: ast.expr, labels: ast.expr, line: ast.Assign, source: ScriptSource) -> bool:
    """Whether samples and labels are attributes or entries of one object, variables assigned by one statement, or
    parameters of one function."""
    if isinstance(samples, ast.Attribute | ast.Subscript) and isinstance(labels, ast.Attribute | ast.Subscript):
        return ast.unparse(samples.value) == ast.unparse(labels.value)
    if not isinstance(samples, ast.Name) or not isinstance(labels, ast.Name) or samples.id == labels.id:
        return False
    scope, both = source.scope_of(line), {samples.id, labels.id}
    if isinstance(scope, Function) and both <= {part.arg for part in scope.args.args}:
        return True
    given = (part for part in nodes_in(scope, ast.Assign) if isinstance(part.value, ast.Call))
    return any(both <= names_in(target) for part in given for target in part.targets)
