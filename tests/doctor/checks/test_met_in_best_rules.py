"""Best epochs, records, offsets and exchanged settings: faults that were met in scripts, and their healthy twins."""

from __future__ import annotations

import pytest
from test_source_checks import SCRIPT, found, values

from striate.doctor.checks.eval.best import WORST_KEPT

RATED = """
def rate(outputs, labels):
    hits = (outputs.argmax(1) == labels).sum().item()
    return {returned}

"""


@pytest.mark.parametrize(
    ("name", "returned", "sign", "right"),
    [
        ("pck", "hits", "<", False),
        ("pck", "hits", ">", True),
        ("score", "hits / len(labels)", "<", False),
        ("score", "hits / len(labels)", ">", True),
        ("score", "(len(labels) - hits) / len(labels)", "<", True),
        ("score", "hits", "<", True),
        ("error", "hits / len(labels)", "<", True),
    ],
)
def test_a_share_of_hits_is_best_where_it_is_highest(name: str, returned: str, sign: str, right: bool) -> None:
    text = RATED.format(returned=returned) + SCRIPT.replace(
        "    if accuracy > best_accuracy:\n        best_accuracy = accuracy\n",
        f"    {name} = rate(outputs, labels)\n    if {name} {sign} best:\n        best = {name}\n",
    )
    assert list(found(text, values(), [WORST_KEPT])) == ["eval.worst-kept"] * (not right)
