"""`eval.mode` of networks that predict step by step: the true previous steps in evaluation."""

from __future__ import annotations

import pytest

from for_checks.asked import digits, perceptron, read
from striate.doctor.checks.eval.teacher_forcing import TEACHER_FORCING

DECODE = """
def decode(h, trg, {parameter}):
    inp, out = trg[:, 0], []
    for t in range(1, trg.shape[1]):
        inp, h = step(inp, h)
        out.append(inp)
        if {condition}:
            inp = trg[:, t]
    return torch.stack(out, 1)

@torch.no_grad()
def evaluate(h, trg):
    pred = decode({call})
    return {result}

for x, y in loader:
    loss = criterion(decode(x, y), y)
    loss.backward()
"""
DRAWN = "random.random() < teacher_forcing_ratio"
ERROR = "(pred - trg).abs().mean()"


@pytest.mark.parametrize(
    ("parameter", "condition", "call", "result", "wrong"),
    [
        ("teacher_forcing_ratio=0.5", DRAWN, "h, trg", ERROR, True),
        ("teacher_forcing_ratio=0.5", DRAWN, "h, trg", "criterion(pred, trg).item()", True),
        ("teacher_forcing_ratio=0.5", DRAWN, "h, trg, teacher_forcing_ratio=1.0", ERROR, True),
        ("teacher_forcing_ratio=0.5", DRAWN, "h, trg, 1.0", "criterion(pred, trg).item()", False),
        ("teacher_forcing_ratio=0.5", DRAWN, "h, trg, 0", ERROR, False),
        ("teacher_forcing_ratio=0.0", DRAWN, "h, trg", ERROR, False),
        ("*, tf_prob=0.5", "torch.rand(1).item() < tf_prob", "h, trg", ERROR, True),
        ("*, tf_prob=0.5", "torch.rand(1).item() < tf_prob", "h, trg, tf_prob=0.0", ERROR, False),
        ("teacher_forcing_ratio=0.5", "self.training and " + DRAWN, "h, trg", ERROR, False),
        ("dropout=0.5", "random.random() < dropout", "h, trg", ERROR, False),
    ],
)
def test_the_true_steps_are_shown_in_evaluation(
    parameter: str, condition: str, call: str, result: str, wrong: bool
) -> None:
    text = DECODE.format(parameter=parameter, condition=condition, call=call, result=result)
    said = read(text, TEACHER_FORCING, perceptron(), digits())
    assert [one.code for one in said] == ["eval.mode"] * wrong
    assert all("=0` in evaluation" in one.remedy for one in said)
