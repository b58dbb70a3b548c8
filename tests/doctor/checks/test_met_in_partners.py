"""Blends, kept states and losses that are maximized: healthy scripts that were called wrong, and faults that look
alike."""

from __future__ import annotations

import ast
import copy
import textwrap

import pytest
from test_met_in_terse_scripts import found, values
from torch import nn

from striate.doctor.checks.model.detached_parameters import GRAPH_DETACHED
from striate.doctor.checks.model.evaluates_untrained import _are_kept_anew
from striate.doctor.setup.script_source import ScriptSource


@pytest.mark.parametrize(
    ("made", "given", "cut"),
    [
        ("", "self.hparams.alpha, self.hparams.alpha", False),
        ("share = 0.4", "share, share", False),
        ("share = self.net(x).exp()", "share, share", True),
    ],
)
def test_a_coefficient_of_what_is_no_tensor_has_no_way_back(made: str, given: str, cut: bool) -> None:
    text = textwrap.dedent(f"""
        class Module:
            def forward(self, x):
                return self.net(x)

            def training_step(self, x):
                {made}
                part = torch.distributions.Beta({given}).sample()
                return self(part * x)

        for x, y in loader:
            model(x)
    """)
    assert list(found(text.lstrip(), values(), [GRAPH_DETACHED])) == ["model.graph-detached"] * cut


@pytest.mark.parametrize(
    ("test", "anew"), [("score > best", True), ("state is None", False), ("not state", False), ("", False)]
)
def test_a_state_that_is_chosen_in_the_loop_is_kept_anew(test: str, anew: bool) -> None:
    kept = "state = copy.deepcopy(model.state_dict())"
    text = f"for x, y in loader:\n    if {test}:\n        {kept}\n" if test else f"{kept}\nfor x, y in loader:\n"
    text += "    train(x, y)\n"
    state = copy.deepcopy(nn.Linear(2, 2).state_dict())
    source = ScriptSource({"train.py": ast.parse(text)}, {"state": state}, ("train.py", 1, 4), 5)
    assert _are_kept_anew(source) is anew
