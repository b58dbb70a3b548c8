"""All planted faults and healthy setups."""

from __future__ import annotations

import importlib
import pkgutil
from itertools import chain

import planted
import striate
from planted.case import FAULTS, HEALTHY, Case
from remedies_tried import try_remedy

for _module in pkgutil.iter_modules(planted.__path__):
    if _module.name != "every":
        importlib.import_module(f"planted.{_module.name}")

ADVICE = ("speed.slow-plan",)
"""Codes whose findings are notes, whatever they measure."""

__all__ = ["FAULTS", "HEALTHY", "diagnosed", "is_named"]


def diagnosed(case: Case) -> striate.Diagnosis:
    """The diagnosis of a case, in which no check may have failed by itself, and every remedy can be typed; each limit
    is a clause."""
    found = striate.diagnose(case.model, case.train, case.val, **case.options)
    failed = {code: why for code, why in found.skipped.items() if "failed" in why}
    assert not failed, failed
    for finding in [*found.findings, *chain.from_iterable(found.follows.values())]:
        try_remedy(finding.remedy)
        assert 0 < len(finding.threshold) <= 300, finding
    return found


def is_named(found: striate.Diagnosis, code: str, also: tuple[str, ...]) -> bool:
    """Whether the fault, or what would be right as well, is the first or second finding, and no mere note, but for
    advice."""
    named = [finding.code for finding in found.findings[:2] if finding.severity != "note" or finding.code in ADVICE]
    return any(right in named for right in (code, *also))
