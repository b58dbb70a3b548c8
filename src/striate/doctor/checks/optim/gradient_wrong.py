"""`optim.gradient-wrong`: do hand-written backward passes agree with numerical gradients?"""

from __future__ import annotations

from collections.abc import Iterator

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.functions import TOLERANCE, FunctionCheck, check_function, functions_of, recorded_arguments
from striate.records import Finding


def _find_gradient_wrong(evidence: Evidence) -> Iterator[Finding]:
    """Compares each `torch.autograd.Function` that is not torch's own with numerical gradients, for its arguments in a
    step. Raises NoEvidence where one cannot be checked and none is wrong."""
    functions = functions_of(evidence.trial)
    if not functions:
        return
    calls = recorded_arguments(evidence.setup, evidence.train.raw[0], functions)
    failed, wrong = "", 0
    for function in functions:
        for arguments in calls.get(function, ()):
            try:
                check = check_function(function, arguments)
            except NoEvidence as reason:
                failed = str(reason)
                continue
            if check.wrong:
                wrong += 1
                yield _finding(check)
                break
    if failed and not wrong:
        raise NoEvidence(failed)


def _finding(check: FunctionCheck) -> Finding:
    argument, worst = max(check.wrong, key=lambda item: item[1].max_relative_error)
    place = f"[{', '.join(map(str, worst.at))}]"
    why = "The optimizer follows a wrong gradient: in the wrong direction, too far, or not far enough."
    if check.intended:
        why = (
            "No numerical gradient can agree with it. Gradient reversal, straight-through estimators and feedback "
            "alignment do this on purpose."
        )
    return Finding(
        code="optim.gradient-wrong",
        severity="note" if check.intended else "error",
        where=check.name,
        measured=f"gradient for argument {argument + 1}, entry {place}: backward gives {worst.claimed:.4g}, the "
        f"numerical gradient is {worst.measured:.4g}; {len(check.wrong)} of its gradients "
        f"{'is' if len(check.wrong) == 1 else 'are'} wrong",
        threshold=f"a relative error of {TOLERANCE:g} in float64",
        why=why,
        remedy=f"Fix `{check.name}.backward`, and test it with `torch.autograd.gradcheck({check.name}.apply, "
        "inputs)` and inputs in float64.",
    )


GRADIENT_WRONG = Check(
    codes=("optim.gradient-wrong",),
    run=_find_gradient_wrong,
    explains="loss.not-finite model.collapsed optim.lr-too-high optim.lr-too-low fit.*",
)
