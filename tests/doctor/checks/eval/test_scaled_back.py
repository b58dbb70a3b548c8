"""Numbers that are scaled back by the variance where a standardization divided by the deviation."""

from __future__ import annotations

import pytest
from torch import nn

from for_checks.asked import digits, perceptron, read
from striate.doctor.checks.eval.counts.wrong_count import WRONG_COUNT

SCALED_BACK = """
for x, y in loader:
    loss = criterion(model(x), y)
    loss.backward()
    optimizer.step()
predicted = {scaled}
"""


@pytest.mark.parametrize(
    ("scaled", "wrong"),
    [
        ("outputs * scaler.var_[2] + scaler.mean_[2]", True),
        ("self.scaler.mean_ + self.scaler.var_ * outputs", True),
        ("outputs * scaler.scale_[2] + scaler.mean_[2]", False),
        ("outputs * np.sqrt(scaler.var_) + scaler.mean_", False),
        ("outputs * scaler.var_ + other.mean_", False),
        ("scaler.var_ + scaler.mean_ ** 2", False),
        ("errors * scaler.var_", False),
    ],
)
def test_numbers_are_scaled_back_by_the_deviation(scaled: str, wrong: bool) -> None:
    """A squared error may well be multiplied by the variance."""
    said = read(SCALED_BACK.format(scaled=scaled), WRONG_COUNT, perceptron(), digits(), loss=nn.CrossEntropyLoss())
    assert [one.code for one in said] == ["eval.wrong-count"] * wrong
