"""`data.step-labels` in the code: weights of inputs and labels that a function blends."""

from __future__ import annotations

import pytest

from for_checks.asked import digits, perceptron, read
from striate.doctor.checks.data.labels.written_blends import WRITTEN_BLENDS

LOOP = "for x, y in loader:\n    pass\n"
INPUTS = "x = lam * x + (1 - lam) * x[perm]"


@pytest.mark.parametrize(
    ("inputs", "labels", "wrong"),
    [
        (INPUTS, "t = one_hot(y) * (1. - lam) + one_hot(y[perm]) * lam", True),
        (INPUTS, "t = one_hot(y) * lam + one_hot(y[perm]) * (1. - lam)", False),
        (INPUTS, "y_b = y[perm]; t = (1 - lam) * criterion(out, y) + lam * criterion(out, y_b)", True),
        (INPUTS, "y_a, y_b = y, y[perm]; t = lam * criterion(out, y_a) + (1 - lam) * criterion(out, y_b)", False),
        ("x = x.mul(lam).add(x.flip(0).mul(1 - lam))", "t = (1 - lam) * y + lam * y.flip(0)", False),
        ("x = lam * x + (1 - lam) * x.flip(0)", "t = (1 - lam) * y + lam * y.flip(0)", True),
        (INPUTS, "t = (1 - beta) * y + beta * y[perm]", False),
        (INPUTS, "m = (1 - lam) * m + lam * x.mean()", False),
    ],
)
def test_labels_get_the_weights_of_their_inputs(inputs: str, labels: str, wrong: bool) -> None:
    text = f"def mixup(x, y, lam, perm):\n    {inputs}\n    {labels}\n    return x, t\n{LOOP}"
    said = read(text, WRITTEN_BLENDS, perceptron(), digits())
    assert [one.code for one in said] == ["data.step-labels"] * wrong
