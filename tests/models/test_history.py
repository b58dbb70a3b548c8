"""ImageNet's progress as records: order, ranges, and which networks of the zoo they speak of."""

from __future__ import annotations

from dataclasses import astuple
from itertools import pairwise

import pytest

from striate.models.catalog.history import HISTORY
from striate.models.registry import MODELS

BY_TEAM = {(result.year, result.team): result for result in HISTORY}


def test_years_go_forward_and_errors_down_within_a_year() -> None:
    assert all(a.year <= b.year for a, b in pairwise(HISTORY))
    networks = [r for r in HISTORY if r.method == "network"]
    assert all(a.top5 > b.top5 for a, b in pairwise(networks))
    assert all(sum(r.place == 1 for r in HISTORY if r.year == year) == 1 for year in range(2010, 2018))
    for result in HISTORY:
        assert 0 < result.top5 < 100
        assert all(astuple(result)[index] for index in (1, 2, 5, 6))
        assert result.extra_data_top5 is None or result.extra_data_top5 < result.top5


def test_the_numbers_of_the_lectures() -> None:
    # "Best Non-ConvNet in 2012: 26.2%", AlexNet "won ILSVRC with a 16.4% error rate", SENet "winner 2017".
    before, alexnet, senet = (BY_TEAM[key] for key in ((2012, "ISI"), (2012, "SuperVision"), (2017, "WMW")))
    assert (before.top5, before.method, before.place) == (26.2, "features", 2)
    assert (alexnet.top5, alexnet.place, alexnet.depth) == (16.4, 1, 8)
    assert alexnet.extra_data_top5 == 15.3  # trained on more images, as it is often quoted
    assert (senet.top5, senet.place) == (2.25, 1)
    (human,) = (r for r in HISTORY if r.method == "human")
    assert human.top5 == 5.1
    better = [r.network for r in HISTORY if r.method == "network" and r.place == 1 and r.top5 < human.top5]
    assert better[0] == "ResNet"
    order = ["AlexNet", "ZFNet", "VGG", "GoogLeNet", "ResNet", "ResNeXt", "SENet"]
    assert [r.network for r in HISTORY if r.network in order] == order


@pytest.mark.parametrize("name", sorted({name for result in HISTORY for name in result.zoo}))
def test_its_networks_are_in_the_zoo_and_not_younger(name: str) -> None:
    years = [result.year for result in HISTORY if name in result.zoo]
    assert abs(MODELS[name].year - min(years)) <= 2  # papers came up to a year after a challenge, or before it
