"""Is a backward pass that someone wrote the derivative of its forward pass?"""

from __future__ import annotations

from collections.abc import Iterator

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.functions import TOLERANCE, FunctionCheck, check_function, functions_of, given_to
from striate.records import Finding


def run(evidence: Evidence) -> Iterator[Finding]:
    """torch's own operations have right gradients: each `torch.autograd.Function` of someone's is compared with slopes
    that are measured, on what it was given in a step."""
    functions = functions_of(evidence.trial)
    if not functions:
        return
    given = given_to(evidence.patient, evidence.train.raw[0], functions)
    failed, wrong = "", 0
    for function in functions:
        for arguments in given.get(function, ()):
            try:
                found = check_function(function, arguments)
            except NoEvidence as reason:
                failed = str(reason)
                continue
            if found.wrong:
                wrong += 1
                yield _finding(found)
                break
    if failed and not wrong:
        raise NoEvidence(failed)


def _finding(found: FunctionCheck) -> Finding:
    argument, check = max(found.wrong, key=lambda item: item[1].max_relative_error)
    place = f"[{', '.join(map(str, check.at))}]"
    why = "The optimizer follows this slope: away from where it should go, or too far, or not far enough."
    if found.meant:
        why = "Its forward pass has no slope to agree with; gradient reversal and straight-through estimates mean that."
    return Finding(
        code="optim.gradient-wrong",
        severity="note" if found.meant else "error",
        where=found.name,
        measured=f"by its argument {argument + 1}, entry {place}: backward gives {check.claimed:.4g}, measured is "
        f"{check.measured:.4g}; {len(found.wrong)} of its gradients are wrong",
        threshold=f"a relative error of {TOLERANCE:g} in float64",
        why=why,
        remedy=f"Mend `{found.name}.backward`; `torch.autograd.gradcheck({found.name}.apply, inputs)` with inputs in "
        "float64 shows when it is right.",
    )


CHECK = Check(
    codes=("optim.gradient-wrong",),
    question="Do backward passes written by hand agree with measured slopes?",
    threshold=f"A relative error above {TOLERANCE:g} of any of some entries, in float64, where right ones have less "
    "than a "
    "millionth. A function that passes its input on, or has no slope anywhere, may have any gradient: a note.",
    run=run,
    explains="loss.not-finite model.collapsed optim.lr-too-high optim.lr-too-low fit.*",
)
