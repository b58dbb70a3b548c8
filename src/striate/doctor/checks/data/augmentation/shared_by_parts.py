"""`data.augmentation` in the code: do parts of one data set get its transform changed for all of them?"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import assigned, called, is_constant
from striate.records import Finding

_TRANSFORM = re.compile(r"transform|augment|(^|_)(tfms?|aug|is_train|train|training|mode)($|_)", re.IGNORECASE)
_AUGMENTING = re.compile(r"train|aug|random|flip|crop|jitter", re.IGNORECASE)
_TRAINING = re.compile(r"train|(^|_)tr(n)?(_|$)", re.IGNORECASE)
_PARTS = ("random_split", "Subset")


def _run(evidence: Evidence) -> Iterator[Finding]:
    source = evidence.source
    for whole, names in _parts(source).items():
        changes = list(_changes(source, names))
        if not changes or len(names) < 2:
            continue
        statement, part, value = changes[-1]  # the last one is in force
        of_training = bool(_TRAINING.search(part))
        other = next((name for name in names if bool(_TRAINING.search(name)) is not of_training), None)
        if other is None or not (_augments(value) if of_training else _replaces(source, whole, changes)):
            continue
        yield SHARED_BY_PARTS.finding(
            severity="warning",
            where=source.where(statement),
            measured=f"`{ast.unparse(statement)}` changes `{other}` too: both are parts of one data set, "
            f"`{part}.dataset` is `{other}.dataset`",
            why="Validation is augmented as training is: its metrics are lower than those of the network, and vary."
            if of_training
            else "Training is no longer augmented: the network overfits sooner.",
            remedy="give each part a data set of its own: `import copy`, and "
            f"`{part}.dataset = copy.copy({part}.dataset)` before this line",
        )
        return


def _parts(source: ScriptSource) -> dict[str, list[str]]:
    """The variables that are parts of a data set, by the call, or the data set, that they are made of."""
    found: dict[str, list[str]] = {}
    for node in source.nodes(ast.Assign):
        if called(node.value) not in _PARTS or not isinstance(node.value, ast.Call) or not node.value.args:
            continue
        targets = [part for target in node.targets for part in getattr(target, "elts", [target])]
        found.setdefault(ast.unparse(node.value.args[0]), []).extend(map(ast.unparse, targets))
    return found


def _changes(source: ScriptSource, names: list[str]) -> Iterator[tuple[ast.stmt, str, ast.expr]]:
    """Assignments to an attribute of the data set of a part, `val.dataset.transform = plain`, in the order of lines;
    none if a part was given a data set of its own."""
    found: list[tuple[ast.stmt, str, ast.expr]] = []
    for node in source.nodes(ast.Assign):
        for target, value in assigned(node):
            if not isinstance(target, ast.Attribute):
                continue
            owner = ast.unparse(target.value)
            if target.attr == "dataset" and owner in names:
                return
            part = owner.removesuffix(".dataset")
            if owner != part and part in names and _TRANSFORM.search(target.attr):
                found.append((node, part, value))
    yield from sorted(found, key=lambda change: change[0].lineno)


def _augments(value: ast.expr) -> bool:
    """Whether an assigned value says by its names that it is for training."""
    return bool(_AUGMENTING.search(ast.unparse(value))) or is_constant(value, True)


def _replaces(source: ScriptSource, whole: str, changes: list[tuple[ast.stmt, str, ast.expr]]) -> bool:
    """Whether the data set was made with another transform, or another part's assignment came before."""
    values = {ast.unparse(value) for _, _, value in changes}
    made = source.last_value(changes[-1][2], whole)
    given = [word.value for word in getattr(made, "keywords", []) if word.arg and _TRANSFORM.search(word.arg)]
    return len(values) > 1 or any(ast.unparse(one) not in values and not is_constant(one, None) for one in given)


SHARED_BY_PARTS = Check(
    codes=("data.augmentation",),
    threshold="an attribute of `part.dataset` is assigned, named for a transform, where another part of "
    "`random_split` or `Subset` has the same data set",
    run=_run,
    of_source=True,
    explains="fit.overfit",
)
