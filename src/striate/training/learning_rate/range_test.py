"""The learning rate range test: one short training in which the rate grows until the loss explodes."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import count

from striate.data.loader import batches, epoch_order
from striate.errors import NonFiniteLoss
from striate.training.budget.speed import trial_state
from striate.training.head_warm_up import training_mode
from striate.training.learning_rate.records import RangePoint
from striate.training.learning_rate.trials import Fold, objective_of
from striate.training.optimizers import set_learning_rate
from striate.training.prepare import Prepared
from striate.training.setup import Setup
from striate.training.step import training_step

LOWEST, HIGHEST = 1e-7, 10.0
"""First rate, and the last unless the optimizer's usual rates are as high."""
_STEPS = 100
_ABOVE_USUAL = 1000.0  # times the configured rate: SGD and LARS stay stable far above AdamW
_SMOOTHING = 0.9
_EXPLODED = 3.0  # times as bad as diverged


def range_test(prepared: Prepared, fold: Fold, steps: int = _STEPS) -> tuple[RangePoint, ...]:
    """Train a copy for at most `steps` steps with a rate that grows by the same factor from step to step.

    Smith, "Cyclical learning rates for training neural networks", 2015, with an exponential rate. The loss is smoothed
    exponentially, freed of the bias of its start. Ends where the smoothed loss is three times as bad as diverged, or
    the loss is not finite. The network is untouched.
    """
    config, train = prepared.config, fold.splits["train"]
    # The head alone bears rates that the whole network does not.
    config = replace(config, fine_tune=replace(config.fine_tune, head_share=0.0))
    batch_size, usual = config.batch, config.optim.lr
    assert batch_size is not None and usual is not None, "recipes decide both"
    growth = (max(HIGHEST, _ABOVE_USUAL * usual) / LOWEST) ** (1 / (steps - 1))
    state = trial_state(prepared.state, config)
    setup = Setup(state, objective_of(prepared, config, state), fold.splits, config, prepared.normalize)
    points: list[RangePoint] = []
    average = 0.0
    with training_mode(state.module, config) as set_mode:
        for epoch in count():
            setup.epoch, order = epoch, epoch_order(len(train), config.seed, epoch)
            for batch in batches(train, batch_size, order=order):
                lr = LOWEST * growth ** len(points)
                set_learning_rate(state.optimizer, lr)
                set_mode(state.step)
                try:
                    loss = float(training_step(setup, batch)[0])
                except NonFiniteLoss:
                    return tuple(points)
                if not math.isfinite(loss):  # on an accelerator, where the loop does not look at each step
                    return tuple(points)
                state.step += 1
                average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
                points.append(RangePoint(lr, loss, average / (1 - _SMOOTHING ** (len(points) + 1))))
                if len(points) == steps or points[-1].smoothed > _EXPLODED * fold.divergence:
                    return tuple(points)
    raise AssertionError("count() never ends")
