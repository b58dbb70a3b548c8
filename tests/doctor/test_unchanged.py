"""What compares before with after notices every kind of change."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from in_use import InUse, momentum_and_a_schedule, random_numbers_of_all_kinds
from unchanged import changes, seen_of, surroundings


def first_weight(setup: InUse) -> Any:
    return setup.model[0].weight  # type: ignore[index]


MUTATIONS: dict[str, Callable[[InUse], object]] = {
    "a bit of a weight": lambda s: first_weight(s).data[0, 0, 0, 0].mul_(1 + 2**-23),
    "zero for minus zero": lambda s: s.model[0].bias.data.zero_().neg_(),
    "another tensor as gradient": lambda s: setattr(first_weight(s), "grad", first_weight(s).grad.clone()),
    "no gradient": lambda s: s.model.zero_grad(),
    "a gradient's value": lambda s: first_weight(s).grad.add_(1),
    "frozen": lambda s: first_weight(s).requires_grad_(False),
    "a mode": lambda s: s.model[1].eval(),
    "running statistics": lambda s: s.model[1].running_mean.add_(1e-6),
    "a hook": lambda s: s.model[2].register_forward_hook(lambda *_: None),
    "a hook of a tensor": lambda s: first_weight(s).register_hook(lambda g: g),
    "an attribute": lambda s: setattr(s.model[3], "p", 0.31),
    "momentum": lambda s: s.options["optimizer"].state[first_weight(s)]["momentum_buffer"].mul_(2),
    "the rate": lambda s: s.options["optimizer"].param_groups[0].update(lr=0.051),
    "the schedule": lambda s: s.others["s"].step(),
    "the iterator": lambda s: next(s.begun),  # type: ignore[arg-type]
    "torch's random state": lambda _: torch.rand(1),
    "NumPy's random state": lambda _: np.random.rand(),
    "Python's random state": lambda _: random.random(),
    "another pass of the loader": lambda s: list(s.train),
}


@pytest.mark.parametrize("mutate", MUTATIONS.values(), ids=MUTATIONS)
def test_a_change_is_noticed(mutate: Callable[[InUse], object]) -> None:
    setup = momentum_and_a_schedule()
    before = seen_of(**setup.everything()) | surroundings()
    assert changes(before, seen_of(**setup.everything()) | surroundings()) == []
    mutate(setup)
    assert changes(before, seen_of(**setup.everything()) | surroundings())


DRAWS: dict[str, Callable[[Any], object]] = {
    "a generator of NumPy": lambda train: train.dataset.rng.random(),
    "a generator of Python": lambda train: train.dataset.python.random(),
    "a count": lambda train: setattr(train.dataset, "asked", 0),
    "a sampler's generator": lambda train: torch.rand(1, generator=train.sampler.generator),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_what_a_loader_holds_is_looked_at(draw: Callable[[Any], object]) -> None:
    setup = random_numbers_of_all_kinds()
    before = seen_of(**setup.everything())
    draw(setup.train)
    assert changes(before, seen_of(**setup.everything()))
