"""A whole training in few steps: what it asks for, with its schedule pressed together."""

from __future__ import annotations

from dataclasses import replace

from striate.training.config import Config
from striate.training.recipes.standard import weight_decay

_LEAST_AVERAGE = 0.5  # decay of a moving average: below, it is about the last weights


def miniature(config: Config, steps: int, *, lr: float, seed: int = 0, table: bool = False) -> Config:
    """The same training in `steps` steps with the peak rate `lr`; `seed` is added to the run's. No early end."""
    optim = replace(config.optim, lr=lr)
    if "optim.weight_decay" in config.decided:  # as a run with this rate would decide it
        run_steps = config.budget.steps or steps
        optim = replace(optim, weight_decay=weight_decay(optim.name or "adamw", lr, run_steps, table=table))
    # An average over the last hundred of ten thousand steps is one over the last of a hundred.
    shrunk = (config.optim.ema or 0.0) ** max(1.0, (config.budget.steps or steps) / steps)
    return replace(
        config,
        seed=(config.seed + seed) % 2**32,
        optim=replace(optim, ema=shrunk if shrunk > _LEAST_AVERAGE else 0.0),
        budget=replace(config.budget.of(steps), patience=0, target=None),
    )
