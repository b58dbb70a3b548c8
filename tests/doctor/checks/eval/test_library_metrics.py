"""Metrics that a library's trainer lets the script compute, asked for predictions that are all right."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor

from for_checks.sequences import Tagger, evidence_of, shares, tagging
from striate.doctor.checks.eval.library_metrics import wrong_library_metrics


def by_positions(outputs: Tensor, labels: Tensor) -> dict[str, Any]:
    return {"accuracy": float((outputs.argmax(-1) == labels).float().mean())}


@pytest.mark.parametrize(("judge", "named"), [(shares, ""), (by_positions, "accuracy")])
def test_a_trainers_metric_of_right_predictions_is_one(judge: Any, named: str) -> None:
    found = list(wrong_library_metrics(evidence_of(Tagger(), tagging(), judge)))
    assert [f"`{named}`" in f.measured and f.where == "line 1" for f in found] == [True] * bool(named)
