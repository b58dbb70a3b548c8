"""What stands between a command and its first step."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from striate.training.config import Config
from striate.training.loop import training_events
from striate.training.prepare import prepare
from striate.training.request import merge_request

slow = "torch._dynamo", "sympy", "torch._inductor", "sklearn.model_selection", "matplotlib"
for optimizer in ("adamw", "sgd", "muon"):
    fields = {"data.source": "digits", "optim.name": optimizer, "model.name": "conv(4,3) relu gap fc(10)"}
    made = prepare(merge_request(Config(), epochs=1, fields=fields))
    events = training_events(made.state, made.objective, made.splits, made.config, made.normalize)
    next(events), next(events)
    print(optimizer, [name for name in slow if name in sys.modules])
"""


def test_no_step_waits_for_libraries_that_it_does_not_need() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.stdout == "adamw []\nsgd []\nmuon []\n", done.stderr
