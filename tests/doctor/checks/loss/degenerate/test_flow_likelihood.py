"""The likelihood that a normalizing flow assigns to noise: no density exceeds that of the noise itself on average."""

from __future__ import annotations

import pytest
import torch

from for_checks.claims import Flow, likelihood, sensors
from striate.doctor.checks.loss.degenerate.degenerate import DEGENERATE
from striate.doctor.checks.loss.degenerate.flow_likelihood import likelihood_of_noise
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup


@pytest.mark.slow
@pytest.mark.parametrize(("sign", "maximize"), [(1.0, False), (-1.0, False), (1.0, True), (-1.0, True)])
def test_a_density_adds_up_to_one(sign: float, maximize: bool) -> None:
    flow = Flow(sign)
    optimizer = torch.optim.Adam(flow.parameters(), 3e-3, maximize=maximize)
    step = likelihood(1.0 if maximize else -1.0)
    setup = make_setup(flow, sensors(), optimizer=optimizer, step=step, task="regress")
    assert (likelihood_of_noise(Evidence(setup, Clock(60.0))) is None) == (sign > 0)
    if sign < 0:
        assert [one.code for one in DEGENERATE.run(Evidence(setup, Clock(60.0)))] == ["loss.degenerate"]
