"""A task whose network gives a dict, whose targets are ragged, and whose metric is no sum, through the whole loop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from striate.data.dataset import Dataset, Preparation, Split
from striate.data.targets import Ragged, join_targets
from striate.evaluation.evaluate import evaluate_split
from striate.runs.checkpoint import load_checkpoint, save_checkpoint
from striate.tasks import registry
from striate.tasks.metric import Metric
from striate.tasks.outputs import joined, leaves, map_outputs
from striate.tasks.task import Task
from striate.training.config import Config, TaskConfig
from striate.training.events import EpochDone, StepDone
from striate.training.execution import execution_settings
from striate.training.loop import training_events
from striate.training.prepare import Prepared, prepare_data
from striate.training.request import merge_request


class Distances:
    """Remembers every distance: a median is no sum."""

    def __init__(self) -> None:
        self.loss, self.found = 0.0, torch.zeros(0)

    def update(self, outputs: Any, targets: Ragged, loss_sum: torch.Tensor | None = None) -> None:
        distances = _distances(outputs, targets)
        self.loss += float(distances.sum() if loss_sum is None else loss_sum)
        self.found = torch.cat([self.found, distances.detach()])

    def merge(self, other: Distances) -> None:
        self.loss, self.found = self.loss + other.loss, torch.cat([self.found, other.found])

    def state_dict(self) -> dict[str, Any]:
        return {"loss": self.loss, "found": self.found}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.loss, self.found = state["loss"], state["found"]

    def compute(self) -> dict[str, float]:
        return {"loss": self.loss / len(self.found), "median": float(self.found.median())}


def _distances(outputs: Any, targets: Ragged) -> torch.Tensor:
    """(N,) squared distance of the predicted center from the mean of each sample's points."""
    owner = torch.repeat_interleave(torch.arange(len(targets)), targets.counts)
    sums = torch.zeros(len(targets), 2).index_add(0, owner, targets.fields["points"])
    centers = sums / targets.counts.clamp(min=1)[:, None]
    return ((outputs["center"] - centers) ** 2).sum(1) + 0 * outputs["spread"].sum()


class Dots(Task):
    name: ClassVar[str] = "dots"
    annotation: ClassVar[str] = "dots"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("median", "median distance", higher_is_better=False),)
    reads_tree: ClassVar[bool] = True

    @property
    def outputs(self) -> int:
        return 2

    def loss_sum(self, outputs: Any, targets: Ragged) -> torch.Tensor:
        return _distances(outputs, targets).sum()

    def accumulator(self) -> Distances:
        return Distances()

    def decode(self, outputs: Any) -> Any:
        return {"center": outputs["center"], "wide": outputs["spread"] > 0}

    def measure(self, decoded: Any, targets: Ragged) -> dict[str, Any]:
        return {"median": float(_distances({**decoded, "spread": torch.zeros(1)}, targets).median())}

    def interval(self, *_: Any) -> dict[str, list[float]]:
        return {}


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 8), nn.ReLU())
        self.center, self.spread = nn.Linear(8, 2), nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.trunk(x)
        return {"center": self.center(features), "spread": self.spread(features)}


def _split(n: int, seed: int, first: int) -> Split:
    rng = np.random.default_rng(seed)
    counts = torch.from_numpy(rng.integers(1, 4, n))
    points = torch.from_numpy(rng.random((int(counts.sum()), 2)).astype(np.float32))
    images = torch.from_numpy(rng.integers(0, 255, (n, 1, 8, 8)).astype(np.uint8))
    return Split(images, Ragged({"points": points}, counts), torch.arange(first, first + n))


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> Prepared:
    monkeypatch.setitem(registry._LOADED, "dots", Dots)
    monkeypatch.setattr(registry, "task_class", lambda _: Dots)
    splits = {"train": _split(40, 0, 0), "val": _split(12, 1, 40), "test": _split(12, 2, 52)}
    contents = {name: tuple(str(k) for k in split.ids.tolist()) for name, split in splits.items()}
    data = Dataset(
        "dots", "dots", "image", "dots", splits, (), Preparation("image", (1, 8, 8)), (), "f", contents=contents
    )
    fields = {"task.name": "dots", "batch": 8, "execution.plan": "plain", "optim.lr": 0.01, "execution.micro_batch": 3}
    with torch.random.fork_rng():
        return prepare_data(merge_request(Config(), data="dots", epochs=3, fields=fields), data, TwoHeads())


