"""Batches of which a part is not used, and steps that are methods of what holds the loader: faults that were met in
scripts, and their healthy twins."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from asked import asked, digits
from test_met_in_second_heads import asked_or_silent, stepped
from test_met_in_tuples import X, Y, drawn
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from striate.doctor.checks.loss.pairs.pairs_swapped import CHECK as PAIRS_SWAPPED
from striate.doctor.checks.model.batch_dependence import BATCH_MIXING
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.script.drawn_batches import draws_for_parts
from striate.doctor.script.training_loop import find_loop


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


STEPPED = """
class Trainer:
    def run_step(self, rate):
        batch = next(self.batches)
        found.append(inspect.currentframe())
        BEFORE
        return self.model(batch["x"]).sum() * rate

    def train(self):
        BESIDE
        found.append(inspect.currentframe())
        for self.iter in range(9):
            loss = self.run_step(2.0)
            loss.backward()
            return
"""


@pytest.mark.parametrize(
    ("before", "beside", "read"),
    [("pass", "pass", True), ("if not batch: return None", "pass", False), ("pass", "batch = None", False)],
)
def test_a_method_of_the_loop_takes_the_batches(before: str, beside: str, read: bool, tmp_path: Path) -> None:
    """Not one that may end early, or that means something else by a name."""
    file = tmp_path / "script.py"
    file.write_text(STEPPED.replace("BEFORE", before).replace("BESIDE", beside))
    found: list[Any] = []
    names: dict[str, Any] = {"found": found, "inspect": inspect, "__name__": "__main__"}
    exec(compile(file.read_text(), str(file), "exec"), names)
    trainer = names["Trainer"]()
    loader = DataLoader(cast("Any", [{"x": row} for row in X]), 32)
    trainer.model, trainer.batches = nn.Linear(8, 1), iter(loader)
    trainer.train()
    loop = find_loop([found[1], found[0]])
    assert (loop is not None) == read
    if loop is not None:
        assert loop.batches is loader
        assert loop.steps == 9
        trainer.model.zero_grad()
        value = loop.step(trainer.model, {"x": torch.ones(4, 8)}, None, None)
        assert torch.allclose(trainer.model.weight.grad, torch.full((1, 8), 8.0))
        assert value.isfinite()
        assert trainer.iter == 1


class OfRecords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, records: Any) -> Tensor:
        scores: Tensor = self.layer(torch.stack([record["image"] for record in records])).amax((2, 3))
        return scores


def test_channels_of_a_record_are_no_samples() -> None:
    records = [{"image": torch.randn(3, 8, 8), "point": torch.randn(4)} for _ in range(16)]

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        value = (model(batch) - torch.stack([record["point"] for record in batch])).square().mean()
        value.backward()
        optimizer.step()
        return value.detach()

    loader = DataLoader(cast("Any", records), 8, collate_fn=list)
    with pytest.raises(NoEvidence, match="record"):
        asked(BATCH_MIXING, OfRecords(), loader, step=step, task="regress")


class Identified(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.classes = nn.Sequential(nn.Flatten(), nn.Linear(64, 16)), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.embed(x)
        return self.classes(features), features


@pytest.mark.slow
@pytest.mark.parametrize("swapped", [True, False])
def test_a_ranking_loss_alone_pulls_what_belongs_together(swapped: bool) -> None:
    """Though beside it the loss of the classes pulls more."""

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, y = batch
        scores, features = model(x)
        far = torch.cdist(*[functional.normalize(features, dim=1)] * 2)
        same = y[:, None] == y[None]
        near, other = far.masked_fill(~same, -1).amax(1), far.masked_fill(same, 9).amin(1)
        given = (near, other) if swapped else (other, near)
        value = functional.margin_ranking_loss(*given, torch.ones(len(y)), margin=1.0)
        value = value - 4 * functional.log_softmax(scores, 1)[torch.arange(len(y)), y].mean()
        return stepped(model, value, optimizer)

    model = Identified()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    said = asked_or_silent(PAIRS_SWAPPED, model, digits(), step=step, optimizer=optimizer)
    assert [one.code for one in said] == ["loss.pairs-swapped"] * swapped
