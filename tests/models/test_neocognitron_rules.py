"""How the Neocognitron learns: seed cells, reinforcement, recruiting, one layer after the other."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.errors import ModelError
from striate.layers.neocognitron import SCell
from striate.models.build import build_model
from striate.models.zoo.neocognitron import Seed, compete, recruit, reinforce, seed_cells


def columns(height: int, width: int, size: int) -> list[tuple[slice, slice]]:
    """The areas, from the definition: `size` places, half of that apart, the last ones cut at the border."""
    step = min(size, height) // 2 + 1, min(size, width) // 2 + 1
    rows = [slice(r, r + min(size, height)) for r in range(0, height, step[0])]
    across = [slice(c, c + min(size, width)) for c in range(0, width, step[1])]
    return [(r, c) for r in rows for c in across]


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 9), st.integers(1, 9), st.integers(1, 5))
def test_seed_cells_are_one_a_plane_and_the_largest_of_a_column(
    seed: int, planes: int, height: int, width: int, size: int
) -> None:
    answers = torch.randn(planes, height, width, generator=torch.Generator().manual_seed(seed)).relu()
    found = seed_cells(answers, size)
    assert len({s.plane for s in found}) == len(found)
    for s in found:
        value = answers[s.plane, s.row, s.column]
        assert value > 0
        areas = [
            answers[:, r, c]
            for r, c in columns(height, width, size)
            if r.start <= s.row < r.stop and c.start <= s.column < c.stop
        ]
        assert any(value == area.max() for area in areas)
    # Whoever wins a column and is not chosen has a stronger one in its own plane.
    chosen = {s.plane: float(answers[s.plane, s.row, s.column]) for s in found}
    inside = [area for r, c in columns(height, width, size) if (area := answers[:, r, c]).numel()]
    complete = [a for a in inside if a.shape[1:] == (min(size, height), min(size, width))]
    for area in complete:
        if area.max() > 0:
            winner = int(area.flatten(1).amax(1).argmax())
            assert chosen[winner] >= float(area.max())


def test_where_nothing_answers_nothing_learns() -> None:
    assert seed_cells(torch.zeros(3, 5, 5), 3) == []
    cells, before = SCell(1, 3, 3, padding=1), None
    before = copy.deepcopy(cells.state_dict())
    compete(cells, torch.zeros(2, 1, 5, 5), 16.0, 3)
    assert all(torch.equal(before[k], v) for k, v in cells.state_dict().items())


def test_reinforcement_is_its_formula() -> None:
    cells = SCell(2, 3, 3, padding=1)
    x = torch.rand(1, 2, 6, 7, generator=torch.Generator().manual_seed(0))
    weight, inhibition = cells.weight.detach().clone(), cells.inhibition.detach().clone()
    with torch.no_grad():
        reinforce(cells, x, [Seed(1, 0, 6), Seed(2, 3, 2)], 5.0)
    c, padded = cells.window[0].numpy(), np.pad(x[0].numpy(), [(0, 0), (1, 1), (1, 1)])
    for plane, row, column in ((1, 0, 6), (2, 3, 2)):
        seen = padded[:, row : row + 3, column : column + 3]
        np.testing.assert_allclose((cells.weight[plane] - weight[plane]).detach(), 5 * c * seen, rtol=1e-5)
        v = np.sqrt((c * seen**2).sum())
        assert float((cells.inhibition - inhibition)[plane].detach()) == pytest.approx(5 * v, rel=1e-5)
    assert torch.equal(cells.weight[0], weight[0])


def bars() -> torch.Tensor:
    """(2, 1, 9, 9): a horizontal and a vertical bar."""
    x = torch.zeros(2, 1, 9, 9)
    x[0, 0, 4, 1:8] = 1
    x[1, 0, 1:8, 4] = 1
    return x


def test_planes_come_to_answer_to_different_features() -> None:
    torch.manual_seed(0)
    cells = SCell(1, 6, 5, selectivity=4.0, padding=2)
    for _ in range(5):
        compete(cells, bars(), 16.0, 9)
    strongest, planes = cells(bars()).amax((2, 3)).max(1)
    assert planes[0] != planes[1]
    assert (strongest > 0.5).all()


def patterns(classes: int = 3) -> torch.Tensor:
    """(classes, 2, 4, 4), one for each class, with little in common."""
    x = torch.zeros(classes, 2, 4, 4)
    for k in range(classes):
        x[k, :, k] = 1.0
    return x + 0.01


def top(planes: int = 2, classes: int = 3) -> SCell:
    torch.manual_seed(0)
    return SCell(2, planes * classes, 4, selectivity=1.0)


def test_each_class_recruits_its_own_planes_and_then_they_know_it() -> None:
    cells, x, y = top(), patterns(), torch.tensor([0, 1, 2])
    assert recruit(cells, x, y, 1e4, 3, 6.0) == 3
    assert cells.inhibition.flatten().gt(0).tolist() == [True, False] * 3
    assert recruit(cells, x, y, 1e4, 3, 6.0) == 0
    assert cells.inhibition.flatten().gt(0).tolist() == [True, False] * 3
    assert cells(x).flatten(1).argmax(1).tolist() == [0, 2, 4]


def test_a_sample_of_another_class_in_the_same_form_recruits_and_leaves_the_winner_as_it_was() -> None:
    cells, x = top(), patterns()
    recruit(cells, x[:1], torch.tensor([0]), 1e4, 3, 6.0)
    winner = cells.weight[0].detach().clone()
    assert recruit(cells, x[:1], torch.tensor([1]), 1e4, 3, 6.0) == 1
    assert torch.equal(cells.weight[0], winner)
    assert cells.inhibition.flatten().gt(0).tolist() == [True, False, True, False, False, False]


def test_where_no_plane_is_left_the_most_similar_of_the_class_learns() -> None:
    cells, x = top(planes=2), patterns(4)
    recruit(cells, x[:2], torch.tensor([0, 0]), 1e4, 3, 6.0)
    mixed = 0.9 * x[1:2] + 0.5 * x[2:3]
    before = cells.weight.detach().clone()
    assert recruit(cells, mixed, torch.tensor([0]), 1e4, 3, 50.0) == 1
    changed = (cells.weight != before).flatten(1).any(1)
    assert changed.tolist() == [False, True, False, False, False, False]


def test_inhibition_of_the_last_layer_makes_its_answer_that_of_a_cosine() -> None:
    cells, x = top(), torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(2))
    recruit(cells, x, torch.tensor([0, 0, 0]), 1e6, 3, 0.1)
    learned, c = cells.weight[0].detach(), cells.window[0]
    for one in x:
        cosine = (learned * one).sum() / ((learned.square() / c).sum() * (c * one.square()).sum()).sqrt()
        assert float(cells(one[None])[0, 0].detach()) == pytest.approx(2 * float(cosine) - 1, abs=1e-3)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(("progress", "layer"), [(0.0, "s1"), (0.24, "s1"), (0.25, "s2"), (0.5, "s3"), (0.99, "s3")])
def test_one_layer_learns_after_the_other(progress: float, layer: str) -> None:
    torch.manual_seed(0)
    network = build_model("neocognitron(first=4,second=4,planes=2)", (1, 12, 12), 3)
    x, y = torch.randn(6, 1, 12, 12), torch.arange(6) % 3
    for earlier in (0.0, 0.3)[: ("s1", "s2", "s3").index(layer)]:
        network.learn(x, y, 1.0, earlier)
    before = copy.deepcopy(network.state_dict())
    network.learn(x, y, 1.0, progress)
    changed = {key.split(".")[0] for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {layer}


def test_it_takes_images_of_any_size_and_nothing_else() -> None:
    for shape in ((1, 8, 8), (3, 13, 30), (1, 1, 1)):
        assert build_model("neocognitron(planes=2)", shape, 4)(torch.zeros(2, *shape)).shape == (2, 4)
    with pytest.raises(ModelError) as caught:
        build_model("neocognitron", (13,), 3)
    build_model(caught.value.remedy.split()[-1], (13,), 3)
