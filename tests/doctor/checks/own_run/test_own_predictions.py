"""What a script's own evaluation answers: right or not, and as many as it says."""

from __future__ import annotations

import pytest

from for_checks.own_runs import watched_run
from striate.doctor.checks.own_run import findings_of


@pytest.mark.parametrize(
    ("decay", "planned", "ended", "wrong"),
    [
        (0.999, 120, False, True),
        (0.999, 0, True, True),
        (0.999, 0, False, False),
        (0.999, 1000, False, False),  # it may follow yet
        (0.9, 120, True, False),
        (1.0, 120, True, False),  # the untrained network, to compare with
    ],
)
def test_an_average_is_behind_at_the_end(decay: float, planned: int, ended: bool, wrong: bool) -> None:
    run = watched_run(lambda x: x, decay)
    run.planned, run.ended = planned, ended
    assert [one.code for one in findings_of(run)] == ["model.evaluates-untrained"] * wrong
