"""Blends, kept states and losses that are maximized: healthy scripts that were called wrong, and faults that look
alike."""

from __future__ import annotations

import textwrap

import pytest
from test_met_in_terse_scripts import found, values

from striate.doctor.checks.model.detached_parameters import GRAPH_DETACHED


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
