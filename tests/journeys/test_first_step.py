"""What stands between a command and its first step."""

from __future__ import annotations

import subprocess
import sys

import pytest

SLOW = ("torch._dynamo", "sympy", "torch._inductor", "sklearn.model_selection", "matplotlib")
"""Libraries that take long to load, and that no step needs."""


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_no_step_waits_for_libraries_that_it_does_not_need(optimizer: str) -> None:
    code = f"""
import sys
from dataclasses import replace
from striate.training.loop import training_events
from striate.training.prepare import prepare
from striate.training.request import merge_request
from striate.training.config import Config

fields = {{"data.source": "digits", "optim.name": "{optimizer}", "model.name": "conv(4,3) relu gap fc(10)"}}
prepared = prepare(merge_request(Config(), epochs=1, fields=fields))
events = training_events(
    prepared.state, prepared.objective, prepared.splits, prepared.config, prepared.normalize
)
next(events), next(events)
print([name for name in {SLOW} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr
