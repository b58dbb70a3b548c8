"""Sizes that are only tried on the way to a remedy never are what an error is about."""

from __future__ import annotations

import pytest
from torch import nn

from striate.errors import ModelError, ShapeError
from striate.layers.convolution import LocallyConnected
from striate.layers.pooling import GlobalAveragePool
from striate.models.check import check_forward


def test_a_size_that_is_only_tried_and_refused_by_a_layer_is_not_what_the_error_is_about() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 9), LocallyConnected(4, 2, (3, 3), 3))
    with pytest.raises(ModelError, match="kernel 9 is larger than the map of 5") as caught:
        check_forward(network, (1, 5, 5))
    assert caught.value.remedy == "make its padding 2 or its kernel_size 5"
    check_forward(network, (1, 11, 11))


def test_a_layer_that_refuses_its_input_is_named_with_its_place() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(9, 4), GlobalAveragePool()))
    with pytest.raises(ShapeError, match=r"shape \(2, 4\)") as caught:
        check_forward(network, (1, 3, 3))
    assert caught.value.where == "input of GlobalAveragePool (`1.1`)"
