"""Which of two findings of the same code is given."""

from __future__ import annotations

import pytest

from for_checks.asked import digits, perceptron
from striate.doctor.checks.check import Check
from striate.doctor.diagnose import _Results
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup
from striate.records import Finding, Severity


def check_that_finds(*severities: Severity) -> Check:
    """A check whose next run finds what is next in `severities`."""
    remaining = list(severities)

    def run(_: Evidence) -> list[Finding]:
        return [Finding("data.shift", remaining.pop(0), "here", "this", "that", "so", "then")]

    return Check(codes=("data.shift",), run=run)


@pytest.mark.parametrize(
    ("first", "second", "given"),
    [("error", "warning", "warning"), ("note", "warning", "warning"), ("error", "note", "error")],
)
def test_a_note_does_not_hide_what_another_check_warned_of(first: Severity, second: Severity, given: Severity) -> None:
    results, evidence = _Results(), Evidence(make_setup(perceptron(), digits(), None), Clock(60.0))
    results.run(check_that_finds(first), evidence)
    results.run(check_that_finds(second), evidence)
    assert [one.severity for one in results.found] == [given]


def test_a_check_that_looks_again_may_take_a_warning_back() -> None:
    results, evidence = _Results(), Evidence(make_setup(perceptron(), digits(), None), Clock(60.0))
    check = check_that_finds("warning", "note")
    results.run(check, evidence)
    results.run(check, evidence)
    assert [one.severity for one in results.found] == ["note"]
