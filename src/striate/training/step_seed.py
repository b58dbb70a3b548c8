"""Dropout masks as a function of the step."""

from __future__ import annotations

import torch

from striate.data.counter_random import hash_key
from striate.training.setup import Setup


def seed_step(setup: Setup, device: torch.device) -> None:
    """Seed torch's generators for the next step. `torch.manual_seed` does it for every kind of device that there is,
    which takes longer than a step of a small network."""
    rank = setup.processes.rank
    seed = hash_key(setup.config.seed, setup.state.step, 2, *([rank] if rank else []))
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
