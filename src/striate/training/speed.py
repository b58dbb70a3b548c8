"""From minutes to steps: how many fit, measured on copies before the run starts."""

from __future__ import annotations

import copy
from time import perf_counter

import torch
from torch import nn

from striate.data.dataset import Split
from striate.data.loader import batch_bounds, batches, epoch_order
from striate.data.normalize import Normalize
from striate.models.untouched import copied
from striate.tasks.protocol import Task
from striate.training.average import make_average
from striate.training.config import Config
from striate.training.execution import evaluation_batch
from striate.training.loop import to_memory_format, training_step
from striate.training.objective import Objective
from striate.training.optimizers import make_optimizer, set_learning_rate
from striate.training.state import TrainingState

_RESERVE = 0.94  # of the time left; the rest is for final evaluation, plots, and a machine that slows down


def steps_for_epochs(epochs: int, samples: int, batch: int) -> int:
    """Optimizer steps of whole epochs."""
    return epochs * len(batch_bounds(samples, batch))


def steps_for_seconds(
    seconds: float, state: TrainingState, task: Task, splits: dict[str, Split], config: Config, normalize: Normalize
) -> int:
    """Optimizer steps that fit into `seconds` of wall clock, validation after each epoch included; at least 1.

    Trains and evaluates a copy for up to 4 % of the time; the network, the data and their order are untouched.
    More than two epochs are rounded down to whole ones, so that every sample is seen equally often.
    """
    assert config.batch is not None
    trial = trial_state(state, config)
    trial_seconds = max(0.5, min(0.04 * seconds, 15.0))
    objective = Objective(task, config, trial.heads)
    per_step = _seconds_per_step(trial, objective, splits["train"], config, normalize, 0.7 * trial_seconds)
    per_batch = _seconds_per_validation_batch(
        trial.answering, objective, splits["val"], config, normalize, 0.3 * trial_seconds
    )
    steps_per_epoch = len(batch_bounds(len(splits["train"]), config.batch))
    validation = per_batch * len(batch_bounds(len(splits["val"]), evaluation_batch(config)))
    budget = (seconds - trial_seconds) * _RESERVE
    epochs = budget / (steps_per_epoch * per_step + validation)
    if epochs >= 2:
        return int(epochs) * steps_per_epoch
    return max(1, int((budget - validation * (1 + int(epochs))) / per_step))


def trial_state(state: TrainingState, config: Config) -> TrainingState:
    """A copy of the state before the first step, to try things on. Raises ModelError where there can be none."""
    module, heads = copied(state.module), copy.deepcopy(state.heads)
    optimizer = make_optimizer(module, config, heads.parameters() if heads is not None else ())
    return TrainingState(module, optimizer, make_average(module, config.optim.ema), heads)


def _seconds_per_step(
    state: TrainingState, objective: Objective, train: Split, config: Config, normalize: Normalize, limit: float
) -> float:
    state.module.train()
    # A step takes as long at any rate, but at the peak without a warm-up the network may fall apart.
    set_learning_rate(state.optimizer, 0.0)
    order = epoch_order(len(train), config.seed, 0)
    times: list[float] = []
    started = perf_counter()
    while len(times) < 4 or perf_counter() - started < limit:
        for batch in batches(train, config.batch or 1, order=order):
            before = perf_counter()
            loss, _ = training_step(state, batch, objective, config, normalize, 0)
            float(loss)  # wait for an accelerator
            times.append(perf_counter() - before)
            if len(times) >= 4 and perf_counter() - started >= limit:
                break
    warm = times[2:]  # the first two pay for allocation and kernel selection
    return sum(warm) / len(warm)


@torch.no_grad()
def _seconds_per_validation_batch(
    module: nn.Module, objective: Objective, val: Split, config: Config, normalize: Normalize, limit: float
) -> float:
    module.eval()
    started, count = perf_counter(), 0
    while count < 2 or perf_counter() - started < limit:
        for batch in batches(val, evaluation_batch(config)):
            tally = objective.tally(module, to_memory_format(normalize(batch.inputs), config), batch.targets)
            float(tally[0])  # wait for an accelerator
            count += 1
            if count >= 2 and perf_counter() - started >= limit:
                break
    return (perf_counter() - started) / count
