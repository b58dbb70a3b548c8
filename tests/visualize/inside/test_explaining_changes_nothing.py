"""Explaining leaves the network as it was, also when it fails in the middle, and where it cannot be copied."""

from __future__ import annotations

import threading

import pytest
import torch
from looked_at import Failing, Functional, inputs, left_as_it_was, network
from torch import nn

import striate
from striate.errors import ModelError


def locked() -> nn.Module:
    """A network that cannot be copied: it is looked into itself."""
    module = network()
    module.lock = threading.Lock()
    return module


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("make", [network, Functional, locked])
def test_explaining_changes_nothing(make: type) -> None:
    module, x = make(), inputs(1)[0]
    with left_as_it_was(module):
        explained = striate.explain(module, x)
    assert len(explained.maps.maps) == 5
    with torch.inference_mode(), left_as_it_was(module):
        striate.explain(module, x, "saliency")


@pytest.mark.each_nth(4)
@pytest.mark.parametrize("calls", [0, 1, 10, 25, 30, 100])
@pytest.mark.parametrize("copies", [True, False])
def test_neither_does_an_explanation_that_fails(calls: int, copies: bool) -> None:
    module = Failing(network(), calls)
    if not copies:
        module.lock = threading.Lock()
    with left_as_it_was(module), pytest.raises((KeyError, ModelError)):
        striate.explain(module, inputs(1)[0])
