"""`data.shift` in the code: are scalers, encoders and vocabularies fitted again to validation?"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import takewhile

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource, Site
from striate.doctor.setup.syntax import assigned, called, nodes_in, receiver_of
from striate.records import Finding

_OTHERS = frozenset(("val", "valid", "validation", "test", "tst", "dev", "holdout"))
_TRAINING = frozenset(("train", "trn", "tr", "training", "fit"))
_VOCABULARY = re.compile(
    r"vocab|(?<!un)tokenizer|label_?encod|word_?index|dictionary|(fit|build|make|learn|number)_\w*(categor|mapping|encod|codes"
    r"|scal|standard|normali)",
    re.IGNORECASE,
)
_OF_WORDS = re.compile(r"vocab|word_?index|dictionary", re.IGNORECASE)
_SORTING = ("sorted", "sort", "unique")
_LABELS = re.compile(r"binari[sz]|label|target|class|(?<![a-z])tags?(?![a-z])|(^|\.)y_|(^|\.)le$", re.IGNORECASE)
_IN_ORDER_OF_APPEARANCE = ("factorize",)
"""Functions of pandas that number names in order of appearance."""
_CHOOSING = (ast.If, ast.IfExp, ast.BoolOp, ast.ExceptHandler)
_PICTURES = ("tsne", "umap", "mds")
"""Methods that are fitted for plots."""
_REDUCING = ("pca", "svd", "isomap")
"""Methods that are fitted for plots where they are fitted once."""


def _run(evidence: Evidence) -> Iterator[Finding]:
    source = evidence.source
    for site in source.calls("fit_transform"):
        owner = receiver_of(site.node)
        if owner is None or not site.node.args or _is_for_a_plot(source, owner):
            continue
        words = _words(ast.unparse(site.node.args[0]))
        if not words & (_OTHERS | _TRAINING):
            words = _words(" ".join(_assigned_names(source, site)))
        parts = _splits_of_loop(source, site)
        if (words & _OTHERS and not words & _TRAINING) or parts:
            yield _finding(
                site,
                f"is fitted again to {parts or 'other data than training'}, so equal values become other numbers "
                "than in training",
                f"`{ast.unparse(owner)}.fit(train)` once, and `{ast.unparse(owner)}.transform(…)` for all parts",
                "`fit_transform` of a variable that is named for validation or test, or in a loop over the parts",
                labels=bool(_LABELS.search(ast.unparse(owner))),
            )
            return
    yield from _built_again(evidence, source)


def _is_for_a_plot(source: ScriptSource, owner: ast.expr) -> bool:
    """Whether an object is named, or made by a class that is named, for a method that plots are drawn with."""
    made = (value for line in source.nodes(ast.Assign) for target, value in assigned(line) if _same(target, owner))
    text = " ".join(map(ast.unparse, (owner, *made))).lower()
    fits = [one for site in source.calls("fit", "fit_transform") if (one := receiver_of(site.node)) is not None]
    once = sum(_same(one, owner) for one in fits) == 1
    return any(name in text for name in (*_PICTURES, *(_REDUCING if once else ())))


def _same(one: ast.AST, other: ast.AST) -> bool:
    return ast.unparse(one) == ast.unparse(other)


def _built_again(evidence: Evidence, source: ScriptSource) -> Iterator[Finding]:
    """A vocabulary or similar object that the same function builds from training data, and again from validation
    data."""
    sites: dict[str, list[tuple[Site, set[str]]]] = {}
    for site in source.calls(*_builders(source), *_IN_ORDER_OF_APPEARANCE):
        name = called(site.node)
        if name not in _IN_ORDER_OF_APPEARANCE or not _is_sorted(site.node):
            sites.setdefault(name, []).extend((site, _words(text)) for text in _numbered(source, site))
    for name, calls in sites.items():
        again = [(site, words) for site, words in calls if words & _OTHERS and not words & _TRAINING]
        if again and any(words and not words & _OTHERS for _, words in calls):
            site, words = again[0]
            named = any(map(_LABELS.search, (name, *words)))
            yield _finding(
                site,
                "is built again from other data than training, so equal values become other numbers than in training",
                f"`{name}(…)` once, for training, and its result for all parts",
                "a function that builds a vocabulary from one variable, and again from one that is named for "
                "validation or test",
                labels=_are_labels(evidence, source, site) if name in _IN_ORDER_OF_APPEARANCE else named,
            )
            return


def _numbered(source: ScriptSource, site: Site) -> list[str]:
    """The texts of the expressions that a call numbers: its first argument, or the column whose method it is. If that
    is a parameter of the function around it, the arguments in calls of that function."""
    call = site.node
    in_order = called(call) in _IN_ORDER_OF_APPEARANCE
    numbered = call.args[0] if call.args else receiver_of(call) if in_order else None
    if numbered is None:
        return []
    own = ast.unparse(numbered)
    clear = _words(own) & (_OTHERS | _TRAINING) or not _OF_WORDS.search(called(call)) or _sorts(source, called(call))
    return ([] if clear and not in_order else list(_given_by_callers(source, call, numbered, in_order))) or [own]


def _given_by_callers(source: ScriptSource, call: ast.Call, numbered: ast.expr, in_order: bool) -> Iterator[str]:
    function = source.function_of(call)
    inside = list(takewhile(lambda part: part is not function, source.enclosing(call)))
    statement = next((part for part in inside if isinstance(part, ast.stmt)), call)
    chosen = any(isinstance(part, _CHOOSING) for part in inside)  # only if no codes exist yet
    if function is None or chosen or (in_order and not _LABELS.search(ast.unparse(statement))):
        return
    if not in_order and (_ends_before(function, call) or _only_size_used(function, statement)):
        return
    while isinstance(numbered, ast.Attribute | ast.Subscript):
        numbered = numbered.value
    parameters = [part.arg for part in function.args.args]
    for other in source.calls_of(function) if ast.unparse(numbered) in parameters else ():
        starred = [given.value for given in other.node.args if isinstance(given, ast.Starred)]
        given = [value for name, value in source.arguments(function, other.node) if name == ast.unparse(numbered)]
        for value in given or starred[:1]:
            yield from _each_of(source, value)


def _sorts(source: ScriptSource, name: str) -> bool:
    """Whether the function or class sorts: then all splits with the same classes have the same order."""
    made = (node for node in source.nodes() if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name)
    return any(called(part) in _SORTING for part in nodes_in(made, ast.Call))


def _ends_before(function: ast.AST, call: ast.Call) -> bool:
    """Whether a function may return before a call, such as if it gets a vocabulary."""
    return any(part.lineno < call.lineno for part in nodes_in(function, ast.Return))


def _only_size_used(function: ast.AST, statement: ast.AST) -> bool:
    """Whether only the length of the assigned variables is used, such as to print it."""
    names = {ast.unparse(target) for target in getattr(statement, "targets", [])}
    nodes = list(ast.walk(function))
    sized = [part.args[0] for part in nodes if isinstance(part, ast.Call) and called(part) == "len" and part.args]
    used = [
        part for part in nodes if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load) and part.id in names
    ]
    return bool(used) and all(part in sized for part in used)


def _each_of(source: ScriptSource, value: ast.expr) -> Iterator[str]:
    """The text of a value; for the variable of a loop such as `for part in (train, val)`, the text of each element."""
    for around in source.enclosing(value):
        for each in [around, *getattr(around, "generators", [])]:
            over = getattr(each, "iter", None)
            if isinstance(over, ast.List | ast.Tuple) and ast.unparse(each.target) == ast.unparse(value):
                yield from map(ast.unparse, over.elts)
                return
    yield ast.unparse(value)


def _is_sorted(call: ast.Call) -> bool:
    """Whether the call sorts names, so that both splits have the same order."""
    return any(word.arg == "sort" for word in call.keywords)


def _are_labels(evidence: Evidence, source: ScriptSource, site: Site) -> bool:
    """Whether a numbered column holds the labels: by its name, or because inputs are not a table."""
    with suppress(NoEvidence):
        if evidence.samples.inputs.ndim > 2:
            return True
    words = (part.arg or "" for part in source.enclosing(site.node, ast.keyword))
    statement = next(source.enclosing(site.node, ast.Assign), None)
    named = [*words, *([] if statement is None else map(ast.unparse, statement.targets))]
    return any(map(_LABELS.search, named))


def _assigned_names(source: ScriptSource, site: Site) -> list[str]:
    """The names that the result of a call is assigned to."""
    statement = source.parent(site.node)
    return [ast.unparse(target) for target in statement.targets] if isinstance(statement, ast.Assign) else []


def _finding(site: Site, does: str, remedy: str, limit: str, *, labels: bool = False) -> Finding:
    return FITTED_AGAIN.finding(
        code="data.label-map" if labels else "data.shift",
        severity="error",
        where=site.where,
        measured=f"`{site.text}` {does}",
        limit=limit,
        why="Validation data differ from what the network learned: the validation metrics do not measure what it "
        "learned.",
        remedy=remedy,
    )


def _builders(source: ScriptSource) -> list[str]:
    """The script's functions and classes whose names say that they number words or categories, or scale."""
    return [
        node.name
        for node in source.nodes()
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and _VOCABULARY.search(node.name)
    ]


def _splits_of_loop(source: ScriptSource, site: Site) -> str:
    """The names of splits that a loop around the call iterates over, in words; empty if there is no such loop."""
    for loop in source.loops_of(site.node):
        if not isinstance(loop, ast.For):
            continue
        over = loop.iter
        if isinstance(over, ast.Call) and isinstance(over.func, ast.Attribute) and not over.args:
            over = over.func.value  # `.items()`
        values = source.value(over)
        names = [name for name in values if isinstance(name, str)] if isinstance(values, dict | list | tuple) else []
        words = [_words(name) for name in names]
        if any(word & _TRAINING for word in words) and any(word & _OTHERS for word in words):
            return "each of " + ", ".join(names)
    return ""


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


FITTED_AGAIN = Check(
    codes=("data.shift", "data.label-map"),
    run=_run,
    of_source=True,
    explains={"data.shift": "fit.* data.label-map", "data.label-map": "fit.* data.shift"},
)
