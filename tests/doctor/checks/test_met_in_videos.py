"""Train states that pure functions renew, lists of tensors, and places of peaks: faults that were met in scripts, and
their healthy twins."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from asked import asked, digits, loop, perceptron
from test_reward_checks import SCRIPT, values
from test_reward_checks import found as found_by_rewards
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from striate.doctor.checks.data.targets.keypoints import points_are_across_first
from striate.doctor.checks.model.detached_parameters import GRAPH_DETACHED
from striate.doctor.checks.model.evaluates_untrained import CHECK as EVALUATES_UNTRAINED
from striate.doctor.evidence.changed_by_asking import targets_changed_by_asking
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup


@pytest.mark.parametrize("dropped", [True, False])
def test_an_average_that_a_pure_function_gives_anew_follows(dropped: bool) -> None:
    model = perceptron()
    state = {"ema": {name: value.detach().clone() for name, value in model.named_parameters()}}

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        value = loop(model, batch, optimizer, loss)
        ema = {name: 0.9 * state["ema"][name] + 0.1 * p.detach() for name, p in model.named_parameters()}
        if not dropped:
            state["ema"] = ema
        return value

    said = asked(EVALUATES_UNTRAINED, model, digits(16), step=step, loss=nn.CrossEntropyLoss())
    assert [one.code for one in said] == ["model.evaluates-untrained"] * dropped


@pytest.mark.parametrize(
    ("update", "wrong"),
    [
        ("    for q, p in pairs:\n        q.lerp_(p, 0.01)\n", False),
        ("    torch._foreach_lerp_(slow, fast, 0.01)\n", False),
        ("    for q, p in zip(slow, fast):\n        q.lerp_(p, 0.01)\n", False),
        ("    for q, p in pairs:\n        p.lerp_(q, 0.01)\n", True),
        ("    for q, p in once:\n        q.lerp_(p, 0.01)\n", True),
    ],
)
def test_a_target_network_follows_by_lists_of_its_tensors(update: str, wrong: bool) -> None:
    names = values()
    slow, fast = ([p.data for p in names[name].parameters()] for name in ("target", "net"))
    held = {
        "slow": slow,
        "fast": fast,
        "pairs": list(zip(slow, fast, strict=True)),
        "once": zip(slow, fast, strict=True),
    }
    head, _, _ = SCRIPT.rpartition("    if step % 500")
    assert found_by_rewards(head + update, names | held) == ["reward.target-stale"] * wrong


class Pooled(nn.Module):
    """The largest value of each feature over positions, or the position where it is."""

    def __init__(self, kept: int) -> None:
        super().__init__()
        self.kept, self.encoder, self.head = kept, nn.Conv1d(8, 16, 1), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.encoder(x.squeeze(1)).max(2)[self.kept].float())
        return scores


@pytest.mark.parametrize("kept", [0, 1])
def test_the_indices_of_a_maximum_have_no_gradient(kept: int) -> None:
    said = asked(GRAPH_DETACHED, Pooled(kept), digits(most=64), step=loop, loss=nn.CrossEntropyLoss())
    assert ["the indices that `max` gives" in one.measured for one in said] == [True] * kept


class Pointed(nn.Module):
    """Finds points by scores of all cells, for records in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, records: Any) -> Tensor:
        scores: Tensor = self.scores(torch.stack([record["image"] for record in records])).flatten(2)
        return scores


@pytest.mark.parametrize("exchanged", [False, True])
def test_points_are_x_and_y_by_the_cells_that_the_loss_asks_for(exchanged: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randint(0, 12, (32, 2, 2), generator=generator).float()
    records = [{"image": torch.rand(1, 8, 12, generator=generator), "points": p.clamp(max=7)} for p in points]

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, y = torch.stack([record["points"] for record in batch]).long().unbind(-1)
        if exchanged:
            x, y = y, x
        value = functional.cross_entropy(model(batch).flatten(0, 1), (y * 12 + x).flatten())
        value.backward()
        optimizer.step()
        return value.detach()

    model = Pointed()
    setup = make_setup(model, DataLoader(cast("Any", records), 16, collate_fn=list), step=step, task="regress")
    assert points_are_across_first(Evidence(setup, Clock(10.0))) is not exchanged


class Mirrored(Dataset[Any]):
    """Records whose image is mirrored at random, and whose points with it: `copied` before, or in place."""

    def __init__(self, copied: bool) -> None:
        self.copied = copied
        self.records = [{"image": np.random.rand(8, 8), "points": np.array([[1.0, 2.0], [5.0, 3.0]])} for _ in range(8)]

    def __len__(self) -> int:
        return 8

    def __getitem__(self, number: int) -> Any:
        image, points = self.records[number].values()
        points = points.copy() if self.copied else points
        if torch.rand(()) < 0.5:
            image = image[:, ::-1].copy()
            points[:, 0] = 7 - points[:, 0]
        return {"image": torch.tensor(image), "points": torch.tensor(points)}


@pytest.mark.parametrize("copied", [True, False])
def test_points_that_a_data_set_mirrors_in_place_stay_so(copied: bool) -> None:
    torch.manual_seed(0)
    data = Mirrored(copied)
    changed = targets_changed_by_asking(DataLoader(data, 4))
    assert (changed is None) == copied
    assert [record["points"][0, 0] for record in data.records] == [1.0] * 8 or copied
