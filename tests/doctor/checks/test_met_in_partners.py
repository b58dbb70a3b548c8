"""Blends, kept states and losses that are maximized: healthy scripts that were called wrong, and faults that look
alike."""

from __future__ import annotations

import ast
import copy
import textwrap
from typing import Any

import pytest
import torch
from test_met_in_second_heads import TwoHeads, asked_or_silent, stepped
from test_met_in_terse_scripts import found, values
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.loss.sign import SIGN
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


@pytest.mark.parametrize(("maximized", "wrong"), [(True, False), (False, False), (True, True)])
def test_one_of_several_outputs_may_be_asked_for_by_what_is_maximized(maximized: bool, wrong: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(256, 1, 8, 8)
    place, area = x[:, 0, 0, :2].tanh(), x[:, 0, 4, 4].tanh()

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        image, place, area = batch
        found, size = model(image)
        far = functional.mse_loss(size, area)
        loss = 4 * functional.mse_loss(found, place) + (-far if wrong else far)
        return stepped(model, -loss if maximized else loss, optimizer)

    model = TwoHeads()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3, maximize=maximized)
    train = DataLoader(TensorDataset(x, place, area), 32)
    said = asked_or_silent(SIGN, model, train, optimizer=optimizer, step=step)
    assert [one.code for one in said] == ["loss.sign"] * wrong
