"""What a run has seen includes what the weights that it began with had."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import striate
from quick import few_quick
from striate.runs.directory import open_run, read_learned, read_seen


def table(name: str, seed: int) -> str:
    x = np.random.default_rng(seed).normal(size=(40, 4))
    np.savez(name, x=x, y=(x[:, 0] > 0).astype(np.int64))
    return name


@pytest.mark.parametrize("by", few_quick(["run", "checkpoint"], ["run"]))
def test_samples_that_an_ancestor_learned_from_are_known_to_its_descendants(by: str) -> None:
    first, second, third = (table(f"{k}.npz", k) for k in range(3))
    striate.train(first, "fc(3) relu fc(2)", epochs=1, out="a")
    for data, parent, out in ((second, "a", "b"), (third, "b", "c")):
        weights = parent if by == "run" else f"{parent}/checkpoints/best.pt"
        striate.train(data, "fc(3) relu fc(2)", weights=weights, epochs=1, out=out)
    a, b, c = (frozenset(read_seen(open_run(Path(name)))) for name in "abc")
    assert len(a) == 32  # of 40 samples a fifth is for testing
    assert a < b < c
    learned = [read_learned(open_run(Path(name))) for name in "abc"]
    assert [len(part) for part in learned] == [len(learned[0]), 2 * len(learned[0]), 3 * len(learned[0])]
    assert len(learned[0]) < 32
    assert learned[0] < learned[1] < learned[2] <= c
    assert len(c) == 96
    found = striate.evaluate("c", first).findings  # two generations away
    assert any("trained on" in str(finding) or "training" in str(finding) for finding in found)
