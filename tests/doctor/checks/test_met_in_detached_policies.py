"""Counts divided by what is converted first: faults that were met in scripts, and their healthy twins."""

from __future__ import annotations

import pytest
from test_source_checks import SCRIPT, found, values

from striate.doctor.checks.eval.wrong_count import WRONG_COUNT
from striate.doctor.checks.own_run import findings_of
from striate.doctor.evidence.own_run import OwnRun, Rights


@pytest.mark.parametrize(("counted", "wrong"), [("loader", True), ("val_loader", False)])
def test_a_count_is_divided_by_a_number_that_is_converted(counted: str, wrong: bool) -> None:
    text = SCRIPT.replace("accuracy = correct / total", f"accuracy = correct / float(len({counted}.dataset))")
    text = text.replace("            total += len(y)\n", "")
    assert list(found(text, values(), [WRONG_COUNT])) == ["eval.wrong-count"] * wrong


@pytest.mark.parametrize("scale", [0.25, 1.0])
def test_a_training_step_says_something_before_an_evaluation(scale: float) -> None:
    """At the steps of one of them only: what an evaluation says is the last."""
    rights = {30: Rights([40], [100]), 60: Rights([80], [100]), 90: Rights([96], [100])}
    said = [(30, "loss 0.231 accuracy 0.9375"), *((at, f"test {scale * one.share:.4f}") for at, one in rights.items())]
    run = OwnRun(compared=rights, said=said)
    assert [finding.code for finding in findings_of(run)] == ["eval.wrong-count"] * (scale != 1)
