"""Clips, clouds of points and spectrograms: faults that were met in scripts, and their healthy twins."""

from __future__ import annotations

import pytest
from test_source_checks import found, values

from striate.doctor.checks.eval.modes import MODE

VALIDATED = """
def validate(network, batches):
    classifier = network{mode}
    for x, y in batches:
        with torch.no_grad():
            outputs = classifier(x)
for epoch in range(5):
    model.train()
    for x, y in loader:
        criterion(model(x), y).backward()
    validate(model, val_loader)
"""


@pytest.mark.parametrize("mode", ["", ".eval()"])
def test_a_network_may_be_called_by_another_name(mode: str) -> None:
    assert list(found(VALIDATED.format(mode=mode), values(), [MODE])) == ["eval.mode"] * (not mode)
