"""Batches of which a part is not used, and steps that are methods of what holds the loader: faults that were met in
scripts, and their healthy twins."""

from __future__ import annotations

from typing import Any

import torch
from test_met_in_tuples import X, Y, drawn
from torch import Tensor, nn

from striate.doctor.script.drawn_batches import draws_for_parts


def noisy(rows: int) -> tuple[Tensor, Tensor, Tensor]:
    chosen = torch.randint(len(X), (rows,))
    return X[chosen], Y[chosen], X[chosen] * 2


def test_a_part_of_a_batch_that_has_no_name() -> None:
    """Though its name is that of something with a graph, which the network gave."""
    text = "for it in range(9):\n    for part in range(2):\n        x, y, _ = noisy(16)\n        _, loss = model(x, y)"
    names: dict[str, Any] = {"model": nn.Bilinear(8, 1, 1), "noisy": noisy, "_": torch.ones(2, requires_grad=True)}
    found = drawn(text, names | {"x": X[:16], "y": Y[:16]})
    assert found is not None
    _, chosen, draw, loop = found
    assert chosen == ["x", "y"]
    x, y = draw()
    assert torch.allclose(x.sum(1), y)
    assert draws_for_parts(loop, chosen)


def test_what_the_network_gives_is_no_batch() -> None:
    text = "for it in range(9):\n    _, best = model(x).max(1)"
    assert drawn(text, {"model": nn.Linear(8, 3), "x": X, "best": Y.long()}) is None
