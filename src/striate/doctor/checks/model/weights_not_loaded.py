"""`model.weights-not-loaded`: did the network take what was read for it?"""

from __future__ import annotations

from collections.abc import Iterator

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding
from striate.wording import several

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
            f"has {taken}: the first is `{load.given[0]}`, the network's `{load.wanted[0]}`",
            threshold=CHECK.threshold,
            why="Names that differ are passed over in silence: the network trains from its random weights.",
            remedy=f"`load_state_dict({fits})`, which says what is missing"
            if fits
            else "leave out `strict=False`, so that it says what is missing, and rename the tensors of the file",
        )


CHECK = Check(
    codes=("model.weights-not-loaded",),
    question="Did the network take the weights that were read for it?",
    threshold=f"at most {_TAKEN:.0%} of the tensors given have a name that the network has",
    run=_run,
    of_source=True,
    explains="fit.*",
)
