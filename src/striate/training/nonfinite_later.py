"""Where a step went wrong that nobody looked at when it was taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from striate.data.loader import Batch
from striate.training.execution import uncompiled
from striate.training.nonfinite import StepFacts
from striate.training.nonfinite_place import Place, place_of_nonfinite
from striate.training.processes.group import ALONE
from striate.training.setup import Setup

Passes = Callable[[Setup, Batch], tuple[torch.Tensor, Callable[[], object]]]


def place_of_step(setup: Setup, again: Callable[[int], Batch], passes: Passes, facts: StepFacts) -> Place:
    """Where an earlier step of the epoch first got a number that is none. Its update, and all after it, were left out.

    `again` gives the batch of a step, from 0; `passes` its prepared inputs (B, …), and what takes them through the
    network and back.
    """
    state = setup.state
    if not hasattr(state.optimizer, "found_inf"):
        return Place("looked at later, when the weights have followed: no layer can be named")
    now, state.step = state.step, facts.step - 1
    try:
        inputs, both = passes(replace(setup.for_step(), processes=ALONE), again(state.step))
        with uncompiled(setup.config):
            return place_of_nonfinite(state.module, inputs, both)
    finally:
        state.step = now
