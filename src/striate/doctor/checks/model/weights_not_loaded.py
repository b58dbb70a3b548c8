"""`model.weights-not-loaded`: did the network take what was read for it?"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding
from striate.wording import several

_WRAPPED = "module."
_TAKEN = 0.1
"""A head of another size is dropped by hand; what is read is then still most of the file."""


def _run(evidence: Evidence) -> Iterator[Finding]:
    own = {id(tensor) for tensor in evidence.setup.model.parameters()}
    for load in evidence.source.loads:
        given, taken = len(load.given), load.taken
        if not given or taken > _TAKEN * given or not any(id(tensor) in own for tensor in load.module.parameters()):
            continue
        fits = load.renamed
        yield Finding(
            code="model.weights-not-loaded",
            severity="error",
            where=load.where,
            measured=f"of {several(given, 'tensor')} that `load_state_dict(…, strict=False)` was given, the network "
            f"has {taken}: the first is {load.given[0]!r}, the network's {load.wanted[0]!r}",
            threshold=CHECK.threshold,
            why="Names that differ are passed over in silence: the network trains from its random weights.",
            remedy=f"`load_state_dict({fits})`, which says what is missing"
            if fits
            else "leave out `strict=False`, so that it says what is missing, and rename the tensors of the file",
        )


def _after_training(evidence: Evidence) -> Iterator[Finding]:
    """What DataParallel trains has `module.` before all its names, and a network without it takes none of them."""
    source = evidence.source
    if not all(name.startswith(_WRAPPED) for name in evidence.setup.model.state_dict()):
        return
    nodes = [node for tree in source.trees.values() for node in ast.walk(tree)]
    if any(isinstance(node, ast.Constant) and node.value == _WRAPPED for node in nodes):
        return  # it is taken off
    if any(isinstance(node, ast.Attribute) and ast.unparse(node).endswith(".module.state_dict") for node in nodes):
        return
    for site in source.calls("load_state_dict"):
        lax = any(word.arg == "strict" and source.value(word.value) is False for word in site.node.keywords)
        receiver = site.node.func.value if isinstance(site.node.func, ast.Attribute) else None
        if not lax or isinstance(source.value(receiver), nn.Module):
            continue
        yield Finding(
            code="model.weights-not-loaded",
            severity="error",
            where=site.where,
            measured=f"`{site.text}` lets names differ, and all names of the network that is trained begin with "
            f"`module.`, which {type(evidence.setup.model).__name__} puts there",
            threshold=CHECK.threshold,
            why="A network without that wrapper takes none of them, in silence, and keeps its random weights.",
            remedy="save `model.module.state_dict()`, and leave out `strict=False`",
        )
        return


def _both(evidence: Evidence) -> Iterator[Finding]:
    found = list(_run(evidence))
    yield from found or _after_training(evidence)


CHECK = Check(
    codes=("model.weights-not-loaded",),
    question="Did the network take the weights that were read for it?",
    threshold=f"at most {_TAKEN:.0%} of the tensors given have a name that the network has; of what is loaded after "
    "training, all names begin with `module.`, and nothing takes that off",
    run=_both,
    of_source=True,
    explains="fit.*",
)
