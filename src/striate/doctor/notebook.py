"""A diagnosis in a notebook."""

from __future__ import annotations

from striate import notebook
from striate.doctor.diagnosis import Diagnosis
from striate.wording import several


def notebook_diagnosis(diagnosis: Diagnosis) -> str:
    """The verdict, each finding with what follows from it, and what was not looked at, as HTML."""
    counts = ", ".join(several(count, severity) for severity, count in diagnosis.counts().items())
    found = (
        finding._repr_html_()
        + notebook.items(
            f"follows: {other.code}: {other.measured}" for other in diagnosis.follows.get(finding.code, ())
        )
        for finding in diagnosis.findings
    )
    skipped = diagnosis.skipped.items()
    return notebook.page(
        "Healthy" if diagnosis.healthy else "Not healthy",
        notebook.line(f"{counts}; {several(len(diagnosis.looked_at), 'code')} looked for in {diagnosis.seconds:.1f} s"),
        *found,
        notebook.items(f"not looked at: {code}: {reason}" for code, reason in skipped),
    )
