"""Shapes of inputs and numbers of outputs, as users give them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from striate import summarize
from striate.errors import InputMisfit, ModelError
from striate.models.build import build_model
from striate.models.input_shape import MAX_ACTIVATIONS, read_input_shape


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=4))
def test_a_sequence_of_whole_numbers_is_a_shape(sides: list[int]) -> None:
    if math.prod(sides) > MAX_ACTIVATIONS:
        with pytest.raises(ModelError, match="at most 1,000,000,000 values"):
            read_input_shape(sides)
        return
    for form in (sides, tuple(sides), torch.Size(sides), [np.int64(side) for side in sides], iter(sides)):
        shape = read_input_shape(form)
        assert shape == tuple(sides)
        assert all(type(side) is int for side in shape)


def test_layers_in_a_list_are_told_as_a_network() -> None:
    with pytest.raises(ModelError) as caught:
        summarize([nn.Linear(3, 2), nn.ReLU()], (3,))
    assert caught.value.remedy == "give nn.Sequential(*layers)"


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        (28, "(28,) for a table; (1, 28, 28) for a gray picture"),
        ("3x8x8", "give (3, 8, 8)"),
        ("3, 8, 8", "give (3, 8, 8)"),
        (torch.zeros(1, 3, 8, 8), "give (3, 8, 8), its shape without the batch"),
        (torch.zeros(1, 5, dtype=torch.long), "give (x,), a tuple with this example x"),
        (np.zeros(5), "give (5,), its shape"),
        (np.array([3, 8, 8]), "give (3, 8, 8)"),
        ((1, 3, 8, 8, 8), "leave out the batch: (3, 8, 8, 8)"),
    ],
    ids=repr,
)
def test_what_is_no_shape_is_told_with_the_one_that_was_meant(given: object, remedy: str) -> None:
    for ask in (lambda: summarize(nn.Linear(3, 2), given), lambda: build_model("resnet18", given)):
        with pytest.raises(ModelError) as caught:
            ask()
        assert (caught.value.where, caught.value.remedy) == ("input shape", remedy)
        assert "tensor(" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [(), (0,), (3, -1), (3, 2.5, 2), (True, 8, 8), "wide", "", None, object(), 2.5, (1, 2, 3, 4, 5), [[3]], b"38"],
)
def test_other_things_are_no_shape(given: object) -> None:
    with pytest.raises(ModelError, match="input shape"):
        read_input_shape(given)


@pytest.mark.parametrize("outputs", ["ten", 2.5, torch.tensor(2.5), True, 0, -3, 10**18, [10]])
def test_what_is_no_number_of_outputs(outputs: object) -> None:
    with pytest.raises(ModelError, match="number of outputs"):
        build_model("resnet18", None, outputs)


def test_more_outputs_than_fit_are_refused_before_memory_is_taken() -> None:
    with pytest.raises(ModelError, match="parameters"):
        build_model("resnet18", None, 10**9)
    assert build_model("fc(3)", (4,), np.int64(3))(torch.zeros(1, 4)).shape == (1, 3)


@pytest.mark.parametrize(("name", "shape"), [("resnet18", (1, 3, 96, 96)), ("mnist-cnn", (1, 1, 28, 28))])
def test_a_network_of_the_zoo_tells_that_the_batch_is_too_much(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputMisfit, match="without the batch") as caught:
        summarize(name, shape)
    assert caught.value.fitting == shape[1:]
    assert summarize(name, caught.value.fitting).input == shape[1:]
