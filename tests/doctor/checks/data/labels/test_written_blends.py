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


APART = """
def mixup(x, y, alpha=0.4):
    lam = np.random.beta(alpha, alpha)
    index = torch.randperm(len(x))
    return lam * x + (1 - lam) * x[index], y, y[index], lam

def mixed_loss(criterion, outputs, first, second, share):
    return {loss}

for x, y in loader:
    inputs, y_a, y_b, weight = mixup(x, y)
    outputs = model(inputs)
    loss = mixed_loss(criterion, outputs, y_a, y_b, weight)
    {beside}
"""
RIGHT = "share * criterion(outputs, first) + (1 - share) * criterion(outputs, second)"
WRONG = "(1 - share) * criterion(outputs, first) + share * criterion(outputs, second)"
INLINE = "loss = {} * criterion(outputs, y_a) + {} * criterion(outputs, y_b)"


@pytest.mark.parametrize(
    ("loss", "beside", "wrong"),
    [
        (RIGHT, "pass", False),
        (WRONG, "pass", True),
        (RIGHT, INLINE.format("weight", "(1 - weight)"), False),
        (RIGHT, INLINE.format("(1 - weight)", "weight"), True),
        (RIGHT, INLINE.format("(1 - other)", "other"), False),
    ],
)
def test_a_loss_that_blends_gets_the_weight_of_the_function_that_blends_inputs(
    loss: str, beside: str, wrong: bool
) -> None:
    said = read(APART.format(loss=loss, beside=beside), WRITTEN_BLENDS, perceptron(), digits())
    assert [one.code for one in said] == ["data.step-labels"] * wrong
