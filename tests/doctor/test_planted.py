"""Planted faults are named, and healthy setups are left in peace: some here, all of them with
-m slow; `checks/` has quick tests of each check."""

from __future__ import annotations

from pathlib import Path

import pytest
from planted.case import Fault, Healthy
from planted.every import FAULTS, HEALTHY, diagnosed, is_named

from quick import few_quick
from striate.machine.precision import bf16_on_cpu

CODES = sorted({fault.code for fault in FAULTS})
FIRST = [next(fault for fault in FAULTS if fault.code == code) for code in CODES]
REST = [fault for fault in FAULTS if fault not in FIRST]
QUICK = ["optim.missing-zero-grad"]
PEACEFUL = ["smoothed_labels", "filters_over_a_signal"]
MISSED = 0.05
WARNED = 1 / 25


def named(fault: Fault) -> None:
    if fault.name == "large_convolutions_in_the_plain_layout" and not bf16_on_cpu():
        pytest.skip("this processor imitates bf16: computed otherwise the network is not faster")
    found = diagnosed(fault.build(0))
    assert is_named(found, fault.code, fault.also), [str(finding) for finding in found.findings]


@pytest.mark.parametrize(
    "fault",
    few_quick(FIRST, [fault for fault in FIRST if fault.code in QUICK]),
    ids=lambda fault: f"{fault.code}-{fault.name}",
)
def test_a_fault_is_the_first_or_second_finding(fault: Fault) -> None:
    named(fault)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("healthy", [h for h in HEALTHY if h.name in PEACEFUL], ids=lambda healthy: healthy.name)
def test_a_healthy_setup_has_no_error(healthy: Healthy) -> None:
    found = diagnosed(healthy.build(0))
    assert not [str(finding) for finding in found.findings if finding.severity == "error"]


@pytest.mark.slow
def test_of_all_faults_one_in_twenty_is_missed_at_most() -> None:
    missed = [
        f"{fault.code}: {fault.name}"
        for fault in FAULTS
        if not is_named(diagnosed(fault.build(1)), fault.code, fault.also)
    ]
    assert len(missed) <= MISSED * len(FAULTS), missed


@pytest.mark.slow
@pytest.mark.parametrize("fault", REST, ids=lambda fault: f"{fault.code}-{fault.name}")
def test_the_other_faults_are_named(fault: Fault) -> None:
    named(fault)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_of_the_healthy_none_has_an_error_and_one_in_25_a_warning_at_most(seed: int) -> None:
    warned = []
    for healthy in HEALTHY:
        for finding in diagnosed(healthy.build(seed)).findings:
            assert finding.severity != "error", f"{healthy.name}: {finding}"
            warned += [f"{healthy.name}: {finding}"] if finding.severity == "warning" else []
    assert len({text.partition(":")[0] for text in warned}) <= WARNED * len(HEALTHY), warned


def test_every_code_has_two_planted_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    from doctor_stranger import DEVELOPMENT, scripts

    from striate.doctor.checks.every import every_check

    codes = [
        code for check in every_check() if not check.of_rewards for code in check.codes
    ]  # see test_reward_checks.py
    counts = {code: sum(fault.code == code for fault in FAULTS) for code in codes}
    scripted = {
        code for _, _, _, codes in (scripts() | scripts(DEVELOPMENT)).values() for code in codes
    }  # tried in test_stranger_scripts.py
    assert not {code: count for code, count in counts.items() if count < 2 and not (count == 0 and code in scripted)}