def _events(prepared: Prepared) -> Any:
    with execution_settings(prepared.config):
        yield from training_events(
            prepared.state, prepared.objective, prepared.splits, prepared.config, prepared.normalize
        )


def test_it_trains_measures_and_evaluates(prepared: Prepared) -> None:
    rows = [event.row for event in _events(prepared) if isinstance(event, EpochDone)]
    assert len(rows) == 3
    assert rows[-1].train["loss"] < rows[0].train["loss"]
    assert set(rows[0].val) == {"loss", "median"}
    split = prepared.splits["test"]
    found = evaluate_split(
        prepared.state.module,
        prepared.task,
        split,
        normalize=prepared.normalize,
        device="cpu",
        batch=5,
        data_name="dots",
        split_name="test",
        classes=(),
    )
    assert found.decoded["center"].shape == (12, 2)
    assert found.decoded["wide"].dtype == np.bool_
    with torch.no_grad():
        outputs = prepared.state.module.eval()(prepared.normalize(split.inputs))
    assert found.metrics["median"] == pytest.approx(float(_distances(outputs, split.targets).median()))


def test_an_epoch_in_progress_lies_in_a_checkpoint(prepared: Prepared, tmp_path: Path) -> None:
    steps = (event for event in _events(prepared) if isinstance(event, StepDone))
    for _ in range(3):
        next(steps)
    before = prepared.state.tally.compute()  # type: ignore[union-attr]
    save_checkpoint(tmp_path / "last.pt", prepared.state.to_dict())
    saved = load_checkpoint(tmp_path / "last.pt")
    assert prepared.objective.restored(saved["tally"]).compute() == before
    assert len(saved["tally"]["0"]["found"]) == 24


def test_the_task_is_chosen_by_its_name(prepared: Prepared) -> None:
    assert isinstance(prepared.task, Dots)
    assert prepared.config.task == TaskConfig(name="dots")


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.data())
def test_ragged_targets_are_indexed_as_a_tensor_is(counts: list[int], data: st.DataObject) -> None:
    total = sum(counts)
    ragged = Ragged({"boxes": torch.arange(total * 2.0).reshape(total, 2)}, torch.tensor(counts))
    rows = data.draw(st.lists(st.integers(0, len(counts) - 1), max_size=6))
    chosen = ragged[torch.tensor(rows, dtype=torch.int64)]
    assert chosen.counts.tolist() == [counts[row] for row in rows]
    for place, row in enumerate(rows):
        assert torch.equal(chosen.of(place)["boxes"], ragged.of(row)["boxes"])
    start, stop = sorted(data.draw(st.tuples(st.integers(0, len(counts)), st.integers(0, len(counts)))))
    parts = [ragged[:start], ragged[start:stop], ragged[stop:]]
    again = join_targets(parts)
    assert torch.equal(again.fields["boxes"], ragged.fields["boxes"])
    assert torch.equal(again.counts, ragged.counts)


def test_trees_keep_their_form() -> None:
    tree = {"a": torch.zeros(2, 3), "b": (torch.ones(2), [torch.ones(2, 1)])}
    twice = joined([tree, tree])
    assert [tuple(part.shape) for part in leaves(twice)] == [(4, 3), (4,), (4, 1)]
    assert isinstance(twice["b"], tuple)
    assert isinstance(twice["b"][1], list)
    with pytest.raises(ValueError, match="zip"):
        map_outputs(torch.add, (torch.zeros(1),), (torch.zeros(1), torch.zeros(1)))
