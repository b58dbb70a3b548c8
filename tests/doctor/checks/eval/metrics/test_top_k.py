"""Top-k accuracies that one call computes for several k."""

from __future__ import annotations

import textwrap
from types import SimpleNamespace
from typing import Any

import pytest

from for_checks.asked import digits, perceptron, read
from striate.doctor.checks.eval.metrics.metric_functions import wrong_metrics

PRECISIONS = """
def precision_at(output, target, topk=(1,)):
    most = max(topk)
    found = output.topk(most, 1).indices.t()
    correct = found.eq(target.view(1, -1).expand_as(found))
    return [correct[:COUNTED].reshape(-1).float().sum(0) * 100.0 / target.size(0) for k in topk]
for x, y in loader:
    first, five = precision_at(model(x), y, ASKED)
"""


@pytest.mark.parametrize(
    ("counted", "asked", "wrong"),
    [
        ("most", "topk=(1, 5)", True),
        ("most", "[1, 3]", True),
        ("k", "topk=(1, 5)", False),
        ("min(k, most)", "(5, 1)", False),
        ("most", "(1,)", False),  # nothing asks for several
    ],
)
def test_the_first_is_not_counted_among_five(counted: str, asked: str, wrong: bool) -> None:
    names: dict[str, Any] = {}
    text = PRECISIONS.replace("COUNTED", counted).replace("ASKED", asked)
    exec(text[: text.index("for x")], names)
    said = read(textwrap.dedent(text), SimpleNamespace(run=wrong_metrics), perceptron(), digits(), names=names)
    assert [one.code for one in said] == ["eval.wrong-count"] * wrong
    assert not wrong or "is right" in said[0].measured
