"""What a script shows when it goes on after its first step; looked at where nothing was found before."""

from __future__ import annotations

from striate.doctor.checks.own_run.answers import OF_ANSWERS
from striate.doctor.checks.own_run.every import OF_NETWORKS, OF_REWARDS
from striate.doctor.checks.own_run.scales import IN_SCALE
from striate.doctor.evidence.own_run import OwnRun
from striate.records import Finding


def findings_of(run: OwnRun, *, of_rewards: bool = False) -> list[Finding]:
    """What all such checks find, of each the first; `of_rewards`: of a script that learns from rewards. What fails is
    noted in the run."""
    found = list[Finding]()
    for check in OF_REWARDS if of_rewards else (*OF_ANSWERS, *OF_NETWORKS, IN_SCALE):
        try:
            found += filter(None, [check.run(run)])
        except Exception as error:  # a check that meets what nobody thought of leaves the others theirs
            run.failed[check.code] = f"the check itself failed: {type(error).__name__}: {error}"
    return found
