"""A diagnosis as text."""

from __future__ import annotations

from striate.doctor.diagnosis import Diagnosis
from striate.records import Finding
from striate.wording import filled, finding_text, listed, several


def diagnosis_text(diagnosis: Diagnosis, width: int = 100) -> str:
    """The findings with what follows from each, the verdict, and what was not looked at, in lines of at most `width`
    letters."""
    width = max(40, width)
    parts = []
    for finding in diagnosis.findings:
        parts.append(_finding(finding, width))
        follows = diagnosis.follows.get(finding.code, ())
        if follows:
            parts[-1] += "\n" + _indented(f"follows from it: {listed([other.code for other in follows])}", width)
    parts.append(_verdict(diagnosis))
    reasons: dict[str, list[str]] = {}
    for code, reason in diagnosis.skipped.items():
        reasons.setdefault(reason, []).append(code)
    if reasons:
        lines = [_indented(f"{', '.join(codes)}: {reason}", width) for reason, codes in reasons.items()]
        parts.append("not looked at:\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _finding(finding: Finding, width: int) -> str:
    place = [_indented(f"where: {finding.where}", width)] if finding.where else []
    return "\n".join([finding_text(finding, width), *place, _indented(f"limit: {finding.threshold}", width)])


def _indented(text: str, width: int) -> str:
    return "  " + filled(text, width - 2).replace("\n", "\n  ")


def _verdict(diagnosis: Diagnosis) -> str:
    counts = {name: number for name, number in diagnosis.counts().items() if number}
    said = listed([several(number, name) for name, number in counts.items()])
    took = f"{several(len(diagnosis.looked_at), 'code')} looked for in {diagnosis.seconds:.1f} s"
    unseen = len(diagnosis.skipped)
    hurried = any("seconds were over" in reason for reason in diagnosis.skipped.values())
    if diagnosis.healthy and (hurried or unseen > len(diagnosis.looked_at)):
        return f"No error and no warning in what could be looked at; {several(unseen, 'code')} could not. {took}."
    if diagnosis.healthy:
        return f"Healthy: no error and no warning{f' ({said})' if said else ''}; {took}."
    return f"{said}; {took}."
