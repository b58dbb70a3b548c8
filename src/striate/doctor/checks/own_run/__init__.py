"""What a script shows when it goes on after its first step; looked at where nothing was found before."""

from __future__ import annotations

from striate.doctor.checks.own_run.answers import OF_ANSWERS
from striate.doctor.checks.own_run.networks import OF_NETWORKS, OF_REWARDS
from striate.doctor.evidence.own_run import OwnRun
from striate.records import Finding


def findings_of(run: OwnRun, *, of_rewards: bool = False) -> list[Finding]:
    """What all such checks find, of each the first; `of_rewards`: of a script that learns from rewards."""
    checks = OF_REWARDS if of_rewards else (*OF_ANSWERS, *OF_NETWORKS)
    return [found for check in checks if (found := check.run(run)) is not None]
